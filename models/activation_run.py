"""Captured activations of a language model over a dataset."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type, now
from models.enums import ArtifactStatus, DatasetKind, FloatType, LongTexts


class ActivationRun(Base):
    """The activations of some layers over one dataset; the tensors are in the LocalStore."""

    __tablename__ = "activation_runs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[ArtifactStatus] = mapped_column(
        enum_column_type(ArtifactStatus), default=ArtifactStatus.PENDING
    )
    language_model_id: Mapped[str] = mapped_column(ForeignKey("language_models.id"), index=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    dataset_kind: Mapped[DatasetKind] = mapped_column(enum_column_type(DatasetKind))
    dataset_description: Mapped[str] = mapped_column(String)
    dataset_id: Mapped[str | None] = mapped_column(String(40))
    """The stored dataset that the texts were taken from, which may have been deleted since."""
    dataset_sample_count: Mapped[int | None]
    dataset_skipped_count: Mapped[int] = mapped_column(default=0, server_default="0")
    """Bad rows of the dataset's source that were left out."""
    layers: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """By depth: name and hidden_size (None until known) of each captured layer."""
    batch_size: Mapped[int]
    max_length: Mapped[int]
    long_texts: Mapped[LongTexts] = mapped_column(
        enum_column_type(LongTexts), default=LongTexts.TRUNCATE, server_default=LongTexts.TRUNCATE
    )
    dtype: Mapped[FloatType] = mapped_column(enum_column_type(FloatType))
    sample_offset: Mapped[int] = mapped_column(default=0)
    sample_limit: Mapped[int | None]
    sample_count: Mapped[int] = mapped_column(default=0)
    piece_count: Mapped[int | None]
    """Pieces of texts that are stored; None where an earlier version made the run, and until it is known."""
    truncated_text_count: Mapped[int | None]
    """Selected texts that were cut; None as of ``piece_count``."""
    batch_count: Mapped[int] = mapped_column(default=0)
    token_count: Mapped[int] = mapped_column(BigInteger, default=0)
    """Tokens that are neither padding nor special."""
    byte_size: Mapped[int] = mapped_column(BigInteger, default=0)
    manifest_path: Mapped[str | None] = mapped_column(String)
    """Relative to the artifact directory."""
    provenance: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """As gql_server.artifacts.provenance has it; None where an earlier version made it."""
    made_with: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The language model as it was then, a LanguageModelProvenance; None where nobody knows."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
