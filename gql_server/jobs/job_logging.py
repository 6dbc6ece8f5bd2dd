"""Log lines and metrics of a job: its launch, its start and its end."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.database.database import Database, after_commit
from gql_server.telemetry.telemetry import Telemetry
from gql_server.telemetry.tracing import Attribute, Attributes
from models import Job
from models.enums import JobKind, JobStatus

log = structlog.get_logger(__name__)

_FIELDS = {
    ids.LANGUAGE_MODEL: "language_model",
    ids.ACTIVATION_RUN: "run",
    ids.SAE: "sae",
    ids.NEURON_INDEX: "neuron_index",
}
"""What log lines call the IDs of what jobs make and work on."""


def subject(job: Job) -> dict[str, Attribute]:
    """Return the fields of a log line that say which job it is about."""
    artifacts = {_FIELDS[kind]: id for id in (job.artifact_id, job.result_id) if (kind := _kind(id))}
    return {"job": job.id, "kind": job.kind, "attempt": job.attempt, **artifacts}


def _kind(id: str) -> str | None:
    kind = ids.kind_of(id)
    return kind if kind in _FIELDS else None


def log_job_queued(session: AsyncSession, job: Job) -> None:
    """Log that a job is queued, once that is committed; the line has the request that asked."""
    fields = subject(job)

    async def log_it(_: Database) -> None:
        log.info("job queued", **fields)

    after_commit(session, log_it)


def log_job_started(job: Job) -> None:
    """Log that an attempt has begun."""
    log.info("job started", **subject(job))


@dataclass(frozen=True)
class EndedJob:
    """An attempt that has ended: read before another attempt changes the row, logged after the commit."""

    subject: Attributes
    kind: JobKind
    status: JobStatus
    error: str | None
    seconds: float | None
    """None where it never began."""
    completed: int
    unit: str

    @classmethod
    def of(cls, job: Job) -> "EndedJob":
        """Return how a job's attempt has ended."""
        began, ended = job.started_at, job.finished_at
        seconds = round((ended - began).total_seconds(), 3) if began and ended else None
        return cls(subject(job), job.kind, job.status, job.error, seconds, job.completed, job.unit)

    def log(self, telemetry: Telemetry) -> None:
        """Log it, and count it."""
        telemetry.metrics.jobs.ended(self.kind, self.status, self.seconds)
        log.info(
            "job ended",
            **self.subject,
            status=self.status,
            error=self.error,
            seconds=self.seconds,
            completed=self.completed,
            unit=self.unit,
        )
