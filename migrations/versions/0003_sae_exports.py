"""exports of SAEs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("saes") as saes:
        saes.add_column(sa.Column("exports", sa.JSON(), nullable=True))
