"""first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("artifact_id", sa.String(length=40), nullable=False),
        sa.Column("result_id", sa.String(length=40), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("completed", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("unit", sa.String(length=32), nullable=False),
        sa.Column("rate_per_second", sa.Double(), nullable=True),
        sa.Column("eta_seconds", sa.Double(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("last_sequence", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("queued_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_jobs_idempotency_key")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_jobs_artifact_id"), ["artifact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_revision"), ["revision"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_jobs_status_lane_queued_at_id"),
            ["status", "lane", "queued_at", "id"],
            unique=False,
        )

    op.create_table(
        "language_models",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("source_kind", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("revision", sa.String(length=200), nullable=True),
        sa.Column("dtype", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("status_message", sa.String(), nullable=True),
        sa.Column("architecture", sa.String(length=200), nullable=True),
        sa.Column("parameter_count", sa.BigInteger(), nullable=True),
        sa.Column("hidden_size", sa.Integer(), nullable=True),
        sa.Column("vocabulary_size", sa.Integer(), nullable=True),
        sa.Column("context_length", sa.Integer(), nullable=True),
        sa.Column("layers", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_language_models")),
        sa.UniqueConstraint("name", name=op.f("uq_language_models_name")),
    )
    op.create_table(
        "activation_runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("language_model_id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("dataset_kind", sa.String(length=32), nullable=False),
        sa.Column("dataset_description", sa.String(), nullable=False),
        sa.Column("dataset_sample_count", sa.Integer(), nullable=True),
        sa.Column("layers", sa.JSON(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("max_length", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.String(length=32), nullable=False),
        sa.Column("sample_offset", sa.Integer(), nullable=False),
        sa.Column("sample_limit", sa.Integer(), nullable=True),
        sa.Column("sample_count", sa.Integer(), nullable=False),
        sa.Column("batch_count", sa.Integer(), nullable=False),
        sa.Column("token_count", sa.BigInteger(), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("manifest_path", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_activation_runs_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["language_model_id"],
            ["language_models.id"],
            name=op.f("fk_activation_runs_language_model_id_language_models"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activation_runs")),
    )
    with op.batch_alter_table("activation_runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_activation_runs_job_id"), ["job_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_activation_runs_language_model_id"), ["language_model_id"], unique=False
        )

    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "sequence", name=op.f("pk_job_events")),
    )
    op.create_table(
        "saes",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("origin", sa.String(length=32), nullable=False),
        sa.Column("sae_class", sa.String(length=100), nullable=True),
        sa.Column("language_model_id", sa.String(length=40), nullable=False),
        sa.Column("layer", sa.String(), nullable=False),
        sa.Column("input_size", sa.Integer(), nullable=True),
        sa.Column("latent_count", sa.Integer(), nullable=True),
        sa.Column("k", sa.Integer(), nullable=True),
        sa.Column("activation_run_id", sa.String(length=40), nullable=True),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("training_config", sa.JSON(), nullable=True),
        sa.Column("evaluation", sa.JSON(), nullable=True),
        sa.Column("directory", sa.String(), nullable=False),
        sa.Column("checkpoint_path", sa.String(), nullable=True),
        sa.Column("metadata_path", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["activation_run_id"],
            ["activation_runs.id"],
            name=op.f("fk_saes_activation_run_id_activation_runs"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_saes_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["language_model_id"],
            ["language_models.id"],
            name=op.f("fk_saes_language_model_id_language_models"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saes")),
    )
    with op.batch_alter_table("saes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_saes_activation_run_id"), ["activation_run_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_saes_job_id"), ["job_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_saes_language_model_id"), ["language_model_id"], unique=False)

    op.create_table(
        "concept_configs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sae_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("edits", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["sae_id"], ["saes.id"], name=op.f("fk_concept_configs_sae_id_saes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_concept_configs")),
        sa.UniqueConstraint("sae_id", "name", name=op.f("uq_concept_configs_sae_id_name")),
    )
    op.create_table(
        "concepts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sae_id", sa.String(length=40), nullable=False),
        sa.Column("neuron_index", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["sae_id"], ["saes.id"], name=op.f("fk_concepts_sae_id_saes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_concepts")),
        sa.UniqueConstraint("sae_id", "neuron_index", name=op.f("uq_concepts_sae_id_neuron_index")),
    )
    op.create_table(
        "neuron_indexes",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sae_id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("activation_run_id", sa.String(length=40), nullable=True),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("top_texts_per_neuron", sa.Integer(), nullable=False),
        sa.Column("token_count", sa.BigInteger(), nullable=True),
        sa.Column("sample_count", sa.Integer(), nullable=True),
        sa.Column("dead_count", sa.Integer(), nullable=True),
        sa.Column("frequency_histogram", sa.JSON(), nullable=True),
        sa.Column("top_texts_path", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("built_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["activation_run_id"],
            ["activation_runs.id"],
            name=op.f("fk_neuron_indexes_activation_run_id_activation_runs"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_neuron_indexes_job_id_jobs")),
        sa.ForeignKeyConstraint(["sae_id"], ["saes.id"], name=op.f("fk_neuron_indexes_sae_id_saes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_neuron_indexes")),
    )
    with op.batch_alter_table("neuron_indexes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_neuron_indexes_activation_run_id"), ["activation_run_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_neuron_indexes_job_id"), ["job_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_neuron_indexes_sae_id"), ["sae_id"], unique=False)

    op.create_table(
        "training_points",
        sa.Column("sae_id", sa.String(length=40), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("token_count", sa.BigInteger(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("mse", sa.Double(), nullable=True),
        sa.Column("explained_variance", sa.Double(), nullable=True),
        sa.Column("l0", sa.Double(), nullable=False),
        sa.Column("dead_fraction", sa.Double(), nullable=True),
        sa.Column("learning_rate", sa.Double(), nullable=False),
        sa.Column("tokens_per_second", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["sae_id"], ["saes.id"], name=op.f("fk_training_points_sae_id_saes")),
        sa.PrimaryKeyConstraint("sae_id", "step", name=op.f("pk_training_points")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("training_points")
    with op.batch_alter_table("neuron_indexes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_neuron_indexes_sae_id"))
        batch_op.drop_index(batch_op.f("ix_neuron_indexes_job_id"))
        batch_op.drop_index(batch_op.f("ix_neuron_indexes_activation_run_id"))

    op.drop_table("neuron_indexes")
    op.drop_table("concepts")
    op.drop_table("concept_configs")
    with op.batch_alter_table("saes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_saes_language_model_id"))
        batch_op.drop_index(batch_op.f("ix_saes_job_id"))
        batch_op.drop_index(batch_op.f("ix_saes_activation_run_id"))

    op.drop_table("saes")
    op.drop_table("job_events")
    with op.batch_alter_table("activation_runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_activation_runs_language_model_id"))
        batch_op.drop_index(batch_op.f("ix_activation_runs_job_id"))

    op.drop_table("activation_runs")
    op.drop_table("language_models")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_status_lane_queued_at_id"))
        batch_op.drop_index(batch_op.f("ix_jobs_revision"))
        batch_op.drop_index(batch_op.f("ix_jobs_artifact_id"))

    op.drop_table("jobs")
