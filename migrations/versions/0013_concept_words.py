"""the words of neurons' names and notes."""

import sqlalchemy as sa
from alembic import op

from gql_server.database import concept_words

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "sae_numbers",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sae_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["sae_id"], ["saes.id"], name=op.f("fk_sae_numbers_sae_id_saes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_sae_numbers")),
        sa.UniqueConstraint("sae_id", name=op.f("uq_sae_numbers_sae_id")),
    )
    connection = op.get_bind()
    concept_words.add_function(connection.connection.driver_connection)
    for statement in (concept_words.CREATE, *concept_words.FILL):
        connection.exec_driver_sql(statement)
