"""Opaque cursors: where a page ended, as base64 of JSON."""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any

from gql_server.errors import InvalidInput

MAX_FIRST = 100


def check_first(first: int, path: str = "first", maximum: int = MAX_FIRST) -> None:
    """Refuse a page size outside 1 to ``maximum``."""
    if not 1 <= first <= maximum:
        raise InvalidInput.at(path, f"{path} must be from 1 to {maximum}; it is {first}.")


def encode(listing: str, *key: Any) -> str:
    """Return a cursor into a listing; the key is what its order goes by, ending in something unique."""
    text = json.dumps([listing, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, listing: str, *types: type) -> list[Any]:
    """Return a cursor's key. Raises InvalidInput for what is no cursor into this listing with such a key."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise bad_cursor(cursor) from None
    if not isinstance(parts, list) or [type(part) for part in parts] != [str, *types] or parts[0] != listing:
        raise bad_cursor(cursor)
    if not all(_is_comparable(part) for part in parts):
        raise bad_cursor(cursor)
    return parts[1:]


def time_of(text: str, cursor: str | None = None) -> datetime:
    """Return a time of a cursor's key, in UTC; InvalidInput for what is no time with an offset."""
    try:
        time = datetime.fromisoformat(text)
        # At both ends of the calendar a time with an offset has none in UTC, in which it is compared.
        in_utc = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise bad_cursor(cursor or text) from None
    if time.tzinfo is None:
        raise bad_cursor(cursor or text)
    return in_utc


def _is_comparable(part: object) -> bool:
    """Return whether SQLite and numpy take it: neither lone surrogates nor integers beyond 64 bits."""
    if isinstance(part, int):
        return abs(part) < 2**63
    try:
        str(part).encode()
    except UnicodeEncodeError:
        return False
    return True


def bad_cursor(cursor: str) -> InvalidInput:
    """Return the refusal of a cursor."""
    return InvalidInput.at(
        "after", f"{cursor[:100]!r} is not a cursor of this list; pass on an endCursor of the same list."
    )
