"""The watchdog of a worker process: heartbeats, and how long they may stay away."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gql_server.protocol.wire import WorkerAlive

SILENT = "The worker gave no sign of life any more, and was ended."
STUCK = "The worker did not get on with its task any more, and was ended."


@dataclass(frozen=True)
class WorkerTimeouts:
    """Timeouts of a worker, in seconds."""

    cancel: float = 10
    """To stop a canceled task."""
    silence: float = 60
    """Between two heartbeats."""
    stall: float = 900
    """To be ready, and from one step of a task to the next."""


class Watchdog:
    """Watches one worker process by its heartbeats.

    Time is counted in ticks of this process: its own pause, such as a laptop's sleep, is no silence of the
    worker.
    """

    def __init__(self, timeouts: WorkerTimeouts) -> None:
        self._timeouts = timeouts
        self._interval = min(1.0, timeouts.silence / 4)
        self._ticks_since_heartbeat = 0
        self.seconds_at_step = 0.0
        """For how long the worker's task in hand has not got from one step to the next, as it last said."""
        self.task_id: int | None = None
        """Which task that is."""
        self._ready = False

    def ready(self) -> None:
        """Note that the worker has started: heartbeats come from now on."""
        self._ready = True
        self._ticks_since_heartbeat = 0

    def heartbeat(self, alive: WorkerAlive) -> None:
        """Note a heartbeat."""
        self._ticks_since_heartbeat = 0
        self.seconds_at_step, self.task_id = alive.seconds_at_step, alive.task_id

    async def wait_for_hang(self, stall_seconds: Callable[[], float]) -> str:
        """Return, when the worker hangs, a sentence that says how.

        Args:
            stall_seconds: Gives the seconds that the task in hand, if any, may stay at one step.
        """
        while True:
            await asyncio.sleep(self._interval)
            self._ticks_since_heartbeat += 1
            timeout = self._timeouts.silence if self._ready else self._timeouts.stall
            if self._ticks_since_heartbeat * self._interval >= timeout:
                return SILENT
            if self.seconds_at_step >= stall_seconds():
                return STUCK
