"""Everything that happened to jobs, in order."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type, now
from models.enums import JobEventType


class JobEvent(Base):
    """One entry of a job's log; sequences start at 1 and have no gaps."""

    __tablename__ = "job_events"
    # The newest sentences of a log lie among any number of other entries.
    __table_args__ = (Index(None, "job_id", "type", "sequence"),)

    job_id: Mapped[str] = mapped_column(String(40), ForeignKey("jobs.id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    type: Mapped[JobEventType] = mapped_column(enum_column_type(JobEventType))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
