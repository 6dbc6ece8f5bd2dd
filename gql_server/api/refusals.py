"""The one place where refusals become members of a result's union, or top-level errors."""

from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.types.field import StrawberryField

from gql_server import errors
from gql_server.api import common

RefusalType = common.InvalidInput | common.NotFound | common.Conflict | common.QueueFull


def refusal_type(refusal: errors.Refusal) -> RefusalType:
    """Return the union member that a refusal is shown as."""
    code, message = common.ErrorCode(code_of(refusal)), refusal.message
    match refusal:
        case errors.InvalidInput():
            problems = [common.FieldError(path=p.path, message=p.message) for p in refusal.problems]
            return common.InvalidInput(code=code, message=message, fields=problems)
        case errors.NotFound():
            return common.NotFound(code=code, message=message, missing_id=strawberry.ID(refusal.id))
        case errors.Conflict():
            id = strawberry.ID(refusal.id) if refusal.id is not None else None
            return common.Conflict(code=code, message=message, conflicting_id=id)
        case errors.QueueFull():
            seconds = refusal.retry_after_seconds
            return common.QueueFull(code=code, message=message, retry_after_seconds=seconds)
    raise TypeError(f"{type(refusal)} has no place in the API.")


def code_of(refusal: errors.Refusal) -> str:
    """Return the ErrorCode of a refusal."""
    match refusal:
        case errors.InvalidInput():
            return common.ErrorCode.INVALID_INPUT
        case errors.NotFound():
            return common.ErrorCode.NOT_FOUND
        case errors.Conflict() | errors.QueueFull():
            return refusal.code
    raise TypeError(f"{type(refusal)} has no place in the API.")


def top_level(refusal: errors.Refusal, error: GraphQLError) -> GraphQLError:
    """Return the entry in ``errors`` for a refusal where no union has a place for it."""
    extensions: dict[str, Any] = {"code": str(code_of(refusal))}
    if isinstance(refusal, errors.InvalidInput):
        extensions["fields"] = [{"path": p.path, "message": p.message} for p in refusal.problems]
    if isinstance(refusal, errors.QueueFull):
        extensions["retryAfterSeconds"] = refusal.retry_after_seconds
    return GraphQLError(refusal.message, nodes=error.nodes, path=error.path, extensions=extensions)


class RefusalHandler:
    """Puts a kind of refusal into the unions that have its type; Strawberry calls it for no others."""

    def __init__(self, exception_type: type[errors.Refusal], error_type: type[RefusalType]) -> None:
        self.exception_type = exception_type
        self.error_type = error_type

    def handle(
        self, exception: errors.Refusal, *, field: StrawberryField, info: strawberry.Info
    ) -> RefusalType:
        """Return the union member, and note the refusal for the log."""
        info.context.refusal = code_of(exception)
        return refusal_type(exception)


HANDLERS = (
    RefusalHandler(errors.InvalidInput, common.InvalidInput),
    RefusalHandler(errors.NotFound, common.NotFound),
    RefusalHandler(errors.Conflict, common.Conflict),
    RefusalHandler(errors.QueueFull, common.QueueFull),
)
