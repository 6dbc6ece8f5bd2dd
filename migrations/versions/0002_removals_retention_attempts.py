"""removals, retention, and the attempt in each change of status."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Each attempt begins with a QUEUED, so the QUEUEDs up to an event count its attempt.
ADD_ATTEMPTS = """
UPDATE job_events SET payload = json_set(payload, '$.attempt', (
    SELECT count(*) FROM job_events AS queued
    WHERE queued.job_id = job_events.job_id AND queued.sequence <= job_events.sequence
    AND queued.type = 'STATUS' AND json_extract(queued.payload, '$.status') = 'QUEUED'))
WHERE type = 'STATUS'
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "removals",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_removals")),
    )
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("removed_sequence", sa.Integer(), server_default="0", nullable=False))
        jobs.add_column(sa.Column("resumptions", sa.Integer(), server_default="0", nullable=False))
    op.execute(ADD_ATTEMPTS)
