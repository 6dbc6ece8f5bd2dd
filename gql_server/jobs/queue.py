"""The queue: jobs that wait for a worker of their lane, in the order in which they came."""

import math
import statistics
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.errors import Conflict, QueueFull
from gql_server.jobs import event_log
from gql_server.jobs.job_logging import log_job_queued
from models import Job
from models.base import now
from models.enums import UNFINISHED, JobKind, JobStatus

_SECONDS_OF_A_JOB = 30
"""A guess at a job's length where none has ended yet, to advise a client that found the queue full."""
_JOBS_TO_LEARN_FROM = 20
_LONGEST_ADVICE_SECONDS = 3600


async def find_earlier(session: AsyncSession, key: str | None, request_hash: str) -> Job | None:
    """Return the job that the idempotency key made before.

    Raises:
        Conflict: The key was used for another request.
    """
    if key is None:
        return None
    job = await session.scalar(select(Job).where(Job.idempotency_key == key))
    if job is not None and job.request_hash != request_hash:
        raise Conflict(
            f"The idempotency key {key!r} was used for another request; use a new key for this one.",
            job.id,
            code="IDEMPOTENCY_KEY_MISMATCH",
        )
    return job


async def check_room(session: AsyncSession, lane: str, limit: int) -> None:
    """Refuse another job where ``limit`` jobs wait for the lane already.

    Raises:
        QueueFull: With the time after which the next job will probably have begun.
    """
    waiting = select(func.count()).where(Job.status == JobStatus.QUEUED, Job.lane == lane)
    count = await session.scalar(waiting) or 0
    if count >= limit:
        raise QueueFull(
            f"{count} jobs wait already, and the queue holds {limit}; try again when some have ended.",
            retry_after_seconds=await _seconds_until_next(session, lane),
        )


async def _seconds_until_next(session: AsyncSession, lane: str) -> int:
    """Return when the first running job may have ended: as it says itself, else as long as others took."""
    usual = await _usual_seconds(session, lane)
    running = await session.scalars(
        select(Job).where(Job.status.in_((JobStatus.RUNNING, JobStatus.CANCELING)), Job.lane == lane)
    )
    seconds = min((_seconds_left(job, usual) for job in running), default=usual)
    return max(1, min(_LONGEST_ADVICE_SECONDS, math.ceil(seconds)))


def _seconds_left(job: Job, usual: float) -> float:
    if job.eta_seconds is not None:
        return job.eta_seconds
    return usual - (max(0.0, (now() - job.started_at).total_seconds()) if job.started_at else 0.0)


async def _usual_seconds(session: AsyncSession, lane: str) -> float:
    """Return the median length of the lane's newest jobs that succeeded."""
    query = select(Job.started_at, Job.finished_at).where(
        Job.lane == lane,
        Job.status == JobStatus.SUCCEEDED,
        Job.started_at.is_not(None),
        Job.finished_at.is_not(None),
    )
    newest = await session.execute(query.order_by(Job.queued_at.desc()).limit(_JOBS_TO_LEARN_FROM))
    lengths = [(end - start).total_seconds() for start, end in newest if start and end]
    return statistics.median(lengths) if lengths else _SECONDS_OF_A_JOB


async def counts(session: AsyncSession) -> list[tuple[JobKind, JobStatus, str, int]]:
    """Return how many jobs of each kind and status there are in each lane, where there are any."""
    query = select(Job.kind, Job.status, Job.lane, func.count()).group_by(Job.kind, Job.status, Job.lane)
    return [(kind, status, lane, count) for kind, status, lane, count in await session.execute(query)]


async def add(session: AsyncSession, job: Job) -> None:
    """Put a new job at the end of its lane's queue."""
    job.status = JobStatus.QUEUED
    job.attempt = 1
    job.last_sequence = 0
    job.queued_at = await end_of_line(session, job.lane)
    session.add(job)
    await event_log.append_status(session, job, JobStatus.QUEUED)
    log_job_queued(session, job)


async def end_of_line(session: AsyncSession, lane: str) -> datetime:
    """Return the time that puts a job last in its lane: now, but for a clock that was set back."""
    query = select(func.max(Job.queued_at)).where(Job.status == JobStatus.QUEUED, Job.lane == lane)
    last: datetime | None = await session.scalar(query)
    return now() if last is None else max(now(), last + timedelta(microseconds=1))


async def next_of(session: AsyncSession, lane: str) -> Job | None:
    """Return the job of a lane that has waited longest of those that may begin beside what is under way.

    A job waits for those of its lane before it, running or not, that work on the same artifact, or on the run
    that it reads, or that read what it works on.
    """
    waits = Job.status == JobStatus.QUEUED
    run_id = Job.request["activation_run_id"].as_string().label("run_id")
    query = select(Job.id, Job.result_id, run_id, waits.label("waits"))
    query = query.where(Job.status.in_(UNFINISHED), Job.lane == lane)
    worked_on, read = set[str](), set[str | None]()
    for job in await session.execute(query.order_by(waits, Job.queued_at, Job.id)):
        if job.waits and job.result_id not in worked_on | read and job.run_id not in worked_on:
            return await session.get_one(Job, job.id)
        worked_on.add(job.result_id)
        read.add(job.run_id)
    return None
