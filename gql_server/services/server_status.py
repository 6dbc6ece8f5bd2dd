"""How the server is: its workers, what waits, and what takes how much of the disk."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select

from gql_server.artifacts.usage import ArtifactKind, usage_by_kind
from gql_server.errors import QueueFull
from gql_server.processes.process_memory import resident_bytes
from models import Job
from models.enums import JobStatus

if TYPE_CHECKING:
    from gql_server.services.app_context import AppContext

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 1.0
"""Between two states that a subscriber is given; who asks in between gets the last one."""
MEASURE_AGAIN_SECONDS = 30.0
"""The artifact directory is gone over no more often, and ..."""
SHARE_OF_TIME = 20
"""... only after so many times as long as that takes."""
LONGEST_MEASURING_SECONDS = 25.0
FIRST_MEASURING_SECONDS = 1.0
"""How long somebody waits for the first measuring."""


@dataclass(frozen=True)
class WorkerStatus:
    """A worker process, as it is now."""

    lanes: tuple[str, ...]
    is_running: bool
    gpu: str | None
    """The one that GQL_SERVER_JOB_WORKER_GPUS gives it."""
    device: str | None
    """None until its libraries are there."""
    job_ids: tuple[str, ...]
    interactive_requests: int
    """Those that it has begun."""
    language_model_ids: tuple[str, ...]
    memory_bytes: int | None
    accelerator_memory_bytes: int | None


@dataclass(frozen=True)
class ServerStatus:
    """A server, as it is now."""

    at: datetime
    started_at: datetime
    memory_bytes: int | None
    workers: tuple[WorkerStatus, ...]
    queued_jobs: int
    waiting_interactive_requests: int
    artifact_bytes: Mapping[ArtifactKind, int] | None
    artifacts_measured_at: datetime | None
    artifact_byte_limit: int | None
    free_bytes: int


class ServerMonitor:
    """Keeps the last state for a second, so that any number may ask, and the last look at the disk longer."""

    def __init__(self) -> None:
        self._started_at = datetime.now(UTC)
        self._last: ServerStatus | None = None
        self._last_at = 0.0
        self._looking = asyncio.Lock()
        self._artifact_bytes: Mapping[ArtifactKind, int] | None = None
        self._measured_at: datetime | None = None
        self._measure_at = 0.0
        self._measuring: asyncio.Task[None] | None = None

    async def status(self, server: "AppContext") -> ServerStatus:
        """Return the state of the server, at most a second old."""
        async with self._looking:
            if self._last is None or time.monotonic() - self._last_at >= 0.9 * INTERVAL_SECONDS:
                self._last, self._last_at = await self._look(server), time.monotonic()
            return self._last

    async def _look(self, server: "AppContext") -> ServerStatus:
        await self._measure(server)
        by_run = server.supervisor.runs
        workers, n_begun = [], 0
        for state in server.executor.workers():
            begun = [run for run in state.runs if run.begun]
            interactive = sum(run not in by_run for run in begun)
            n_begun += interactive
            workers.append(
                WorkerStatus(
                    lanes=tuple(state.lanes),
                    is_running=state.pid is not None,
                    gpu=state.gpu,
                    device=state.device,
                    job_ids=tuple(by_run[run] for run in state.runs if run in by_run),
                    interactive_requests=interactive,
                    language_model_ids=tuple(state.language_model_ids),
                    memory_bytes=resident_bytes(state.pid) if state.pid is not None else None,
                    accelerator_memory_bytes=state.accelerator_bytes,
                )
            )
        async with server.database.read() as session:
            queued = await session.scalar(select(func.count()).where(Job.status == JobStatus.QUEUED))
        settings = server.settings
        usage = await server.file_threads.look(shutil.disk_usage, settings.artifact_dir)
        return ServerStatus(
            at=datetime.now(UTC),
            started_at=self._started_at,
            memory_bytes=resident_bytes(os.getpid()),
            workers=tuple(workers),
            queued_jobs=queued or 0,
            waiting_interactive_requests=max(0, server.in_use.requests - n_begun),
            artifact_bytes=self._artifact_bytes,
            artifacts_measured_at=self._measured_at,
            artifact_byte_limit=settings.max_artifact_bytes,
            free_bytes=usage.free,
        )

    async def _measure(self, server: "AppContext") -> None:
        """Go over the artifact directory if that is due; only the first time is waited for, shortly."""
        if self._measuring is None and time.monotonic() >= self._measure_at:
            # For all who ask: not under the reference of the first.
            self._measuring = asyncio.create_task(self._go_over_artifacts(server), context=Context())
        if self._artifact_bytes is None and self._measuring is not None:
            await asyncio.wait([self._measuring], timeout=FIRST_MEASURING_SECONDS)

    async def _go_over_artifacts(self, server: "AppContext") -> None:
        begun, stopped = time.monotonic(), threading.Event()
        directory = server.settings.artifact_dir

        def is_late() -> bool:
            return stopped.is_set() or time.monotonic() - begun > LONGEST_MEASURING_SECONDS

        try:
            found = await server.file_threads.look(usage_by_kind, directory, is_late)
            if found is not None:
                self._artifact_bytes, self._measured_at = found, datetime.now(UTC)
        except (OSError, QueueFull) as error:
            log.warning("artifact directory not gone over", reason=str(error))
        finally:
            stopped.set()  # Also where the server stops: it waits for its threads.
            took = time.monotonic() - begun
            self._measure_at = time.monotonic() + max(MEASURE_AGAIN_SECONDS, SHARE_OF_TIME * took)
            self._measuring = None
