"""What happens to jobs, event by event."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from gql_server.api import jobs
from gql_server.api.common import field, interface_type, object_type
from gql_server.api.context import Info
from gql_server.api.enums import JobStatus
from gql_server.api.progress import JobProgress, job_progress
from gql_server.api.references import JobRef
from gql_server.api.training import TrainingPoint, training_point
from models import JobEvent as JobEventRow
from models.enums import JobEventType

Payload = dict[str, Any]
Shown = TypeVar("Shown", bound="type[JobEvent]")
strawberry.enum(JobEventType, description="What an event of a job tells of.")
EVENT_TYPES: dict[JobEventType, tuple["type[JobEvent]", Callable[[Payload], Payload]]] = {}
"""What shows the log's entries of a type, and what makes its fields of their payloads."""


def shows(type: JobEventType, fields_of: Callable[[Payload], Payload] = dict) -> Callable[[Shown], Shown]:
    """Make an object type the one that shows the log's entries of a type; its fields are the payload's."""

    def register(class_: Shown) -> Shown:
        EVENT_TYPES[type] = class_, fields_of
        definition: StrawberryEnumDefinition = JobEventType.__strawberry_definition__  # type: ignore[attr-defined]
        for value in definition.values:
            if value.name == type.name:
                value.description = " ".join((class_.__doc__ or "").split())
        return class_

    return register


@interface_type
class JobEvent:
    """Sequence numbers start at 1 and have no gaps, across attempts too."""

    job_id: strawberry.Private[str]
    sequence: int = strawberry.field(description="Its place in the job's log.")
    at: datetime = strawberry.field(description="When it happened.")

    @field
    async def job(self, info: Info) -> JobRef:
        """The job as it is now."""
        job = await jobs.job_of(info, self.job_id)
        if job is None:
            raise LookupError(f"the job {self.job_id} has gone while it was read")
        return job


@shows(JobEventType.STATUS, lambda payload: payload | {"status": JobStatus(payload["status"])})
@object_type
class JobStatusChanged(JobEvent):
    """The job's status has changed."""

    status: JobStatus = strawberry.field(description="The status since then.")
    error: str | None = strawberry.field(
        description="One sentence for people; null unless FAILED or INTERRUPTED."
    )
    attempt: int = strawberry.field(
        description="The attempt that it belongs to; 1, and one more after each retry."
    )


@shows(JobEventType.PROGRESS, lambda payload: {"progress": job_progress(**payload)})
@object_type
class JobProgressed(JobEvent):
    """The job has got further."""

    progress: JobProgress = strawberry.field(description="How far it was then.")


@shows(JobEventType.LOG)
@object_type
class JobLogged(JobEvent):
    """The job has something to say."""

    message: str = strawberry.field(description="One sentence for people.")


@shows(JobEventType.TRAINING_POINT, lambda payload: {"point": training_point(payload)})
@object_type
class TrainingStepped(JobEvent):
    """A training has measured itself."""

    point: TrainingPoint = strawberry.field(description="The point that was added to the training's history.")


@shows(JobEventType.TRAINING_RESUMED)
@object_type
class TrainingResumed(JobEvent):
    """A training goes on from a snapshot, or begins anew: what its history has beyond the step is gone.

    Points up to it that were never sent come right after this event.
    """

    step: int = strawberry.field(description="The last step that counts; 0 where the training begins anew.")


def job_event(row: JobEventRow) -> JobEvent:
    """Return an entry of the log as it is shown."""
    class_, fields_of = EVENT_TYPES[row.type]
    return class_(job_id=row.job_id, sequence=row.sequence, at=row.at, **fields_of(row.payload))
