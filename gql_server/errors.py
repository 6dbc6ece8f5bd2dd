"""Refusals that a client can act on; ``api/refusals.py`` renders each as its GraphQL type."""

from collections.abc import Sequence
from typing import Any

MAX_MESSAGE = 1000
MAX_PROBLEM = 500
MAX_ECHO = 60


def shortened(text: str, length: int) -> str:
    """Return a text without its middle where that is long, which is what the client has sent itself."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


class Refusal(Exception):
    """Base of the typed refusals. ``message`` says what is wrong and what would be right."""

    code: str
    """An ErrorCode of the API."""

    def __init__(self, message: str) -> None:
        self.message = shortened(message, MAX_MESSAGE)
        super().__init__(self.message)


class FieldProblem:
    """One thing wrong with an input: where (from the input's root) and what."""

    def __init__(self, path: Sequence[str | int], message: str) -> None:
        self.path = [str(part) for part in path]
        self.message = shortened(message, MAX_PROBLEM)


class InvalidInput(Refusal):
    """The input itself is wrong, whatever the server's state."""

    code = "INVALID_INPUT"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__(" ".join(problem.message for problem in problems[:3]))
        self.problems = list(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go from one process to another with its problems."""
        return InvalidInput, (self.problems,)

    @classmethod
    def at(cls, path: str | Sequence[str | int], message: str) -> "InvalidInput":
        """Return a refusal of one field; a plain string is a path of one part."""
        parts = [path] if isinstance(path, str) else path
        return cls([FieldProblem(parts, message)])


class NotFound(Refusal):
    """There is nothing of the asked kind with this ID."""

    code = "NOT_FOUND"

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"There is no {kind} with the ID {shortened(id, MAX_ECHO)!r}.")
        self.id = id


class Conflict(Refusal):
    """The request clashes with what is there."""

    def __init__(self, message: str, id: str | None = None, code: str = "CONFLICT") -> None:
        super().__init__(message)
        self.id = id
        self.code = code


class QueueFull(Refusal):
    """No room now; worth trying again after ``retry_after_seconds``."""

    def __init__(self, message: str, retry_after_seconds: int, code: str = "QUEUE_FULL") -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.code = code
