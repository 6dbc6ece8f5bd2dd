"""Persisted queries, which this server does not keep: clients that try them are told to send the text."""

from typing import Any

MESSAGE = "PersistedQueryNotSupported"
CODE = "PERSISTED_QUERY_NOT_SUPPORTED"
"""What clients look for, by Apollo's automatic persisted queries; no ErrorCode of this server's."""


def is_only_a_hash(query: object, extensions: object) -> bool:
    """Return whether a request names a document by its hash, in the place of its text."""
    return not query and isinstance(extensions, dict) and "persistedQuery" in extensions


def error() -> dict[str, Any]:
    """Return the error on which clients send the document's text, and no hashes from then on."""
    return {"message": MESSAGE, "extensions": {"code": CODE}}
