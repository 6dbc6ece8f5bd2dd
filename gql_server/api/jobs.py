"""Jobs: queries, canceling and retrying, and the subscriptions that follow them."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, cast

import strawberry

from gql_server import ids
from gql_server.api import activation_runs, job_requests, language_models, saes
from gql_server.api.common import (
    Conflict,
    Node,
    NotFound,
    argument,
    closing,
    field,
    from_row,
    mutation,
    object_type,
    subscription,
)
from gql_server.api.context import Info, event_id
from gql_server.api.enums import JobKind, JobStatus
from gql_server.api.job_events import JobEvent, JobLogged, job_event
from gql_server.api.job_requests import JobRequest
from gql_server.api.launches import LaunchResult, job_launched
from gql_server.api.loaders import JobEventsKey
from gql_server.api.pagination import After, Connection, First, listing, unset_to_none
from gql_server.api.progress import JobProgress, job_progress
from gql_server.api.references import ActivationRunRef, LanguageModelRef, SaeRef
from gql_server.jobs import transitions
from gql_server.services import jobs as job_service
from gql_server.services.jobs import progress_payload
from models import Job as JobRow
from models.enums import JobEventType

JobResult = Annotated[
    ActivationRunRef | SaeRef | LanguageModelRef,
    strawberry.union("JobResult", description="What jobs make or work on."),
]


@object_type
class Job(Node):
    """A long task. It outlives the connection that started it, and the server process."""

    row: strawberry.Private[JobRow]
    kind: JobKind = strawberry.field(description="What it does.")
    status: JobStatus = strawberry.field(description="How it stands.")
    progress: JobProgress = strawberry.field(description="How far it is.")
    stage: str | None = strawberry.field(
        description=(
            "What goes on beside the counted progress, in a few words, such as computing similar neurons; as"
            " progress.stage.name."
        )
    )
    attempt: int = strawberry.field(description="1, and one more after each retry.")
    error: str | None = strawberry.field(
        description="One sentence for people; null unless FAILED or INTERRUPTED."
    )
    last_sequence: int = strawberry.field(description="The sequence number of its newest event.")
    events_removed_through: int = strawberry.field(
        description="The number of the newest event that retention has removed; 0 while all are there."
    )
    created_at: datetime = strawberry.field(description="When it was launched.")
    started_at: datetime | None = strawberry.field(description="When its latest attempt began.")
    finished_at: datetime | None = strawberry.field(description="When its latest attempt ended.")

    @field
    async def title(self, info: Info) -> str:
        """What it does, in a sentence for lists: Train BatchTopKSae with 4,096 neurons on a run, block 9."""
        about = await job_requests.subjects_of(info, self.row)
        return job_requests.description_of(self.row, about).title

    @field
    async def request(self, info: Info) -> JobRequest:
        """What was asked for, defaults filled in: to show, or to fill in a form with."""
        return job_requests.job_request(self.row, await job_requests.subjects_of(info, self.row))

    @field
    def will_resume(self, info: Info) -> bool:
        """Whether it goes on by itself after an interruption. Never where Server.resumesJobs is false, once
        it has lost three workers, or for a job that is INTERRUPTED: that one waits for retryJob.
        """
        return transitions.will_resume(self.row, resumes=info.context.server.settings.resume_jobs)

    @field
    async def queue_position(self, info: Info) -> int | None:
        """How many queued jobs come before it; null unless QUEUED."""
        if self.status != JobStatus.QUEUED:
            return None
        return await info.context.loaders.queue_positions.load(self.id)

    @field
    async def result(self, info: Info) -> JobResult | None:
        """What it makes; there as soon as the artifact has an ID."""
        id, loaders = self.row.result_id, info.context.loaders
        match ids.kind_of(id):
            case ids.ACTIVATION_RUN:
                return await activation_runs.activation_run_of(info, id)
            case ids.SAE:
                sae = await loaders.saes.load(id)
                return saes.sae(sae) if sae else None
            case ids.LANGUAGE_MODEL:
                language_model = await loaders.language_models.load(id)
                return language_models.language_model(language_model) if language_model else None
        return None

    @field
    async def events(
        self,
        info: Info,
        first: Annotated[int, argument("How many events to give, 1 to 100.")] = 100,
        after: Annotated[int, argument("Only events with a sequence number above this.")] = 0,
        types: Annotated[
            list[JobEventType] | None, argument("Only events of these types.")
        ] = strawberry.UNSET,
        last: Annotated[
            int | None, argument("The newest so many, 1 to 100, in place of the first ones.")
        ] = strawberry.UNSET,
    ) -> list[JobEvent]:
        """Everything that happened, in order; the same events that the subscription sends."""
        wanted = unset_to_none(types)
        chosen = None if wanted is None else tuple(sorted(set(wanted)))
        key = JobEventsKey(self.id, first, after, chosen, unset_to_none(last))
        return [job_event(row) for row in await info.context.loaders.job_events.load(key)]

    @field
    async def log(
        self, info: Info, last: Annotated[int, argument("How many of them, 1 to 100.")] = 50
    ) -> list[JobLogged]:
        """Its newest sentences for people, oldest first."""
        key = JobEventsKey(self.id, last=last, types=(JobEventType.LOG,))
        rows = await info.context.loaders.job_events.load(key)
        return [cast("JobLogged", job_event(row)) for row in rows]


def job(row: JobRow) -> Job:
    """Return a row as it is shown."""
    return from_row(
        Job,
        row,
        row=row,
        progress=job_progress(**progress_payload(row)),
        events_removed_through=row.removed_sequence,
    )


async def job_of(info: Info, id: str | None) -> Job | None:
    """Return the job with an ID, if any."""
    row = await info.context.loaders.jobs.load(id) if id else None
    return job(row) if row else None


# --------------------------------------------------------------------------------- queries


@strawberry.type
class JobQueries:
    """Queries for jobs."""

    @field
    async def jobs(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        status: Annotated[
            list[JobStatus] | None, argument("Only jobs in one of these states.")
        ] = strawberry.UNSET,
        kind: Annotated[list[JobKind] | None, argument("Only jobs of these kinds.")] = strawberry.UNSET,
        artifact_id: Annotated[
            strawberry.ID | None,
            argument("Only jobs that make this language model, run or SAE, or work on it."),
        ] = strawberry.UNSET,
    ) -> Connection[Job]:
        """Jobs."""
        conditions = job_service.conditions(
            unset_to_none(status), unset_to_none(kind), unset_to_none(artifact_id)
        )
        return await listing(info, JobRow, conditions, job, first, after)

    @field
    async def job(self, info: Info, id: Annotated[strawberry.ID, argument("ID of a job.")]) -> Job | None:
        """A job; null if there is none with this ID."""
        return await job_of(info, id)


# ------------------------------------------------------------------------------- mutations


@object_type
class JobCancelRequested:
    """The job stops within moments, or was stopped in the queue."""

    job: Job = strawberry.field(description="The job as it is now.")


CancelJobResult = Annotated[
    JobCancelRequested | NotFound | Conflict,
    strawberry.union("CancelJobResult", description="What canceling a job came to."),
]


@strawberry.type
class JobMutations:
    """Mutations of jobs."""

    @mutation
    async def cancel_job(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of the job.")]
    ) -> CancelJobResult:
        """Asks a job to stop. What it has finished is kept."""
        return JobCancelRequested(job=job(await job_service.cancel(info.context.server, id)))

    @mutation
    async def retry_job(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of the job.")]
    ) -> LaunchResult:
        """Queues a FAILED, CANCELED or INTERRUPTED job again; it resumes where it can."""
        return job_launched(await job_service.retry(info.context.server, id))


# --------------------------------------------------------------------------- subscriptions


def _sequence_of(event_id: str | None) -> int:
    """Return the sequence number that an event's ID is; 0 for what is none."""
    is_number = event_id is not None and event_id.isascii() and event_id.isdecimal() and len(event_id) < 19
    return int(event_id) if event_id is not None and is_number else 0


