"""The queue: jobs that wait for their lane, in the order in which they came."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.errors import Conflict, QueueFull
from gql_server.jobs import log
from models import Job
from models.enums import JobStatus

SECONDS_PER_QUEUED_JOB = 30
"""A guess at a job's length, for the advice to a client that found the queue full."""


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


async def check_room(session: AsyncSession, limit: int) -> None:
    """Refuse another job where ``limit`` jobs wait already.

    Raises:
        QueueFull: With the time after which trying again makes sense.
    """
    waiting = await session.scalar(select(func.count()).where(Job.status == JobStatus.QUEUED)) or 0
    if waiting >= limit:
        raise QueueFull(
            f"{waiting} jobs wait already, and the queue holds {limit}; try again when some have ended.",
            retry_after_seconds=SECONDS_PER_QUEUED_JOB,
        )


async def add(session: AsyncSession, job: Job) -> None:
    """Put a new job at the end of its lane's queue."""
    job.status = JobStatus.QUEUED
    job.last_sequence = 0
    session.add(job)
    await log.append_status(session, job, JobStatus.QUEUED)


async def next_of(session: AsyncSession, lane: str) -> Job | None:
    """Return the job of a lane that has waited longest."""
    query = select(Job).where(Job.status == JobStatus.QUEUED, Job.lane == lane)
    return await session.scalar(query.order_by(Job.queued_at, Job.id).limit(1))
