"""The outcome of an operation or a job in a word; there are few, so that it can be a metric's label."""

from asyncio import CancelledError

from gql_server.errors import Refusal

OK = "ok"
CANCELED = "canceled"
"""The client has gone, or has canceled it."""
INTERNAL = "INTERNAL"
FAILURES = frozenset({INTERNAL, "FAILED", "INTERRUPTED"})
"""Outcomes that are failures of the server; the last two are those of jobs."""


def outcome_of(error: BaseException) -> str:
    """Return the outcome that an exception stands for; of a refusal it is its code."""
    match error:
        case Refusal():
            return error.code
        case CancelledError() | GeneratorExit():
            return CANCELED
        case _:
            return INTERNAL
