"""Alembic migrations, run when the server starts."""

HEAD = "0012"
"""The newest revision, so that an up-to-date database needs no Alembic at start; a test compares it."""
