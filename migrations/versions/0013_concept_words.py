"""the words of neurons' names and notes."""

import re

import sqlalchemy as sa
from alembic import op

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
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None
    driver_connection.create_function("concept_terms", 3, _terms, deterministic=True)
    for statement in (
        "CREATE VIRTUAL TABLE concept_words"
        " USING fts5(words, content='', detail=none, columnsize=0, tokenize='ascii')",
        "INSERT INTO sae_numbers (sae_id) SELECT DISTINCT sae_id FROM concepts ORDER BY sae_id",
        "INSERT INTO concept_words (rowid, words)"
        " SELECT (number << 32) | neuron_index, concept_terms(number, name, note)"
        " FROM concepts JOIN sae_numbers USING (sae_id)",
    ):
        connection.exec_driver_sql(statement)


def _terms(number: int, name: str, note: str | None) -> str:
    """Return the terms of a neuron's row. A later version that cuts words otherwise fills the table anew."""
    words = {
        f"{number}{field}{word}"
        for field, content in (("c", name), ("n", note or ""))
        for word in re.findall(r"[^\W_]+", content.lower())
    }
    return " ".join(sorted(words))
