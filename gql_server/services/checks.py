"""Collects what is wrong with an input, so that a refusal names everything at once."""

import math
from collections.abc import Sequence

from gql_server.errors import FieldProblem, InvalidInput

MAX_NAME_LENGTH = 200
MAX_PROBLEMS = 20
MAX_KEY_LENGTH = 200


class Checks:
    """Problems found so far. Paths start at the input's root; a plain string is a path of one part."""

    def __init__(self) -> None:
        self._problems: list[FieldProblem] = []

    def problem(self, path: str | Sequence[str | int], message: str) -> None:
        """Add a problem; beyond a number that anybody would read, it is only counted as one."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(FieldProblem([path] if isinstance(path, str) else path, message))

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
            self.require(bool(value.strip()) and len(value) <= MAX_NAME_LENGTH, path, message)

    def idempotency_key(self, value: str | None) -> None:
        """A key must not be empty or too long."""
        if value is not None:
            message = f"An idempotency key has 1 to {MAX_KEY_LENGTH} characters."
            self.require(0 < len(value) <= MAX_KEY_LENGTH, "idempotencyKey", message)

    def finite(self, path: str | Sequence[str | int], value: float, what: str) -> None:
        """A number must be neither infinite nor NaN."""
        self.require(math.isfinite(value), path, f"{what} must be a finite number, not {value}.")

    def done(self) -> None:
        """Raise InvalidInput where anything was wrong."""
        if self._problems:
            raise InvalidInput(self._problems)
