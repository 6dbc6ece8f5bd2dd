"""The watchdog: which workers hang, by their heartbeats."""

import asyncio
import math

import pytest

from gql_server.jobs.watchdog import SILENT, STUCK, Watchdog, WorkerTimeouts
from gql_server.protocol.wire import WorkerAlive


class Clock:
    """Stands for asyncio.sleep in the watchdog: a tick of it is a tick for the test."""

    def __init__(self, heartbeats: dict[int, WorkerAlive], watchdog: Watchdog) -> None:
        self.ticks, self._heartbeats, self._watchdog = 0, heartbeats, watchdog
        self.slept: set[float] = set()

    async def sleep(self, seconds: float) -> None:
        self.ticks += 1
        self.slept.add(seconds)
        assert self.ticks < 1_000, "the watchdog never speaks"
        if (alive := self._heartbeats.get(self.ticks)) is not None:
            self._watchdog.heartbeat(alive)


async def hang(
    monkeypatch: pytest.MonkeyPatch,
    timeouts: WorkerTimeouts,
    heartbeats: dict[int, WorkerAlive],
    stall_seconds: float = math.inf,
    ready: bool = True,
) -> tuple[str, int]:
    watchdog = Watchdog(timeouts)
    if ready:
        watchdog.ready()
    clock = Clock(heartbeats, watchdog)
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    found = await watchdog.wait_for_hang(lambda: stall_seconds)
    assert clock.slept == {min(1.0, timeouts.silence / 4)}
    return found, clock.ticks


async def test_silence_is_counted_from_the_last_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = WorkerTimeouts(silence=60, stall=900)  # A tick a second.
    heartbeats = {tick: WorkerAlive(0.0) for tick in (1, 2, 50)}
    assert await hang(monkeypatch, timeouts, heartbeats) == (SILENT, 50 + 59)


async def test_a_short_silence_is_counted_in_parts_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = WorkerTimeouts(silence=2, stall=900)  # A tick in half a second.
    assert await hang(monkeypatch, timeouts, {3: WorkerAlive(0.0)}) == (SILENT, 3 + 3)


async def test_a_worker_that_has_said_nothing_yet_is_silent_and_not_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = await hang(monkeypatch, WorkerTimeouts(silence=60), {}, stall_seconds=1)
    assert found == (SILENT, 60)


async def test_silence_is_counted_from_when_a_worker_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(WorkerTimeouts(silence=60, stall=900))
    ticks = 0

    async def sleep(seconds: float) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 500:
            watchdog.ready()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert await watchdog.wait_for_hang(lambda: math.inf) == SILENT
    assert ticks == 500 + 59


async def test_a_worker_that_is_not_ready_has_as_long_as_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = WorkerTimeouts(silence=60, stall=200)
    assert await hang(monkeypatch, timeouts, {}, ready=False) == (SILENT, 200)


async def test_a_task_at_one_step_for_too_long_is_stuck_and_one_that_gets_on_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gets_on = {tick: WorkerAlive(float(tick % 9)) for tick in range(1, 500)}
    stuck = {tick: WorkerAlive(float(tick - 499)) for tick in range(500, 600)}
    found = await hang(monkeypatch, WorkerTimeouts(silence=60), gets_on | stuck, stall_seconds=10)
    assert found == (STUCK, 509)
