"""Retention: the logs of jobs that ended long ago are removed, if the settings say so."""

import asyncio
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.database.database import Database
from gql_server.settings import Settings
from models import Job, JobEvent
from models.base import now, without_index
from models.enums import JobStatus

log = structlog.get_logger(__name__)

SECONDS_BETWEEN = 3600
JOBS_AT_ONCE = 50
EVENTS_AT_ONCE = 5000
"""The number of jobs or events after which the write session ends and others get their turn."""

ENDED = tuple(status for status in JobStatus if status.ended)


async def keep_removing(database: Database, settings: Settings) -> None:
    """Remove old logs now and every hour; return at once where they are kept for ever."""
    while settings.retention_days is not None:
        try:
            await remove_old_logs(database, settings)
        except Exception:
            # Such as a full disk: the next time may be luckier, and nobody else should suffer.
            log.exception("old logs could not be removed")
        await asyncio.sleep(SECONDS_BETWEEN)


async def remove_old_logs(database: Database, settings: Settings) -> int:
    """Remove the logs of jobs that ended longer ago than is to be kept; returns of how many jobs.

    A log goes from its beginning to its end, a long one in several chunks, and its job stays.
    """
    before = _limit(settings.retention_days)
    removed = 0
    while before is not None:
        async with database.write() as session:
            jobs = await _some_with_old_logs(session, before)
            for job in jobs:
                job.removed_sequence = min(job.last_sequence, job.removed_sequence + EVENTS_AT_ONCE)
            of_them = JobEvent.job_id.in_([job.id for job in jobs])
            gone = select(Job.removed_sequence).where(Job.id == JobEvent.job_id).scalar_subquery()
            await session.execute(delete(JobEvent).where(of_them, JobEvent.sequence <= gone))
        if not jobs:
            break
        removed += sum(job.removed_sequence == job.last_sequence for job in jobs)
    if removed:
        log.info("removed logs of old jobs", jobs=removed)
    return removed


def _limit(days: float | None) -> datetime | None:
    """Return the time before which a job must have ended; None where nothing can be as old."""
    try:
        return None if days is None else now() - timedelta(days=days)
    except OverflowError:
        return None


async def _some_with_old_logs(session: AsyncSession, before: datetime) -> list[Job]:
    query = select(Job).where(
        without_index(Job.status).in_(ENDED),
        Job.finished_at < before,
        Job.removed_sequence < Job.last_sequence,
    )
    some: list[Job] = []
    events = 0
    for job in await session.scalars(query.order_by(Job.finished_at, Job.id).limit(JOBS_AT_ONCE)):
        events += job.last_sequence - job.removed_sequence
        if some and events > EVENTS_AT_ONCE:
            break
        some.append(job)
    return some
