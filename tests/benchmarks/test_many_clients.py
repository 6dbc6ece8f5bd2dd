"""What the figures of many clients say."""

from benchmarks.many_clients import Found, Generated, lines


def generated(first: float, interval: float, n: int, text: str = "x", begins: float = 10.0) -> Generated:
    """Return a generation whose tokens come at equal intervals."""
    tokens = [(begins + first + number * interval, "STEERED") for number in range(n)]
    return Generated(begins, tokens, text)


def compared() -> Generated:
    """Return one whose baseline comes a moment before the steered text."""
    times = [(10.0 + 0.1 * number, "BASELINE") for number in range(3)]
    times += [(at + 0.02, "STEERED") for at, _ in times]
    return Generated(10.0, sorted(times), "x")


def test_the_lines_are_of_all_clients_together_against_one_alone() -> None:
    alone = [generated(0.2, 0.1, 9), generated(0.2, 0.1, 9)]
    together = [generated(0.3, 0.1, 9), generated(0.5, 0.1, 9, "another")]
    found = Found(alone[:1], [together], [0.05], [0.15, 0.15], [compared()])
    rate, first, looks, texts, steered = lines(found, alone)
    # 18 tokens in 1.3 s, 9 in 1 s
    assert (rate.measured, rate.reached) == (f"{18 / 1.3 / 9:.2f} ×", False)
    assert (first.measured, first.reached) == ("+0.10 s", True)
    assert (looks.measured, looks.reached) == ("1.50 ×", True)
    assert (texts.ours, texts.reached) == ("1 of 2", False)
    assert (steered.measured, steered.reached) == ("0.20 ×", True)
