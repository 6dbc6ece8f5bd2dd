"""What a server finds at its start that an earlier one has left unfinished."""

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.artifacts.files import TEMPORARY_PREFIX
from gql_server.database.database import Database
from gql_server.errors import Refusal
from gql_server.jobs import transitions
from gql_server.jobs.handler import Handler
from gql_server.services import integrity, job_kinds, language_models, orphans, removals
from gql_server.services.artifacts import remove
from gql_server.settings import Settings
from models import Job
from models.enums import JobStatus

log = structlog.get_logger(__name__)

INTERRUPTED = "The server ended while the job ran; retry it with retryJob."


async def reconcile(database: Database, settings: Settings) -> None:
    """Mark jobs that an earlier server was running as INTERRUPTED; no worker holds a language model yet.

    Where the settings say so, they are queued again.
    """
    handlers = job_kinds.handlers(settings)
    async with database.write() as session:
        running = (JobStatus.RUNNING, JobStatus.CANCELING)
        for job in await session.scalars(select(Job).where(Job.status.in_(running))):
            handler = handlers[job.kind]
            if job.status == JobStatus.CANCELING:
                await transitions.finish(session, handler, job, JobStatus.CANCELED, None)
            else:
                await transitions.finish(session, handler, job, JobStatus.INTERRUPTED, INTERRUPTED)
                if settings.resume_jobs:
                    await _resume_automatically(session, handler, job)
            log.warning("job was running when the server ended", job=job.id, status=job.status)
        await language_models.reset_statuses(session)


async def _resume_automatically(session: AsyncSession, handler: Handler, job: Job) -> None:
    try:
        await transitions.resume_automatically(session, handler, job, stopping=True)
    except Refusal as refusal:  # Such as an index whose run is not there any more.
        log.warning("job cannot be taken up again", job=job.id, reason=str(refusal))


async def clean_up(database: Database, settings: Settings, started_at: float) -> None:
    """Bring files and rows together: what is half written goes, what is lost is told, what is nobody's moves.

    Args:
        database: The server's.
        settings: The server's.
        started_at: Time in seconds since the epoch; files of later artifacts belong to this server.
    """
    steps: tuple[Callable[[], Awaitable[None]], ...] = (
        lambda: removals.finish(database, settings, started_at),
        lambda: asyncio.to_thread(remove_partial_files, settings.artifact_dir, started_at),
        lambda: integrity.check(database, settings),
        lambda: orphans.move(database, settings, started_at),
    )
    for step in steps:
        try:
            await step()
        except Exception:
            log.exception("clean-up step failed")


def remove_partial_files(artifact_dir: Path, older_than: float) -> None:
    """Remove temporary files and directories that a killed process has left behind.

    Args:
        artifact_dir: Where to look, at any depth.
        older_than: Time in seconds since the epoch; what has changed since then may belong to somebody.
    """
    partial = [path for path in _partial(artifact_dir) if _changed_at(path) < older_than]
    remove(partial)
    if partial:
        log.info("removed partial files", count=len(partial))


def _partial(artifact_dir: Path) -> Iterator[Path]:
    # os.walk passes over what goes while it looks, as a batch does that a worker renames into its place.
    links = [path for path in artifact_dir.iterdir() if path.is_symlink() and path.is_dir()]
    for parent, directories, files in chain.from_iterable(map(os.walk, (artifact_dir, *links))):
        for name in (*directories, *files):
            if name.startswith(TEMPORARY_PREFIX):
                yield Path(parent, name)


def _changed_at(path: Path) -> float:
    """Return when a path has changed; one that has gone is as new as can be."""
    try:
        return path.lstat().st_ctime
    except FileNotFoundError:
        return math.inf
