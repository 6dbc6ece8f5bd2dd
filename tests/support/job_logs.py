"""Jobs with logs in the database, and what watches them."""

import asyncio
from datetime import datetime, timedelta

from gql_server.jobs import event_log
from gql_server.services import jobs
from gql_server.services.app_context import AppContext
from models import Job
from models.enums import JobEventType, JobStatus
from tests.support.serving import idle_job

RETENTION_DAYS = 30.0
LONG_AGO = timedelta(days=RETENTION_DAYS + 1)


async def add_job(server: AppContext, events: int = 0) -> Job:
    """Insert a job that no lane takes, with a log."""
    job = idle_job()
    async with server.database.write() as session:
        session.add(job)
    await append_events(server, job.id, events)
    return job


async def append_events(server: AppContext, job_id: str, count: int, status: JobStatus | None = None) -> None:
    """Write events, and perhaps a status after them, in one transaction, and notify the watchers."""
    async with server.database.write() as session:
        job = await session.get_one(Job, job_id)
        for _ in range(count):
            await event_log.append(session, job, JobEventType.LOG, {"message": "so"})
        if status is not None:
            await event_log.append_status(session, job, status)
    server.notifier.notify()


def watched_by(server: AppContext, job_id: str) -> int:
    """Return how many watch a job, once its log has been read for them."""
    return server.event_hub._feeds[job_id].watchers if server.event_hub.job(job_id) else 0


async def ended(server: AppContext, job_id: str) -> Job:
    """Wait until a job has ended, and return it."""
    async with asyncio.timeout(10):
        async for _ in jobs.watch(server, job_id, 0):
            pass
    async with server.database.read() as session:
        return await session.get_one(Job, job_id)


async def add_job_finished_at(server: AppContext, finished_at: datetime | None, events: int = 3) -> str:
    """Insert a job that failed at a time, or one that still runs if there is none; return its ID."""
    job = idle_job(finished_at=finished_at)
    async with server.database.write() as session:
        session.add(job)
        for _ in range(events - 1):
            await event_log.append(session, job, JobEventType.LOG, {"message": "so"})
        status = JobStatus.RUNNING if finished_at is None else JobStatus.FAILED
        await event_log.append_status(session, job, status)
    return job.id
