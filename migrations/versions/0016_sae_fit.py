"""How imported SAEs fit."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("saes") as saes:
        saes.add_column(sa.Column("fit", sa.JSON(), nullable=True))
