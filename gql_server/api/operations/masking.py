"""What errors clients see: refusals and their own mistakes as they are, the server's without its insides."""

import secrets
from typing import Any

import structlog
from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError, StrawberryInputCoercionError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionContext

from gql_server.api import refusals
from gql_server.api.common import ErrorCode
from gql_server.errors import MAX_MESSAGE, Refusal, shortened

log = structlog.get_logger(__name__)

MAX_LOGGED = 3
"""Stacks that one answer puts into the log."""
PUT_INTO_WORDS = (GraphQLError, MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)
"""Exceptions whose messages are for clients."""


def shown_errors(errors: list[GraphQLError], operation: ExecutionContext | None) -> list[GraphQLError]:
    """Return the errors as clients see them; an unexpected exception is logged once, whatever it spoils."""
    references: dict[int, str] = {}
    shown = [_shown(error, operation, references) for error in errors]
    for error in shown:
        error.message = shortened(error.message, MAX_MESSAGE)  # It may have a value that the client has sent.
    if len(references) > MAX_LOGGED:
        log.error("more internal errors in the same answer", count=len(references) - MAX_LOGGED)
    return shown


def _shown(
    error: GraphQLError, operation: ExecutionContext | None, references: dict[int, str]
) -> GraphQLError:
    cause = error.original_error
    if isinstance(cause, Refusal):
        return refusals.top_level(cause, error)
    if operation is not None and not operation.context.server.settings.introspection:
        # The names that graphql-core suggests are the schema's.
        error.message = error.message.partition(" Did you mean ")[0]
    if _is_bad_document(error, operation) or _is_bad_value(error, operation):
        error.extensions = {"code": str(ErrorCode.INVALID_INPUT), **(error.extensions or {})}
    # Without a cause it is a mistake in the query, and with one of these one that was put into words.
    if cause is None or isinstance(cause, PUT_INTO_WORDS):
        return error
    reference = references.get(id(cause))
    if reference is None:
        if len(references) < MAX_LOGGED:
            reference = secrets.token_hex(8)
            _log(cause, error, operation, reference)
        else:
            reference = next(iter(references.values()))  # One mistake that a query meets again and again.
        references[id(cause)] = reference
    return GraphQLError(
        f"Internal error; the server's log has more under the reference {reference}.",
        nodes=error.nodes,
        path=error.path,
        extensions={"code": str(ErrorCode.INTERNAL), "reference": reference},
    )


def _is_bad_document(error: GraphQLError, operation: ExecutionContext | None) -> bool:
    """Return whether an error is about a document that was not executed: its syntax, or GraphQL's rules."""
    return error.original_error is None and (operation is None or not operation.context.executing)


def _is_bad_value(error: GraphQLError, operation: ExecutionContext | None) -> bool:
    """Return whether graphql-core refused the value of a variable or an argument."""
    if isinstance(error, StrawberryInputCoercionError):
        return True
    if operation is None or not operation.context.executing:
        return False
    cause = error.original_error
    # A variable's error has no path. An argument's points into the document by itself, unlike a result's.
    of_value = isinstance(cause, GraphQLError) and (error.path is None or bool(cause.nodes))
    return cause is None or of_value


def _log(cause: Any, error: GraphQLError, operation: ExecutionContext | None, reference: str) -> None:
    log.error(
        "internal error",
        reference=reference,
        operation=operation.operation_name if operation else None,
        path=".".join(str(part) for part in error.path or []),
        exc_info=cause,
    )
