"""What a server finds at its start that an earlier one has left unfinished."""

from pathlib import Path

import structlog
from sqlalchemy import select

from gql_server.database import Database
from gql_server.files import TEMPORARY_PREFIX
from gql_server.jobs import log as job_log
from gql_server.services import jobs, language_models
from gql_server.services.artifacts import remove
from gql_server.settings import Settings
from models import Job
from models.base import now
from models.enums import JobStatus

log = structlog.get_logger(__name__)

INTERRUPTED = "The server ended while the job ran; retry it with retryJob."


async def reconcile(database: Database, settings: Settings) -> None:
    """Mark jobs that an earlier server was running as INTERRUPTED; no worker holds a language model yet."""
    handlers = jobs.handlers(settings)
    async with database.write() as session:
        running = (JobStatus.RUNNING, JobStatus.CANCELING)
        for job in await session.scalars(select(Job).where(Job.status.in_(running))):
            status = JobStatus.CANCELED if job.status == JobStatus.CANCELING else JobStatus.INTERRUPTED
            job.finished_at = now()
            await handlers[job.kind].fail(session, job, status)
            error = INTERRUPTED if status == JobStatus.INTERRUPTED else None
            await job_log.append_status(session, job, status, error)
            log.warning("job was running when the server ended", job=job.id, status=status)
        await language_models.reset_statuses(session)


def remove_partial_files(artifact_dir: Path, older_than: float) -> None:
    """Remove temporary files and directories that a killed process has left behind.

    Args:
        artifact_dir: Where to look, at any depth.
        older_than: Time in seconds since the epoch; what has changed since then may belong to somebody.
    """
    partial = [p for p in artifact_dir.rglob(f"{TEMPORARY_PREFIX}*") if p.lstat().st_ctime < older_than]
    remove(partial)
    if partial:
        log.info("removed partial files", count=len(partial))
