"""Datasets that are kept for use in several captures and evaluations."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type, now
from models.enums import ArtifactStatus


class StoredDataset(Base):
    """The texts of an uploaded file; they are in ``datasets/<id>``, as a run's are."""

    __tablename__ = "stored_datasets"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    status: Mapped[ArtifactStatus] = mapped_column(
        enum_column_type(ArtifactStatus), default=ArtifactStatus.READY
    )
    """READY, or FAILED where the server has found at its start that the texts are gone."""
    byte_size: Mapped[int] = mapped_column(BigInteger)
    sample_count: Mapped[int]
    skipped_count: Mapped[int]
    """Bad rows of the file that were left out."""
    column_names: Mapped[list[str]] = mapped_column(JSON)
    """Of the file; none where it has no columns."""
    text_field: Mapped[str | None] = mapped_column(String)
    """The column that the texts were in; None where the file has none."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
