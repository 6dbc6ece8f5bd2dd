"""Alembic migrations, run when the server starts."""

HEAD = "0016"
"""The newest revision, so that an up-to-date database needs no Alembic at start; a test compares it."""


def is_in_models(name: str | None, type_: str, _parents: object) -> bool:
    """Whether models/ describes what Alembic finds by a name: not tables of FTS5, nor what those keep."""
    return not (type_ == "table" and name is not None and name.startswith("concept_words"))
