"""Long tasks. This table is also their queue."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type, now
from models.enums import JobKind, JobStatus, ProgressUnit


class Job(Base):
    """A long task: what to do, how far it is, and the number of its newest event."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "status", "lane", "queued_at", "id"),
        Index(None, "created_at", "id", "status", "kind"),
        Index(None, "kind", "status", "lane"),
        Index(None, "result_id", "created_at", "id"),
        Index(
            "ix_jobs_finished_at_id_with_log",
            "finished_at",
            "id",
            sqlite_where=text("removed_sequence < last_sequence"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[JobKind] = mapped_column(enum_column_type(JobKind))
    status: Mapped[JobStatus] = mapped_column(enum_column_type(JobStatus), default=JobStatus.QUEUED)
    lane: Mapped[str] = mapped_column(String(16))
    """Which worker it runs in: jobs or interactive."""
    artifact_id: Mapped[str] = mapped_column(String(40), index=True)
    """What it works on: a language model, an activation run, an SAE or a neuron index."""
    result_id: Mapped[str] = mapped_column(String(40))
    """What the API shows as its result: a language model, an activation run or an SAE."""
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The validated input that the task is made from at each attempt."""
    idempotency_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[int] = mapped_column(default=1)
    fraction: Mapped[float] = mapped_column(default=0.0)
    completed: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int | None] = mapped_column(BigInteger)
    unit: Mapped[ProgressUnit] = mapped_column(enum_column_type(ProgressUnit))
    rate_per_second: Mapped[float | None]
    eta_seconds: Mapped[float | None]
    stage: Mapped[str | None] = mapped_column(String(100))
    """What it does beside the counted progress; None unless it has said so and runs."""
    stage_completed: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    stage_total: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[str | None] = mapped_column(String)
    last_sequence: Mapped[int] = mapped_column(default=0)
    removed_sequence: Mapped[int] = mapped_column(default=0, server_default="0")
    """The number of the newest event that retention has removed; with it all before have gone."""
    resumptions: Mapped[int] = mapped_column(default=0, server_default="0")
    """How often the server has taken it up again by itself since it was launched or retried."""
    revision: Mapped[int] = mapped_column(BigInteger, index=True, default=0)
    """Counts changes over all jobs, so that watchers of all of them can ask what is new."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    queued_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
