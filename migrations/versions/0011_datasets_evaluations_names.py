"""stored datasets, earlier evaluations of SAEs, earlier names of neurons."""

import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    status = sa.Enum(
        "PENDING",
        "BUILDING",
        "READY",
        "PARTIAL",
        "FAILED",
        name="artifactstatus",
        native_enum=False,
        length=32,
    )
    source = sa.Enum("MANUAL", "IMPORTED", "GENERATED", name="conceptsource", native_enum=False, length=32)
    op.create_table(
        "stored_datasets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("status", status, nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("sample_count", sa.Integer(), nullable=False),
        sa.Column("skipped_count", sa.Integer(), nullable=False),
        sa.Column("column_names", sa.JSON(), nullable=False),
        sa.Column("text_field", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stored_datasets")),
        sa.UniqueConstraint("name", name=op.f("uq_stored_datasets_name")),
    )
    op.add_column("activation_runs", sa.Column("dataset_id", sa.String(length=40), nullable=True))
    op.create_table(
        "sae_evaluations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sae_id", sa.String(length=40), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["sae_id"], ["saes.id"], name=op.f("fk_sae_evaluations_sae_id_saes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sae_evaluations")),
    )
    op.create_index(op.f("ix_sae_evaluations_sae_id"), "sae_evaluations", ["sae_id"], unique=False)
    op.create_table(
        "concept_revisions",
        sa.Column("sae_id", sa.String(length=40), nullable=False),
        sa.Column("neuron_index", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("source", source, nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["sae_id"], ["saes.id"], name=op.f("fk_concept_revisions_sae_id_saes")),
        sa.PrimaryKeyConstraint("sae_id", "neuron_index", "version", name=op.f("pk_concept_revisions")),
    )
    _keep_evaluations()


def _keep_evaluations() -> None:
    """Take over the newest evaluation of each SAE: earlier ones were not kept."""
    connection = op.get_bind()
    query = sa.text("SELECT id, evaluation FROM saes WHERE evaluation IS NOT NULL")
    for id, content in connection.execute(query).all():
        result = json.loads(content)
        at = datetime.fromisoformat(result["evaluated_at"]).astimezone(UTC).replace(tzinfo=None)
        row = {
            "id": f"evaluation_{id.removeprefix('sae_')}",
            "sae_id": id,
            "result": content,
            "created_at": at.isoformat(" ", "microseconds"),
        }
        insert = "INSERT INTO sae_evaluations (id, sae_id, result, created_at)"
        connection.execute(sa.text(f"{insert} VALUES (:id, :sae_id, :result, :created_at)"), row)
