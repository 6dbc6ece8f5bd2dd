"""options of language models, and what their tokenizers say."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("language_models", sa.Column("tokenizer", sa.JSON(), nullable=True))
    op.add_column("language_models", sa.Column("add_bos", sa.Boolean(), nullable=True))
    op.add_column("language_models", sa.Column("token_counts", sa.JSON(), nullable=True))
    op.add_column("language_models", sa.Column("options_version", sa.Integer(), nullable=True))
