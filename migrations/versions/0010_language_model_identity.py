"""what language models are, and which runs and SAEs were made with them."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for table, names in (
        ("language_models", ("origin", "accepted")),
        ("activation_runs", ("made_with",)),
        ("saes", ("made_with",)),
    ):
        for name in names:
            op.add_column(table, sa.Column(name, sa.JSON(), nullable=True))
    _fill("activation_runs", lambda provenance: provenance)
    _fill("saes", lambda provenance: provenance.get("run"))


def _fill(table: str, run_of: Any) -> None:
    """Take over what the rows' provenance says."""
    connection = op.get_bind()
    query = sa.text(f"SELECT id, provenance FROM {table} WHERE provenance IS NOT NULL")
    for id, content in connection.execute(query).all():
        run = run_of(json.loads(content))
        if run:
            made_with = json.dumps(run["language_model"])
            change = sa.text(f"UPDATE {table} SET made_with = :made_with WHERE id = :id")
            connection.execute(change, {"made_with": made_with, "id": id})