@strawberry.type
class JobSubscriptions:
    """Subscriptions to jobs."""

    @subscription
    async def job_progress(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("ID of the job.")],
        after: Annotated[int, argument("The sequence number of the last event that is known.")] = 0,
    ) -> AsyncGenerator[JobEvent, None]:
        """Every event of a job with a sequence number above after, those of the past first; completes when
        the job has ended and all has been sent. A retry of the job goes on with the same numbering in a
        later attempt.
        """
        context, event_hub = info.context, info.context.server.event_hub
        after = max(after, _sequence_of(context.last_event_id))
        async with closing(job_service.watch(context.server, id, after)) as events:
            async for event in events:
                event_id.set(str(event.sequence))
                context.renew_loaders(event_hub.job(id))
                context.snapshot_key = event_hub.snapshot_key(id, event.sequence)
                yield job_event(event)

    @subscription
    async def jobs(
        self,
        info: Info,
        kind: Annotated[list[JobKind] | None, argument("Only jobs of these kinds.")] = strawberry.UNSET,
    ) -> AsyncGenerator[Job, None]:
        """The unfinished jobs as they are, then a job each time its status or progress changes. Never
        completes; begins anew at each connection.
        """
        context = info.context
        async with closing(job_service.watch_all(context.server, unset_to_none(kind))) as rows:
            async for row in rows:
                context.renew_loaders()
                context.snapshot_key = (row.id, row.revision, context.server.database.commits)
                yield job(row)
