"""Collects what is wrong with an input, so that a refusal names everything at once."""

import unicodedata
from collections.abc import Sequence

from gql_server.errors import FieldProblem, InvalidInput
from gql_server.telemetry.plain_text import is_plain

MAX_NAME_LENGTH = 200
MAX_PROBLEMS = 20
MAX_KEY_LENGTH = 200
MAX_FLOAT32 = 3.4028234e38
NOT_PLAIN = "A name is one line, without control characters and marks of the writing direction."


def visible(text: str) -> bool:
    """Whether a text has a character to see: neither a space nor a control or format character."""
    return any(unicodedata.category(character)[0] not in "ZC" for character in text)


class Checks:
    """Problems found so far. Paths start at the input's root; a plain string is a path of one part."""

    def __init__(self) -> None:
        self._problems: list[FieldProblem] = []

    def problem(self, path: str | Sequence[str | int], message: str) -> None:
        """Add a problem; beyond a readable number of them, problems are only counted."""
        if len(self._problems) < MAX_PROBLEMS:
            parts = [path] if isinstance(path, str) else path
            self._problems.append(FieldProblem(parts, message))

    def require(self, condition: bool, path: str | Sequence[str | int], message: str) -> None:
        """Add a problem unless the condition holds."""
        if not condition:
            self.problem(path, message)

    def whole_number(self, path: str | Sequence[str | int], value: int, low: int, high: int) -> None:
        """A number must lie between two others, both allowed."""
        self.require(
            low <= value <= high, path, f"{value} is not allowed: give a number from {low} to {high}."
        )

    def name(self, path: str, value: str | None) -> None:
        """A name must have a visible character and not be too long; None is no name and fine."""
        if value is not None:
            message = f"A name has 1 to {MAX_NAME_LENGTH} characters, not all of them spaces."
            self.require(visible(value) and len(value) <= MAX_NAME_LENGTH, path, message)
            self.require(is_plain(value), path, NOT_PLAIN)

    def idempotency_key(self, value: str | None) -> None:
        """A key must not be empty or too long."""
        if value is not None:
            message = f"An idempotency key has 1 to {MAX_KEY_LENGTH} characters."
            self.require(0 < len(value) <= MAX_KEY_LENGTH, "idempotencyKey", message)

    def float32(self, path: str | Sequence[str | int], value: float, what: str) -> None:
        """A number must be one in the workers' precision too: neither infinite nor NaN there."""
        message = f"{what} must be a finite number of at most {MAX_FLOAT32:.4g} either way, not {value}."
        self.require(abs(value) <= MAX_FLOAT32, path, message)

    def done(self) -> None:
        """Raise InvalidInput where anything was wrong."""
        if self._problems:
            raise InvalidInput(self._problems)
