"""How a task gets to where it is computed: the one interface between the API process and compute."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gql_server.protocol.events import Event, Progress
from gql_server.protocol.results import Result
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import Lane, TaskFailed, WorkerReady


class TaskEnded(Exception):
    """Base of the ways in which a task ends without a result."""


class TaskFailure(TaskEnded):
    """The task failed and said why."""

    def __init__(self, failed: TaskFailed) -> None:
        super().__init__(failed.reason)
        self.failed = failed


class TaskCanceled(TaskEnded):
    """The task stopped because it was asked to."""


class WorkerLost(TaskEnded):
    """The worker went away while it had the task. The message says how, in a sentence."""


class WorkerOutOfMemory(WorkerLost):
    """The system ended the worker, because the machine had no memory left."""


class TaskRun:
    """A started task: its events in order, then its outcome.

    What waits here is bounded by the task itself: of progress only the newest is kept.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._changed = asyncio.Event()
        self._outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.begun = False
        """Whether it is being done, or still waits for its worker."""
        self.waiting_before = 0
        """Tasks that waited for the worker when this one was sent to it."""
        self.cancel_requested = False
        self._on_begin: Callable[[], None] | None = None

    def push(self, event: Event) -> None:
        """Add an event (for executors)."""
        if isinstance(event, Progress) and self._events and isinstance(self._events[-1], Progress):
            self._events[-1] = event
        else:
            self._events.append(event)
        self._changed.set()

    def begin(self) -> None:
        """Note that it is being done now (for executors)."""
        self.begun = True
        if self._on_begin is not None:
            self._on_begin()

    def when_begun(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called once it is being done, at once where it is already."""
        if self.begun:
            tell()
        else:
            self._on_begin = tell

    def finish(self, outcome: Result | TaskEnded) -> None:
        """Set the outcome, once (for executors)."""
        if self._outcome.done():
            return
        if isinstance(outcome, TaskEnded):
            self._outcome.set_exception(outcome)
            self._outcome.exception()  # Retrieved, so that nobody is warned where no one waits for it.
        else:
            self._outcome.set_result(outcome)
        self._changed.set()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """Give the events as they come, those that came together in one list; ends with the task."""
        while True:
            events, self._events = self._events, []
            if events:
                yield events
            elif self._outcome.done():
                return
            else:
                await self._changed.wait()
                self._changed.clear()

    async def ended(self) -> None:
        """Return when the task has ended, however that was."""
        await asyncio.wait([self._outcome])

    async def result(self) -> Result:
        """Return the result when the task has ended; raises a TaskEnded where there is none."""
        return await asyncio.shield(self._outcome)


@dataclass(frozen=True)
class WorkerState:
    """A worker as it is now."""

    lanes: Sequence[str]
    pid: int | None
    """None while it does not run."""
    gpu: str | None
    """The one GPU that it sees, as CUDA_VISIBLE_DEVICES names it; None where it sees what there is."""
    device: str | None
    """Where it computes if not told; None until its libraries are there."""
    runs: Sequence[TaskRun]
    """The tasks that it has, some of which may still wait there."""
    language_model_ids: Sequence[str]
    """The language models that it holds."""
    accelerator_bytes: int | None
    """Memory of the device that it has taken; None where it computes without one."""


class Executor(Protocol):
    """Starts tasks in a lane and tells of them. Nothing about it assumes shared memory."""

    async def start(self, lane: Lane, task: Task) -> TaskRun:
        """Hand a task to a worker of a lane, which does a lane's tasks one after the other.

        Raises:
            WorkerLost: There is no worker, and there will be none.
        """

    async def cancel(self, run: TaskRun) -> None:
        """Ask a task to stop; one that does not react within the grace period loses its worker."""

    async def describe(self) -> WorkerReady:
        """Return what the workers offer: devices and SAE classes."""

    def workers(self) -> Sequence[WorkerState]:
        """Return the workers of the lanes, whether they run or not; starts none."""

    async def close(self, grace_seconds: float) -> None:
        """Ask all tasks to stop, and end all workers after so long; what they did ends without a result."""
