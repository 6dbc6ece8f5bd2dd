"""Alembic's environment: runs migrations on the connection that gql_server.database.migrate hands over."""

from alembic import context

from migrations import is_in_models
from models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    include_name=is_in_models,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
