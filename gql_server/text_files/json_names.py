"""Names that a JSON object has more than once, of which Python keeps the last."""

from collections import Counter
from collections.abc import Sequence
from typing import Any


class RepeatedName(ValueError):
    """An object has this name more than once."""


def repeated_names(pairs: Sequence[tuple[str, Any]]) -> set[str]:
    """Return the names that stand more than once among an object's members."""
    return {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}


def named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members, as ``object_pairs_hook``; RepeatedName where one's name comes again."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise RepeatedName(min(repeated_names(pairs)))
    return members
