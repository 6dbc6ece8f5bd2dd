"""Answers as JSON."""

import json

import msgspec


def json_bytes(data: object) -> bytes:
    """Return data as JSON in UTF-8, with every character as itself.

    Half of a surrogate pair, of a file's name for instance, has no place in UTF-8; then all that is not
    ASCII is escaped.
    """
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:
        return json.dumps(data, separators=(",", ":")).encode()


def byte_count(text: str | bytes) -> int:
    """Return the bytes that a text has when it is sent."""
    return len(text.encode()) if isinstance(text, str) else len(text)
