"""Earlier names of neurons."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type
from models.enums import ConceptSource


class ConceptRevision(Base):
    """What a neuron's concept was at a version that is not the present one; no name: it was deleted.

    The present one is in ``concepts`` alone, so that a first import writes nothing here. Versions of a neuron
    have no gaps, but for the oldest ones, which go.
    """

    __tablename__ = "concept_revisions"

    sae_id: Mapped[str] = mapped_column(ForeignKey("saes.id"), primary_key=True)
    neuron_index: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String)
    score: Mapped[float | None]
    source: Mapped[ConceptSource] = mapped_column(enum_column_type(ConceptSource))
    note: Mapped[str | None] = mapped_column(String)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
