"""How what was asked for can end, in a word: bounded, so that it can be a metric's label."""

from asyncio import CancelledError

from gql_server.errors import Refusal

OK = "ok"
CANCELED = "canceled"
"""The client has gone, or has asked for the end."""
INTERNAL = "INTERNAL"
FAILURES = frozenset({INTERNAL, "FAILED", "INTERRUPTED"})
"""Outcomes that are nobody's wish, and not the client's mistake; the latter two are jobs'."""


def outcome_of(error: BaseException) -> str:
    """Return a refusal's code, or what else an exception stands for."""
    match error:
        case Refusal():
            return error.code
        case CancelledError() | GeneratorExit():
            return CANCELED
        case _:
            return INTERNAL
