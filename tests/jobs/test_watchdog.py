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

    async def sleep(self, seconds: float) -> None:
        self.ticks += 1
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
    return await watchdog.wait_for_hang(lambda: stall_seconds), clock.ticks


async def test_silence_is_counted_from_the_last_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = WorkerTimeouts(silence=60, stall=900)  # A tick a second.
    heartbeats = {tick: WorkerAlive(0.0) for tick in (1, 2, 50)}
    assert await hang(monkeypatch, timeouts, heartbeats) == (SILENT, 50 + 59)


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
