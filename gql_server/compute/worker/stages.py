"""Work beside the counted progress that is told of as it goes on."""

from collections.abc import Callable

from gql_server.compute.worker.context import TaskContext
from gql_server.protocol.events import Stage

Tell = Callable[[int, int], None]
"""Called with what is done and what there is to do; raises CancelRequested where the task is to stop."""


def stage(context: TaskContext, name: str) -> Tell:
    """Return what a long computation calls between its chunks."""

    def tell(completed: int, total: int) -> None:
        context.check()
        context.emit(Stage(name, completed, total))

    return tell
