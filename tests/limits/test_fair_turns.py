"""Large operations leave the event loop to others in between."""

import asyncio
import time
from itertools import pairwise

import pytest

from gql_server.limits import fair_turns
from gql_server.limits.fair_turns import Breaks, FairTurns, LargeTurns, OperationTurns


async def held_up(turn: LargeTurns, steps: list[str], name: str, client: str = "a") -> None:
    """Take a client's turn, and hold up the loop in it."""
    async with turn.turn(client):
        steps.append(name)
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass


@pytest.fixture(autouse=True)
def breaks_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a break after each turn."""
    monkeypatch.setattr(fair_turns, "SHORTEST_BREAK_SECONDS", 0)


async def test_between_large_operations_that_come_together_others_have_their_steps() -> None:
    turn, steps = LargeTurns(), list[str]()
    large = [asyncio.ensure_future(held_up(turn, steps, "large")) for _ in range(4)]

    async def small() -> None:
        while not all(task.done() for task in large):
            steps.append("small")
            await asyncio.sleep(0)

    await asyncio.gather(small(), *large)
    places = [place for place, name in enumerate(steps) if name == "large"]
    assert len(places) == 4
    assert all(after - before > 3 for before, after in pairwise(places))


@pytest.mark.parametrize("someone_waits", [True, False])
async def test_a_break_comes_where_somebody_waits_to_begin_and_for_who_waits_for_no_answer(
    someone_waits: bool,
) -> None:
    turn, steps = LargeTurns(lambda: someone_waits), list[str]()
    began = time.monotonic()
    await held_up(turn, steps, "first")
    await asyncio.sleep(0)  # The turn is passed on in a step of its own.
    held_up_seconds = time.monotonic() - began
    resting = asyncio.ensure_future(turn.rest())
    next_one = asyncio.ensure_future(held_up(turn, steps, "next"))
    await asyncio.sleep(0)
    assert not resting.done()
    assert steps == (["first"] if someone_waits else ["first", "next"])
    await asyncio.gather(resting, next_one)
    assert steps == ["first", "next"]
    assert time.monotonic() - began >= held_up_seconds + 0.002


async def test_one_that_waits_for_something_loses_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_turns, "LONGEST_BREAK_SECONDS", 0.01)
    turn, end = LargeTurns(), asyncio.Event()

    async def waits() -> None:
        async with turn.turn("a"):
            await end.wait()

    waiting = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    async with asyncio.timeout(10), turn.turn("a"):
        end.set()
    await waiting
    for _ in range(3):
        async with asyncio.timeout(10), turn.turn("a"):
            pass


async def test_who_gives_up_waiting_is_not_waited_for() -> None:
    turn, steps = LargeTurns(), list[str]()
    async with turn.turn("a"):
        waiting = asyncio.ensure_future(held_up(turn, steps, "given up"))
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(10):
        await held_up(turn, steps, "next")
    assert steps == ["next"]


async def operate(fair: FairTurns, order: list[str], client: str) -> None:
    """Take a client's turn, and give it back twice."""
    turn = await fair.take(client)
    order.append(client)
    await asyncio.sleep(0)
    turn.end()
    turn.end()


async def test_who_sends_many_waits_for_himself_and_another_for_few_of_them() -> None:
    fair, order = FairTurns(at_once=1), list[str]()
    await asyncio.gather(*(operate(fair, order, client) for client in "aaaaaaaabbbbb"))
    assert order.index("b") < 4, "the first comes soon"
    assert "".join(order).endswith("ababababa"), "then they take turns"


async def test_who_asks_once_waits_for_none_of_those_who_send_many_in_turn() -> None:
    fair, order = FairTurns(at_once=1), list[str]()
    many = [asyncio.ensure_future(operate(fair, order, client)) for _ in range(5) for client in "abcdefgh"]
    while len(order) < 20:  # noqa: ASYNC110 (nobody tells of it)
        await asyncio.sleep(0)
    before = len(order)
    await operate(fair, order, "new")
    assert order.index("new") - before <= 2
    await asyncio.gather(*many)
    assert all(order.count(client) == 5 for client in "abcdefgh")


