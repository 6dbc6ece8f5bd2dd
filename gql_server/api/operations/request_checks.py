"""Checks of every operation before it runs, over HTTP and WebSocket alike."""

from collections.abc import Iterator

from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.types.graphql import OperationType

from gql_server.api.common import ErrorCode
from gql_server.api.context import Context
from gql_server.api.operations.documents import operations_of

INVALID_TEXT = "Text must be valid Unicode; the variables have half of a surrogate pair."
NO_OPERATION_NAME = "Must provide operation name if query contains multiple operations."


class RequestChecks(SchemaExtension):
    """Refuses invalid Unicode, and documents of several operations without a name of one."""

    def on_operation(self) -> Iterator[None]:
        """Note the client's operation name: later Strawberry gives the first operation's in its place."""
        execution, context = self.execution_context, self.execution_context.context
        self._asked_by_name = execution.operation_name is not None
        if isinstance(context, Context) and not context.streaming:
            allowed = set(execution.allowed_operations) - {OperationType.SUBSCRIPTION}
            execution.allowed_operations = allowed
        yield

    def on_validate(self) -> Iterator[None]:
        """Put the refusal where validation's own errors go, unless there are some."""
        refusal = None if self.execution_context.pre_execution_errors else self._refusal()
        if refusal is not None:
            error = GraphQLError(refusal, extensions={"code": str(ErrorCode.INVALID_INPUT)})
            self.execution_context.pre_execution_errors = [error]
        yield

    def _refusal(self) -> str | None:
        execution = self.execution_context
        document = execution.graphql_document
        if not self._asked_by_name and document and len(operations_of(document)) > 1:
            return NO_OPERATION_NAME
        # graphql-core refuses such text in the document; it cannot be told to do so in String and ID.
        return None if is_unicode(execution.variables) else INVALID_TEXT


def is_unicode(value: object) -> bool:
    """Return whether all text in a JSON value can be encoded: JSON's escapes may hold lone surrogates."""
    rest = [value]
    while rest:
        match rest.pop():
            case str(text) if not _is_encodable(text):
                return False
            case dict(members):
                rest += [*members.keys(), *members.values()]
            case list(items):
                rest += items
    return True


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
