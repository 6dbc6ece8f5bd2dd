"""Launching a job: the same for every kind, idempotent by key."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.jobs import queue
from gql_server.jobs.handler import Handler
from gql_server.services.app_context import AppContext
from gql_server.services.requests import Launched
from models import ActivationRun, Job, NeuronIndex, Sae
from models.enums import UNFINISHED, JobKind


def request_hash(kind: JobKind, request: Any) -> str:
    """Return a hash over everything a client asked for, so that a key cannot stand for two requests."""
    asked = json.dumps(msgspec.to_builtins(_asked(request), enc_hook=_hash_file), sort_keys=True)
    return hashlib.sha256(f"{kind}:{asked}".encode()).hexdigest()


def _asked(request: Any) -> dict[str, Any]:
    """Return a request's fields, without those at their default that are newer than some keys."""
    asked = dict[str, Any]()
    for one in fields(request):
        value = getattr(request, one.name)
        if "added" not in one.metadata or value != one.default:
            asked[one.name] = _asked(value) if is_dataclass(value) else value
    return asked


def _hash_file(value: Any) -> str:
    if not hasattr(value, "read"):
        raise TypeError(f"cannot hash {type(value)}")
    value.seek(0)
    return hashlib.file_digest(value, "sha256").hexdigest()


def new_job(
    handler: type[Handler], *, artifact_id: str, request: dict[str, Any], result_id: str = "", **columns: Any
) -> Job:
    """Return a job row that is in no session yet.

    ``request`` names the job's language_model_id, and as activation_run_id a run that it reads: jobs that
    work on that run wait for it (``queue.next_of``). ``result_id`` is the artifact's unless it is given.
    """
    columns = {"id": ids.new(ids.JOB), "request_hash": ""} | columns
    columns |= {"artifact_id": artifact_id, "result_id": result_id or artifact_id, "request": request}
    return Job(kind=handler.kind, lane=handler.lane, unit=handler.unit, **columns)


@dataclass(frozen=True)
class Launch:
    """The launch of a job for a request, which may have been sent before."""

    server: AppContext
    handler: type[Handler]
    key: str | None = None
    hash: str = ""
    earlier: Launched | None = None
    """The job that the idempotency key has made before: it is the answer."""

    async def queue(
        self,
        *,
        request: dict[str, Any],
        makes: ActivationRun | Sae | NeuronIndex | None = None,
        works_on: str = "",
        result_id: str = "",
        job_id: str | None = None,
        check: Callable[[AsyncSession], Awaitable[None]],
    ) -> Launched:
        """Queue the job, and add what it makes, in one transaction.

        Args:
            request: As ``new_job`` takes it, like result_id.
            makes: A new row that the job is to fill.
            works_on: The ID of what the job works on where it makes no row.
            result_id: What the API shows as the job's result, where that is something else.
            job_id: The job's ID, where something has it already.
            check: Refuses what has changed since the request was checked. What it does besides is part of the
                transaction.

        Raises:
            Conflict: The key was used meanwhile, or ``check`` says so.
            QueueFull: Too many jobs wait.
        """
        job = new_job(
            self.handler,
            artifact_id=makes.id if makes is not None else works_on,
            result_id=result_id,
            request=request,
            idempotency_key=self.key,
            request_hash=self.hash,
            id=job_id or ids.new(ids.JOB),
        )
        async with self.server.database.write() as session:
            earlier = await queue.find_earlier(session, self.key, self.hash)
            if earlier is not None:
                return Launched(earlier, replayed=True)
            await queue.check_room(session, job.lane, self.server.settings.max_queued_jobs)
            await queue.add(session, job)
            await session.flush()
            await check(session)
            if makes is not None:
                makes.job_id = job.id
                session.add(makes)
        self.server.telemetry.tracer.remember(job.id)
        self.server.supervisor.wake()
        return Launched(job, replayed=False)


async def begin(server: AppContext, handler: type[Handler], request: Any) -> Launch:
    """Begin a launch by a look for what the request's idempotency key has made before.

    Raises:
        Conflict: It was another request.
    """
    # An uploaded file is hashed too.
    hash = await asyncio.to_thread(request_hash, handler.kind, request)
    async with server.database.read() as session:
        job = await queue.find_earlier(session, request.idempotency_key, hash)
    earlier = Launched(job, replayed=True) if job else None
    return Launch(server, handler, request.idempotency_key, hash, earlier)


async def unfinished_user(session: AsyncSession, key: str, id: str) -> Job | None:
    """Return a job that has not ended and whose request names ``id`` under ``key``."""
    query = select(Job).where(Job.status.in_(UNFINISHED), Job.request[key].as_string() == id)
    return await session.scalar(query.limit(1))
