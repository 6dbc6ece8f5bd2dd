"""How a task speaks while it runs: events out, cancellation in."""

from typing import Literal, Protocol

from gql_server.protocol.events import Event


class CancelRequested(Exception):
    """Raised inside a task that has been asked to stop."""


class TaskError(Exception):
    """A failure with a sentence for people.

    ``code`` INVALID is about the request (``path`` says where in its input), CONFLICT about what is there.
    """

    def __init__(
        self,
        reason: str,
        code: Literal["INVALID", "CONFLICT", "FAILED"] = "FAILED",
        path: tuple[str, ...] = (),
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.path = list(path)


class TaskContext(Protocol):
    """What a task is given beside its specification."""

    def emit(self, event: Event) -> None:
        """Send an event. Raises CancelRequested where the task has been asked to stop."""

    def check(self) -> None:
        """Raise CancelRequested where the task has been asked to stop; call it between batches.

        In a worker that serves both lanes, waiting interactive requests run inside this call, so a task holds
        no enabled hook on a shared language model while it calls it.
        """
