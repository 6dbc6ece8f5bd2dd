"""Timing several ways of doing something, one after the other in each of several rounds.

What disturbs a machine for a while then disturbs all of them alike.
"""

import time
from collections.abc import Callable, Mapping

from benchmarks.rows import Spread


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each side in each round, after one round that does not count."""
    for work in sides.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            times[name].append(seconds(work))
    return times


def milliseconds(times: list[float]) -> Spread:
    """Return the spread in thousandths of what is given."""
    return Spread.of([1000 * time for time in times])