async def test_those_who_ask_once_by_the_thousand_leave_every_other_turn_to_the_rest() -> None:
    fair, order = FairTurns(at_once=1), list[str]()
    once = [str(number) for number in range(50)]
    await asyncio.gather(*(operate(fair, order, client) for client in ["a", *"aaaa", *once]))
    assert [place for place, client in enumerate(order) if client == "a"] == [0, 1, 2, 4, 6]


async def test_large_operations_are_those_of_all_clients_in_turn() -> None:
    turn, steps = LargeTurns(), list[str]()
    await asyncio.gather(*(held_up(turn, steps, client, client) for client in "aaaaaab"))
    assert steps.index("b") < 4


def test_a_break_comes_after_several_turns_and_is_as_long_as_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_turns, "SHORTEST_BREAK_SECONDS", 0.02)
    breaks, began = Breaks(length=2), time.monotonic()
    ends = [breaks.end_after(0.004) for _ in range(3)]
    told = time.monotonic()
    assert began <= ends[0] <= ends[1] <= told
    assert began + 0.024 <= ends[2] <= told + 0.024
    assert breaks.end_after(0.004) == max(ends[2], breaks.end_after(0)), "it goes on for all"
    assert breaks.end_after(1000) <= time.monotonic() + fair_turns.LONGEST_BREAK_SECONDS


async def test_a_turn_that_ends_too_late_is_followed_by_a_break_too() -> None:
    fair, steps = FairTurns(longest_seconds=0.001), list[str]()

    async def hold_up() -> None:
        turn = await fair.take("a")
        steps.append("late")
        end = time.monotonic() + 0.005
        while time.monotonic() < end:
            pass
        turn.end()

    tasks = [asyncio.ensure_future(hold_up()) for _ in range(4)]
    while not all(task.done() for task in tasks):
        steps.append("small")
        await asyncio.sleep(0)
    places = [place for place, name in enumerate(steps) if name == "late"]
    assert all(after - before > 5 for before, after in pairwise(places))


async def test_documents_that_are_to_be_read_and_events_share_their_breaks() -> None:
    operations, steps = OperationTurns(), list[str]()
    short = operations.of("{ a }", is_known=False)
    assert len({short, operations.of("{ a }", is_known=True), operations.of("#" * 5000, is_known=False)}) == 3

    async def hold_up(line: FairTurns, name: str) -> None:
        turn = await line.take(name)
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        steps.append(name)
        turn.held_up(0.002)
        turn.end()

    tasks = [asyncio.ensure_future(hold_up(short, "document")) for _ in range(6)]
    tasks += [asyncio.ensure_future(hold_up(operations.events, "event")) for _ in range(20)]

    while not all(task.done() for task in tasks):
        steps.append("small")
        await asyncio.sleep(0)
    places = [place for place, name in enumerate(steps) if name == "document"]
    assert all(after - before > 3 for before, after in pairwise(places[1:]))
    assert steps.count("small") > len(tasks)


async def test_a_turn_that_lasts_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_turns, "LONGEST_TURN_SECONDS", 0.01)
    fair = FairTurns(at_once=1)
    first = await fair.take("a")
    async with asyncio.timeout(10):
        second = await fair.take("b")
    first.end()
    waiting = asyncio.ensure_future(fair.take("c"))
    await asyncio.sleep(0)
    assert not waiting.done(), "what was given back is not given back again"
    second.end()
    (await waiting).end()


async def test_who_gives_up_before_his_turn_or_just_then_keeps_nobody_waiting() -> None:
    fair = FairTurns(at_once=1)
    first = await fair.take("a")
    waiting = [asyncio.ensure_future(fair.take(client)) for client in "bcd"]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    first.end()  # It is the third's now, who gives up before he knows.
    waiting[1].cancel()
    async with asyncio.timeout(10):
        (await waiting[2]).end()
        (await fair.take("e")).end()


async def test_operations_without_a_pause_do_not_all_go_in_one_step_of_the_loop() -> None:
    fair, steps = FairTurns(at_once=2), list[str]()

    async def operate() -> None:
        turn = await fair.take("a")
        steps.append("operation")
        turn.end()

    operations = [asyncio.ensure_future(operate()) for _ in range(6)]
    while not all(one.done() for one in operations):
        steps.append("small")
        await asyncio.sleep(0)
    runs = "".join(name[0] for name in steps).split("s")
    assert max(len(run) for run in runs) == 2
