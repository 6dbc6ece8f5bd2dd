"""Notices that a worker hangs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gql_server.protocol.wire import WorkerAlive

SILENT = "The worker gave no sign of life any more, and was ended."
STUCK = "The worker did not get on with its task any more, and was ended."


@dataclass(frozen=True)
class WorkerTimeouts:
    """How long a worker may take for what, in seconds."""

    cancel: float = 10
    """To stop a canceled task."""
    silence: float = 60
    """Between two signs of life."""
    stall: float = 900
    """To be ready, and from one step of a task to the next."""


class Watchdog:
    """Listens for one worker process's signs of life.

    Time is counted in looks: a pause of this very process, such as a laptop's sleep, is no silence of the
    worker.
    """

    def __init__(self, patience: WorkerTimeouts) -> None:
        self._patience = patience
        self._interval = min(1.0, patience.silence / 4)
        self._looks_since_sign = 0
        self.seconds_at_step = 0.0
        """For how long the worker's task in hand has not got from one step to the next, as it last said."""
        self.task_id: int | None = None
        """Which task that is."""
        self._ready = False

    def ready(self) -> None:
        """Take in that the worker has started; signs of life come from now on."""
        self._ready = True
        self._looks_since_sign = 0

    def sign(self, alive: WorkerAlive) -> None:
        """Take in a sign of life."""
        self._looks_since_sign = 0
        self.seconds_at_step, self.task_id = alive.seconds_at_step, alive.task_id

    async def trouble(self, patience_with_task: Callable[[], float]) -> str:
        """Return, in a sentence, what is wrong, once something is.

        Args:
            patience_with_task: For how many seconds the task in hand, if any, may stand still.
        """
        while True:
            await asyncio.sleep(self._interval)
            self._looks_since_sign += 1
            patience = self._patience.silence if self._ready else self._patience.stall
            if self._looks_since_sign * self._interval >= patience:
                return SILENT
            if self.seconds_at_step >= patience_with_task():
                return STUCK
