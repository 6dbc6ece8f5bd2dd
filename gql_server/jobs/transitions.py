"""How a job that did not succeed is written down, and put into the queue again."""

from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.jobs import event_log, progress, queue
from gql_server.jobs.handler import Handler
from gql_server.jobs.job_logging import log_job_queued
from models import Job
from models.base import now
from models.enums import JobStatus

log = structlog.get_logger(__name__)

MAX_RESUMPTIONS = 3
"""How often a job whose worker was lost is taken up again without being asked: the job may be why."""


async def finish(
    session: AsyncSession,
    handler: Handler,
    job: Job,
    status: JobStatus,
    error: str | None,
    finished_at: datetime | None = None,
) -> None:
    """End an attempt as FAILED, CANCELED or INTERRUPTED; now if it is not said when."""
    job.finished_at = finished_at or not_before_start(job)
    job.eta_seconds = None
    progress.leave_stage(job)
    await event_log.append_status(session, job, status, error)
    await handler.fail(session, job, status)


def not_before_start(job: Job) -> datetime:
    """Return the time of day; if that has been set back since the attempt began, when it began."""
    return max(now(), job.started_at) if job.started_at else now()


async def resume_automatically(session: AsyncSession, handler: Handler, job: Job, *, stopping: bool) -> None:
    """Queue an INTERRUPTED job for its next attempt, in its old place.

    Args:
        session: A write session.
        handler: The job's.
        job: The job.
        stopping: Whether it was the server's own end that interrupted it; a lost worker counts, and only
            so often.
    """
    if not stopping:
        if job.resumptions >= MAX_RESUMPTIONS:
            log.warning("job is not taken up again", job=job.id, resumptions=job.resumptions)
            return
        job.resumptions += 1
    await handler.requeue(session, job)
    await begin_attempt(session, job)


def will_resume(job: Job, *, resumes: bool) -> bool:
    """Return whether a job goes on without being asked after an interruption.

    Args:
        job: The job.
        resumes: Whether the server takes interrupted jobs up again.
    """
    may_be_interrupted = job.status in (JobStatus.QUEUED, JobStatus.RUNNING)
    return resumes and may_be_interrupted and job.resumptions < MAX_RESUMPTIONS


async def begin_attempt(session: AsyncSession, job: Job) -> None:
    """Queue a job for its next attempt; its log goes on."""
    job.attempt += 1
    progress.begin_anew(job)
    job.started_at = job.finished_at = None
    await event_log.append_status(session, job, JobStatus.QUEUED)
    log_job_queued(session, job)


async def retry(session: AsyncSession, handler: Handler, job: Job) -> None:
    """Queue a job again because somebody asks for it, at the end of the queue."""
    await handler.requeue(session, job)
    job.resumptions = 0
    job.queued_at = await queue.end_of_line(session, job.lane)
    await begin_attempt(session, job)
