"""What API process and worker say to each other around tasks."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Literal

from gql_server.protocol.base import Message
from gql_server.protocol.events import Event
from gql_server.protocol.results import LanguageModelDescription, Result
from gql_server.protocol.tasks import Task

Lane = Literal["jobs", "interactive", "downloads"]
"""Which worker does a task; a download has one of its own."""


def message_classes(base: type[Message]) -> list[type[Message]]:
    """Return the classes below a base that have none below themselves: those whose messages are sent."""
    below = base.__subclasses__()
    return [leaf for one in below for leaf in message_classes(one)] if below else [base]


if TYPE_CHECKING:
    AnyTask = Task
    AnyEvent = Event
    AnyResult = Result
else:
    # A decoder needs to know every class. Nobody lists them: it is enough to be a subclass in this package.
    AnyTask, AnyEvent, AnyResult = (reduce(or_, message_classes(base)) for base in (Task, Event, Result))

BOARD_PLACE_BYTES = 16
"""What each worker has in the file in which the workers of one machine tell each other that they compute."""


class StartTask(Message, frozen=True):
    """API to worker."""

    task_id: int
    lane: Lane
    task: AnyTask


class CancelTask(Message, frozen=True):
    """API to worker: stop at the next check."""

    task_id: int


class SaeClassDescription(Message, frozen=True):
    """An SAE class that can be trained."""

    name: str
    needs_k: bool
    description: str = ""
    """Which latents it keeps, and what it is for."""


class WorkerReady(Message, frozen=True):
    """Worker to API, once its libraries are imported."""

    devices: list[str]
    """Best first."""
    sae_classes: list[SaeClassDescription]


class LanguageModelChanged(Message, frozen=True):
    """Worker to API: a model was loaded, let go of, or could not be loaded, for whatever task."""

    language_model_id: str
    status: Literal["UNLOADED", "LOADING", "LOADED", "FAILED"]
    message: str | None = None


class LanguageModelFound(Message, frozen=True):
    """Worker to API, of either lane: what a load, for whatever task, has found a model to be."""

    language_model_id: str
    description: LanguageModelDescription


class WorkerAlive(Message, frozen=True):
    """Worker to API, every second."""

    seconds_at_step: float
    """For how long the task in hand, if any, has not got from one step to the next."""
    task_id: int | None = None
    """Which task got to a step last."""
    accelerator_bytes: int | None = None
    """Memory of the device that torch holds; None where the worker computes without one."""


class TaskBegan(Message, frozen=True):
    """Worker to API: the task waits no more. Until then a cancellation just takes it out of the queue."""

    task_id: int


class TaskEvent(Message, frozen=True):
    """Worker to API."""

    task_id: int
    event: AnyEvent


class TaskSucceeded(Message, frozen=True):
    """Worker to API: the last word on a task."""

    task_id: int
    result: AnyResult


class TaskFailed(Message, frozen=True):
    """Worker to API: the last word on a task. ``reason`` is one sentence for people."""

    task_id: int
    code: Literal["INVALID", "CONFLICT", "FAILED", "OUT_OF_MEMORY", "INTERNAL"]
    reason: str
    path: list[str]
    """For INVALID: where in the request's input."""
    traceback: str


class TaskCanceledMessage(Message, frozen=True):
    """Worker to API: the last word on a task."""

    task_id: int


ToWorker = StartTask | CancelTask
FromWorker = (
    WorkerReady
    | WorkerAlive
    | LanguageModelChanged
    | LanguageModelFound
    | TaskBegan
    | TaskEvent
    | TaskSucceeded
    | TaskFailed
    | TaskCanceledMessage
)
