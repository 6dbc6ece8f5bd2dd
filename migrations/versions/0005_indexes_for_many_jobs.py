"""indexes for many jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index(op.f("ix_jobs_created_at_id_status_kind"), "jobs", ["created_at", "id", "status", "kind"])
    op.create_index(op.f("ix_jobs_kind_status_lane"), "jobs", ["kind", "status", "lane"])
    op.create_index(
        "ix_jobs_finished_at_id_with_log",
        "jobs",
        ["finished_at", "id"],
        sqlite_where=sa.text("removed_sequence < last_sequence"),
    )
