"""Evaluations of SAEs, the earlier ones among them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, now


class SaeEvaluation(Base):
    """What one evaluation has measured; ``Sae.evaluation`` is the newest one's result."""

    __tablename__ = "sae_evaluations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    sae_id: Mapped[str] = mapped_column(ForeignKey("saes.id"), index=True)
    result: Mapped[dict[str, Any]] = mapped_column(JSON)
    """As ``Sae.evaluation``."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
