"""Jobs: canceling, retrying, and watching what happens to them."""

from collections.abc import AsyncIterator, Collection

from sqlalchemy import ColumnElement, func, select

from gql_server.errors import Conflict, InvalidInput
from gql_server.jobs import event_log, queue, transitions
from gql_server.jobs.job_logging import EndedJob
from gql_server.jobs.notifier import LOOK_AGAIN_SECONDS
from gql_server.jobs.progress import payload as progress_payload
from gql_server.services import job_kinds, lookup, model_identity
from gql_server.services.app_context import AppContext
from gql_server.services.requests import Launched
from models import ActivationRun, Job, JobEvent, LanguageModel, Sae
from models.base import without_index
from models.enums import UNFINISHED, JobKind, JobStatus

__all__ = ["cancel", "conditions", "progress_payload", "retry", "watch", "watch_all"]

JOBS_AT_ONCE = 100

RETRYABLE = (JobStatus.FAILED, JobStatus.CANCELED, JobStatus.INTERRUPTED)


def conditions(
    statuses: Collection[JobStatus] | None,
    kinds: Collection[JobKind] | None,
    artifact_id: str | None = None,
) -> list[ColumnElement[bool]]:
    """Return the conditions for jobs in some states, of some kinds and with a result; None for all."""
    found: list[ColumnElement[bool]] = []
    if artifact_id is not None:
        found.append(Job.result_id == artifact_id)
    if statuses is not None:
        # Few jobs are unfinished; of the others there may be any number.
        few = artifact_id is None and set(statuses) <= set(UNFINISHED)
        status = Job.status if few else without_index(Job.status)
        found.append(status.in_(set(statuses)))
    if kinds is not None:
        found.append(without_index(Job.kind).in_(set(kinds)))
    return found


async def cancel(server: AppContext, id: str) -> Job:
    """Ask a job to stop; one that waits ends at once.

    Raises:
        Conflict: It has ended.
    """
    end: EndedJob | None = None
    async with server.database.write() as session:
        job = await lookup.get(session, Job, id)
        if job.status.ended:
            raise Conflict(f"The job has ended already: it is {job.status}.", id)
        if job.status == JobStatus.QUEUED:
            handler = job_kinds.BY_KIND[job.kind](server.settings)
            await transitions.finish(session, handler, job, JobStatus.CANCELED, None)
            end = EndedJob.of(job)
        elif job.status == JobStatus.RUNNING:
            await event_log.append_status(session, job, JobStatus.CANCELING)
    if end is not None:
        end.log(server.telemetry)
    await server.supervisor.cancel(id)
    return job


async def retry(server: AppContext, id: str) -> Launched:
    """Queue a job again that did not succeed, or whose result was lost; its log goes on.

    Raises:
        Conflict: It has not ended, or its result is there, or what it works on is gone.
    """
    await _check_language_model(server, id)
    async with server.database.write() as session:
        job = await lookup.get(session, Job, id)
        handler = job_kinds.BY_KIND[job.kind](server.settings)
        lost = job.status == JobStatus.SUCCEEDED and await handler.is_lost(session, job)
        if job.status not in RETRYABLE and not lost:
            raise Conflict(f"The job is {job.status}; only one that did not succeed can be retried.", id)
        await queue.check_room(session, job.lane, server.settings.max_queued_jobs)
        await transitions.retry(session, handler, job)
    server.telemetry.tracer.remember(id)
    server.supervisor.wake()
    return Launched(job, replayed=False)


async def _check_language_model(server: AppContext, id: str) -> None:
    """Refuse to retry what would pair a language model with what was made with another state of it."""
    async with server.database.read() as session:
        job = await lookup.get(session, Job, id)
        language_model = await session.get(LanguageModel, job.request.get("language_model_id", ""))
        table = job_kinds.BY_KIND[job.kind].pairs
        artifact: ActivationRun | Sae | None = await session.get(table, job.result_id) if table else None
    if language_model is not None and artifact is not None and job.status in RETRYABLE:
        await model_identity.check_again(server, language_model, artifact)


def watch(server: AppContext, id: str, after: int) -> AsyncIterator[JobEvent]:
    """Give a job's events above a sequence number, the past first, until the job has ended and all are given.

    Raises:
        NotFound: There is no such job.
        InvalidInput: ``after`` is negative.
        Conflict: Retention has removed events above ``after``.
    """
    if after < 0:
        raise InvalidInput.at("after", "A sequence number is 0 (for all events) or above.")
    return server.event_hub.follow(id, after)


async def watch_all(server: AppContext, kinds: Collection[JobKind] | None) -> AsyncIterator[Job]:
    """Give the unfinished jobs as they are, then a job each time its status or progress changes."""
    snapshot_key = ("unfinished", server.database.commits)
    newest, jobs = await server.unfinished.do(snapshot_key, lambda: _read_unfinished(server))
    shown: dict[str, tuple[object, ...]] = {}
    while True:
        for job in jobs:
            stage = (job.stage, job.stage_completed, job.stage_total)
            state = (job.status, job.attempt, job.completed, job.total, job.fraction, stage)
            if (kinds is None or job.kind in kinds) and shown.get(job.id) != state:
                yield job
            shown[job.id] = state
            if job.status.ended:
                del shown[job.id]
        jobs = await _changed_since(server, newest)
        newest = max([newest, *(job.revision for job in jobs)])


async def _read_unfinished(server: AppContext) -> tuple[int, list[Job]]:
    """Return the newest revision of all jobs, and those that have not ended."""
    async with server.database.read() as session:
        newest = await session.scalar(select(func.max(Job.revision))) or 0
        query = select(Job).where(Job.status.in_(UNFINISHED)).order_by(Job.id)
        return newest, list(await session.scalars(query))


async def _changed_since(server: AppContext, revision: int) -> list[Job]:
    while True:
        seen = server.notifier.count
        # Who was woken by the same notification shares a read, but never one from before the last commit.
        snapshot_key = (revision, server.database.commits)
        jobs = await server.changes.do(snapshot_key, lambda: _read_changed(server, revision))
        if jobs:
            return jobs
        await server.notifier.wait(seen, LOOK_AGAIN_SECONDS)


async def _read_changed(server: AppContext, revision: int) -> list[Job]:
    async with server.database.read() as session:
        query = select(Job).where(Job.revision > revision).order_by(Job.revision).limit(JOBS_AT_ONCE)
        return list(await session.scalars(query))
