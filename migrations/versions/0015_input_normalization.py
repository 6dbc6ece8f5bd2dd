"""How SAEs normalize their inputs."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("saes", sa.Column("input_normalization", sa.String(length=32), nullable=True))
