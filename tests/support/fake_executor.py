"""An executor at the edge of the process: what a worker would send is written down by the test."""

from collections.abc import Callable

from gql_server.jobs.executor import TaskCanceled, TaskRun, WorkerLost, WorkerState
from gql_server.protocol.events import Event
from gql_server.protocol.results import Result
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import Lane, SaeClassDescription, WorkerReady

Script = Callable[[Task, TaskRun], None]


class FakeExecutor:
    """Hands every task to a script, which pushes events and may finish the run."""

    def __init__(self, script: Script = lambda task, run: None) -> None:
        self.script = script
        self.tasks: list[tuple[Lane, Task]] = []
        self._runs: list[TaskRun] = []
        self._closed = False
        self.states: list[WorkerState] = []
        """What ``workers`` returns."""

    async def start(self, lane: Lane, task: Task) -> TaskRun:
        run = TaskRun()
        self._runs.append(run)
        self.tasks.append((lane, task))
        if self._closed:
            # A lane that took a job as the server was ending would wait for it for ever.
            run.finish(WorkerLost("closed"))
        else:
            self.script(task, run)
        return run

    def push(self, *events: Event) -> None:
        """Have the newest task tell something."""
        for event in events:
            self._runs[-1].push(event)

    def finish(self, result: Result) -> None:
        """End the newest task well."""
        self._runs[-1].finish(result)

    async def cancel(self, run: TaskRun) -> None:
        run.cancel_requested = True
        run.finish(TaskCanceled())

    async def describe(self) -> WorkerReady:
        return WorkerReady(
            ["cpu"],
            [
                SaeClassDescription("TopKSae", True),
                SaeClassDescription("L1Sae", False),
                SaeClassDescription("BatchTopKSae", True),
            ],
        )

    def workers(self) -> list[WorkerState]:
        return self.states

    async def close(self, grace_seconds: float) -> None:
        self._closed = True
        for run in self._runs:
            run.finish(WorkerLost("closed"))
