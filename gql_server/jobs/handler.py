"""What the server knows of a kind of job: one class for each, which services/job_kinds.py lists."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.jobs.descriptions import JobDescription, Subjects
from gql_server.protocol.events import Event
from gql_server.protocol.results import Result
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import Lane
from gql_server.settings import Settings
from models import ActivationRun, Base, Job, NeuronIndex, Sae
from models.enums import ArtifactStatus, JobKind, JobStatus, ProgressUnit

TaskT = TypeVar("TaskT", bound=Task)
ResultT = TypeVar("ResultT", bound=Result)
Artifact = TypeVar("Artifact", ActivationRun, Sae, NeuronIndex)


class JobHandler(ABC, Generic[TaskT, ResultT]):
    """A kind of job: a subclass's attributes declare it, its methods do what only the server can.

    Each method runs in the write transaction of the job's change.
    """

    kind: JobKind
    description: str
    """One sentence, for the API."""
    lane: Lane
    unit: ProgressUnit
    task: type[TaskT]
    result: type[ResultT]
    events: tuple[type[Event], ...] = ()
    """What its task tells beside Progress, Stage and Log; ``record`` is given these."""
    makes: type[Base] | None = None
    """The table of the row that it makes; None where it changes or exports one that is there."""
    pairs: type[ActivationRun] | type[Sae] | None = None
    """Where the job's result is a row of this table that its task pairs with a language model."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    @abstractmethod
    def describe(cls, job: Job, about: Subjects) -> JobDescription:
        """Return a job's title, and what was asked for.

        It must do for jobs of earlier versions, whose requests have fewer fields, and for deleted subjects.
        """

    @abstractmethod
    async def begin(self, session: AsyncSession, job: Job) -> TaskT:
        """Return the task of this attempt."""

    async def record(self, session: AsyncSession, job: Job, event: Event) -> None:
        """Keep what one of ``events`` tells."""

    async def succeed(self, session: AsyncSession, job: Job, result: Result) -> None:
        """Keep the task's result; raises TypeError where it is of another kind's."""
        if not isinstance(result, self.result):
            raise TypeError(f"{self.kind} makes {self.result.__name__}, not {type(result).__name__}.")
        await self.keep(session, job, result)

    @abstractmethod
    async def keep(self, session: AsyncSession, job: Job, result: ResultT) -> None:
        """Write a result into the rows that it is about."""

    async def fail(self, session: AsyncSession, job: Job, status: JobStatus) -> None:
        """Mark what the job was about after an end as FAILED, CANCELED or INTERRUPTED.

        Its files may be those of a process that was killed at any moment.
        """

    async def is_lost(self, session: AsyncSession, job: Job) -> bool:
        """Whether what a job that SUCCEEDED has made is not there any more, so that it may be retried."""
        return False

    @abstractmethod
    async def requeue(self, session: AsyncSession, job: Job) -> None:
        """Prepare another attempt; raises a refusal where that makes no sense."""


Handler = JobHandler[Any, Any]
"""Of any kind."""


class ArtifactHandler(JobHandler[TaskT, ResultT], Generic[TaskT, ResultT, Artifact]):
    """A kind of job that makes a row: PENDING, then BUILDING, then READY, PARTIAL or FAILED."""

    makes: type[Artifact]

    async def begin(self, session: AsyncSession, job: Job) -> TaskT:
        """Mark the row as BUILDING and return the task of this attempt."""
        row = await session.get_one(self.makes, job.artifact_id)
        row.status = ArtifactStatus.BUILDING
        return await self.task_of(session, job, row)

    async def keep(self, session: AsyncSession, job: Job, result: ResultT) -> None:
        """Mark the row as READY, with the result."""
        row = await session.get_one(self.makes, job.artifact_id)
        row.status = ArtifactStatus.READY
        await self.complete(session, job, row, result)

    async def fail(self, session: AsyncSession, job: Job, status: JobStatus) -> None:
        """Mark the row as FAILED or PARTIAL."""
        row = await session.get_one(self.makes, job.artifact_id)
        row.status = ArtifactStatus.FAILED if status == JobStatus.FAILED else ArtifactStatus.PARTIAL
        await self.break_off(session, job, row, status)

    async def is_lost(self, session: AsyncSession, job: Job) -> bool:
        """Whether the row was found without its files, and marked as FAILED."""
        row = await session.get(self.makes, job.artifact_id)
        return row is not None and row.status == ArtifactStatus.FAILED

    async def requeue(self, session: AsyncSession, job: Job) -> None:
        """Mark the row as PENDING for another attempt."""
        row = await self.find_again(session, job)
        row.status = ArtifactStatus.PENDING

    @abstractmethod
    async def task_of(self, session: AsyncSession, job: Job, row: Artifact) -> TaskT:
        """Return the task that makes a row."""

    @abstractmethod
    async def complete(self, session: AsyncSession, job: Job, row: Artifact, result: ResultT) -> None:
        """Write a result into its row."""

    async def break_off(self, session: AsyncSession, job: Job, row: Artifact, status: JobStatus) -> None:
        """Keep of a row that does not get READY what can be used."""

    @abstractmethod
    async def find_again(self, session: AsyncSession, job: Job) -> Artifact:
        """Return the row for another attempt; raises a refusal where it or what it is made from has gone."""
