"""bad rows that were left out of datasets, long texts in runs."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    table = "activation_runs"
    long_texts = sa.Enum("TRUNCATE", "SPLIT", name="longtexts", native_enum=False, length=32)
    op.add_column(table, sa.Column("dataset_skipped_count", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(table, sa.Column("long_texts", long_texts, nullable=False, server_default="TRUNCATE"))
    op.add_column(table, sa.Column("piece_count", sa.Integer(), nullable=True))
    op.add_column(table, sa.Column("truncated_text_count", sa.Integer(), nullable=True))
