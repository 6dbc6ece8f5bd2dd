"""The layers that transcoders write."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("saes", sa.Column("output_layer", sa.String(), nullable=True))
