"""Named sets of edits to an SAE's latents."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, now


class ConceptConfig(Base):
    """How to steer: latent * multiplier + bias on each edited neuron."""

    __tablename__ = "concept_configs"
    __table_args__ = (UniqueConstraint("sae_id", "name"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    sae_id: Mapped[str] = mapped_column(ForeignKey("saes.id"))
    name: Mapped[str] = mapped_column(String(200))
    edits: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """neuron_index, multiplier and bias of each, sorted by neuron."""
    version: Mapped[int] = mapped_column(default=1)
    path: Mapped[str] = mapped_column(String)
    """Relative to the artifact directory."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
