"""The number of values in a JSON text, without parsing it where there are few."""

import json
from collections.abc import Iterable

PLAIN_BYTES = 64 * 1024
"""The length of a text that is parsed within a few milliseconds, whatever is in it."""
PLAIN_VALUES = 20_000


def may_have_many_values(text: bytes) -> bool:
    """Return whether a text is to be counted elsewhere: it may stand for more than is made in a moment.

    Each value stands behind a bracket or a comma; those inside strings are taken for such, too.
    """
    return len(text) > PLAIN_BYTES and sum(map(text.count, (b"[", b"{", b","))) > PLAIN_VALUES


def count_values(text: bytes) -> int | None:
    """Return the number of values, nested ones included; None if the text is not JSON."""
    try:
        rest = [json.loads(text)]
    except (ValueError, RecursionError):
        return None
    count = 0
    while rest:
        value = rest.pop()
        count += 1
        inner: Iterable[object] = ()
        if isinstance(value, dict):
            inner = value.values()
        elif isinstance(value, list):
            inner = value
        rest.extend(inner)
    return count
