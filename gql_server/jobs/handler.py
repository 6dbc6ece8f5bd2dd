"""What the supervisor must know of a kind of job; the services give one handler per kind."""

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.protocol.events import Event
from gql_server.protocol.results import Result
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import Lane
from models import Job
from models.enums import JobStatus, ProgressUnit


class JobHandler(Protocol):
    """The use case's side of a kind of job. Each method runs in the write transaction of the job's change."""

    lane: Lane
    unit: ProgressUnit

    async def begin(self, session: AsyncSession, job: Job) -> Task:
        """Mark the artifact as BUILDING and return the task of this attempt."""

    async def record(self, session: AsyncSession, job: Job, event: Event) -> None:
        """Keep what an event tells of the artifact."""

    async def succeed(self, session: AsyncSession, job: Job, result: Result) -> None:
        """Mark the artifact as READY with the task's result."""

    async def fail(self, session: AsyncSession, job: Job, status: JobStatus) -> None:
        """Mark the artifact after a job that ended as FAILED, CANCELED or INTERRUPTED.

        Its files may be those of a process that was killed at any moment.
        """

    async def is_lost(self, session: AsyncSession, job: Job) -> bool:
        """Whether what a job that SUCCEEDED has made is not there any more, so that it may be retried."""

    async def requeue(self, session: AsyncSession, job: Job) -> None:
        """Mark the artifact as PENDING for another attempt; raises a refusal where that makes no sense."""
