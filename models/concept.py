"""Names of neurons."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type, now
from models.enums import ConceptSource


class Concept(Base):
    """A name for what a neuron stands for; a neuron has one at the most."""

    __tablename__ = "concepts"
    __table_args__ = (UniqueConstraint("sae_id", "neuron_index"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    sae_id: Mapped[str] = mapped_column(ForeignKey("saes.id"))
    neuron_index: Mapped[int]
    name: Mapped[str] = mapped_column(String)
    score: Mapped[float | None]
    source: Mapped[ConceptSource] = mapped_column(enum_column_type(ConceptSource))
    note: Mapped[str | None] = mapped_column(String)
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
