"""A row of a file, and the text in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gql_server.text_files.problems import RowProblem

MAX_REASONS = 5
MAX_NAMES = 20
"""Columns that a sentence names."""


class Row(NamedTuple):
    """A row as a reader gives it: where it stands, and what is in its text field or why nothing is."""

    place: str
    value: Any
    problem: str | None = None


@dataclass
class SkippedRows:
    """Bad rows that were left out; ``reasons`` are of the first ones."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """Count a row."""
        self.count += 1
        if len(self.reasons) < MAX_REASONS:
            self.reasons.append(reason)

    def __str__(self) -> str:
        """Say how many there are, and what is wrong with the first ones."""
        if not self.count:
            return "No row was left out."
        rows = "1 bad row was" if self.count == 1 else f"{self.count:,} bad rows were"
        more = "; …" if self.count > len(self.reasons) else ""
        return f"{rows} left out: {'; '.join(self.reasons)}{more}."


def text_in(value: Any, text_field: str) -> str:
    """Return a value as text: a string, or bytes of UTF-8. Raises RowProblem for anything else."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            reason = f"has bytes in {text_field!r} that are not UTF-8, the first at byte {error.start}"
            raise RowProblem(reason) from None
    if not isinstance(value, str):
        raise RowProblem(f"has {_kind(value)} in {text_field!r} instead of a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # Half a surrogate pair of JSON, or a byte that the stream could not decode.
        where = f"at character {error.start}"
        raise RowProblem(f"has half a character or no UTF-8 in {text_field!r} {where}") from None
    return value


def has_half_characters(text: str) -> bool:
    """Whether a text holds lone surrogates, which UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """Return the value of a key, or of keys inside each other with dots between; the key as it is wins.

    Raises KeyError where there is none.
    """
    if path in row:
        return row[path]
    place = path.find(".")
    while place >= 0:
        inner = row.get(path[:place])
        if isinstance(inner, Mapping):
            try:
                return value_at(inner, path[place + 1 :])
            except KeyError:
                pass
        place = path.find(".", place + 1)
    raise KeyError(path)


def named(names: list[str]) -> str:
    """List columns for people."""
    more = ", …" if len(names) > MAX_NAMES else ""
    return ", ".join(repr(name) for name in names[:MAX_NAMES]) + more or "none"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"
