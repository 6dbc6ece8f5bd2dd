"""What jobs do beside the progress that is counted."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("stage", sa.String(100), nullable=True))
    op.add_column("jobs", sa.Column("stage_completed", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("stage_total", sa.BigInteger(), nullable=True))
