"""Sparse autoencoders."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type, now
from models.enums import ArtifactStatus, InputNormalization, SaeOrigin


class Sae(Base):
    """A sparse autoencoder over the activations of one layer; its weights are in ``directory``."""

    __tablename__ = "saes"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[ArtifactStatus] = mapped_column(
        enum_column_type(ArtifactStatus), default=ArtifactStatus.PENDING
    )
    origin: Mapped[SaeOrigin] = mapped_column(enum_column_type(SaeOrigin))
    sae_class: Mapped[str | None] = mapped_column(String(100))
    language_model_id: Mapped[str] = mapped_column(ForeignKey("language_models.id"), index=True)
    layer: Mapped[str] = mapped_column(String)
    output_layer: Mapped[str | None] = mapped_column(String)
    """Which layer a transcoder writes; None where it is ``layer``."""
    input_size: Mapped[int | None]
    latent_count: Mapped[int | None]
    k: Mapped[int | None]
    input_normalization: Mapped[InputNormalization | None] = mapped_column(
        enum_column_type(InputNormalization)
    )
    """None for one that was trained here, or imported by an earlier version: these do not normalize."""
    activation_run_id: Mapped[str | None] = mapped_column(ForeignKey("activation_runs.id"), index=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    training_config: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """epochs, batch_size, k, learning_rate, l1_lambda, seed and device, once the worker has chosen them."""
    evaluation: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The newest EvaluationResult of the worker's, plain."""
    outliers: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """OutlierStatistics of its training; None where it was imported or an earlier version made it."""
    fit: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """SaeFit of its import; None where it was trained here, was not checked, or is of an earlier version."""
    directory: Mapped[str] = mapped_column(String)
    """``sae/<model>/<sae id>``, relative to the artifact directory."""
    exports: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    """format, byte_size and created_at (as text, with its offset) of each ZIP file; one per format."""
    checkpoint_path: Mapped[str | None] = mapped_column(String)
    metadata_path: Mapped[str | None] = mapped_column(String)
    provenance: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """As gql_server.artifacts.provenance has it; None where an earlier version made it."""
    made_with: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The language model as it was then, a LanguageModelProvenance; None where nobody knows."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
