"""outliers of SAEs' trainings."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("saes") as saes:
        saes.add_column(sa.Column("outliers", sa.JSON(), nullable=True))
