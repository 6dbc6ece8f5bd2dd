"""What passes over activation runs found out about an SAE's neurons."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, enum_column_type, now
from models.enums import ArtifactStatus


class NeuronIndex(Base):
    """One pass over an activation run; its tensors are in the LocalStore under its ID.

    An SAE has one READY index at the most: a newer one that gets READY takes its place.
    """

    __tablename__ = "neuron_indexes"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    sae_id: Mapped[str] = mapped_column(ForeignKey("saes.id"), index=True)
    status: Mapped[ArtifactStatus] = mapped_column(
        enum_column_type(ArtifactStatus), default=ArtifactStatus.PENDING
    )
    activation_run_id: Mapped[str | None] = mapped_column(ForeignKey("activation_runs.id"), index=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    top_texts_per_neuron: Mapped[int]
    token_count: Mapped[int | None] = mapped_column(BigInteger)
    sample_count: Mapped[int | None]
    dead_count: Mapped[int | None]
    frequency_histogram: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True), deferred=True, deferred_raiseload=True
    )
    """edges and counts of log10 of the activation frequency over the neurons that fired."""
    top_texts_path: Mapped[str | None] = mapped_column(String)
    """Relative to the artifact directory."""
    provenance: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """As gql_server.artifacts.provenance has it; None where an earlier version made it."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    built_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
