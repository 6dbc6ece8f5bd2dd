"""provenance of runs, SAEs and neuron indexes."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for table in ("activation_runs", "saes", "neuron_indexes"):
        op.add_column(table, sa.Column("provenance", sa.JSON(), nullable=True))
