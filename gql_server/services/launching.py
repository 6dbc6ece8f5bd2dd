"""Launching a job: the same for every kind, idempotent by key."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.jobs import queue
from gql_server.protocol.wire import Lane
from gql_server.services.app_context import AppContext
from gql_server.services.requests import Launched
from models import Job
from models.enums import UNFINISHED, JobKind, ProgressUnit


def request_hash(kind: JobKind, request: Any) -> str:
    """Return a hash over everything a client asked for, so that a key cannot stand for two requests."""
    fields = json.dumps(msgspec.to_builtins(request, enc_hook=_hash_file), sort_keys=True)
    return hashlib.sha256(f"{kind}:{fields}".encode()).hexdigest()


def _hash_file(value: Any) -> str:
    if not hasattr(value, "read"):
        raise TypeError(f"cannot hash {type(value)}")
    value.seek(0)
    return hashlib.file_digest(value, "sha256").hexdigest()


def new_job(
    kind: JobKind,
    lane: Lane,
    unit: ProgressUnit,
    artifact_id: str,
    result_id: str,
    request: dict[str, Any],
    key: str | None = None,
    hash: str = "",
    id: str | None = None,
) -> Job:
    """Return a job row that is in no session yet. ``request`` names its language_model_id."""
    return Job(
        id=id or ids.new(ids.JOB),
        kind=kind,
        lane=lane,
        unit=unit,
        artifact_id=artifact_id,
        result_id=result_id,
        request=request,
        idempotency_key=key,
        request_hash=hash,
    )


async def find_earlier(server: AppContext, key: str | None, hash: str) -> Launched | None:
    """Return the launch that the idempotency key has made before; raises Conflict for another request."""
    async with server.database.read() as session:
        earlier = await queue.find_earlier(session, key, hash)
    return Launched(earlier, replayed=True) if earlier else None


async def launch(
    server: AppContext, job: Job, add_artifact: Callable[[AsyncSession], Awaitable[None]]
) -> Launched:
    """Queue a job, and add what it will make, in one transaction.

    Raises:
        Conflict: The key was used meanwhile, or ``add_artifact`` says so.
        QueueFull: Too many jobs wait.
    """
    async with server.database.write() as session:
        earlier = await queue.find_earlier(session, job.idempotency_key, job.request_hash)
        if earlier is not None:
            return Launched(earlier, replayed=True)
        await queue.check_room(session, job.lane, server.settings.max_queued_jobs)
        await queue.add(session, job)
        await session.flush()
        await add_artifact(session)
    server.telemetry.tracer.remember(job.id)
    server.supervisor.wake()
    return Launched(job, replayed=False)


async def unfinished_user(session: AsyncSession, key: str, id: str) -> Job | None:
    """Return a job that has not ended and whose request names ``id`` under ``key``."""
    query = select(Job).where(Job.status.in_(UNFINISHED), Job.request[key].as_string() == id)
    return await session.scalar(query.limit(1))
