"""jobs by what they make, and entries of their logs by type."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_jobs_result_id_created_at_id", "jobs", ["result_id", "created_at", "id"])
    op.create_index("ix_job_events_job_id_type_sequence", "job_events", ["job_id", "type", "sequence"])
