"""The log of a job: numbered events, written with the state that they tell of."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.errors import Conflict
from models import Job, JobEvent
from models.enums import JobEventType, JobStatus


async def append(session: AsyncSession, job: Job, type: JobEventType, payload: dict[str, Any]) -> None:
    """Add an event to a job's log, in the transaction that changes the job."""
    job.last_sequence += 1
    job.revision = await next_revision(session)
    session.add(JobEvent(job_id=job.id, sequence=job.last_sequence, type=type, payload=payload))


async def append_status(session: AsyncSession, job: Job, status: JobStatus, error: str | None = None) -> None:
    """Put a job into a status and log that."""
    job.status = status
    job.error = error
    await session.flush()  # Only then a new job has its attempt.
    payload = {"status": status, "error": error, "attempt": job.attempt}
    await append(session, job, JobEventType.STATUS, payload)


async def next_revision(session: AsyncSession) -> int:
    """Return the number of this change over all jobs; call it in a write session only."""
    await session.flush()
    return 1 + (await session.scalar(select(func.max(Job.revision))) or 0)


async def read(session: AsyncSession, job_id: str, after: int, limit: int) -> list[JobEvent]:
    """Return up to ``limit`` events with a sequence number above ``after``, in order."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.sequence > after)
    return list(await session.scalars(query.order_by(JobEvent.sequence).limit(limit)))


def check_kept(job: Job, after: int) -> None:
    """Refuse a sequence number after which retention has removed events.

    Raises:
        Conflict: It says from where on the log is there.
    """
    if after < job.removed_sequence:
        raise removed(job)


def removed(job: Job) -> Conflict:
    """Return the refusal for a cursor into the part of a job's log that retention has removed."""
    newest = job.removed_sequence
    return Conflict(
        f"The events of this job up to number {newest} have been removed, as the logs of jobs that ended long"
        f" ago are; ask for those after {newest}.",
        job.id,
    )
