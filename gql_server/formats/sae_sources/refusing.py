"""Why somebody else's SAE cannot be taken over."""

from collections.abc import Iterable
from typing import Any

_MAX_SHOWN_CHARACTERS = 60
_MAX_LISTED = 8


class NotRepresentable(Exception):
    """The SAE cannot be taken over exactly. ``reason`` is one sentence for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Go from one process to another."""
        return NotRepresentable, (self.reason,)


def shown(value: Any) -> str:
    """Return a value of a file as a sentence can have it, shortened."""
    text = ascii(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}…"


def listed(texts: Iterable[str]) -> str:
    """Join names of a file's for a sentence: the first few, and how many more there are."""
    names = [ascii(text)[1:-1][:_MAX_SHOWN_CHARACTERS] for text in texts]
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
