"""One log line for each GraphQL operation at its end, and its numbers for the metrics."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack

import structlog
from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.extensions import SchemaExtension
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError

from gql_server.api.common import ErrorCode
from gql_server.api.context import Context
from gql_server.api.operations.root_fields import root_fields
from gql_server.telemetry.outcomes import CANCELED, OK, outcome_of
from gql_server.telemetry.references import TRANSPORT, bind_new_reference
from gql_server.telemetry.telemetry import Telemetry
from gql_server.telemetry.tracing import prefixed

log = structlog.get_logger(__name__)

INVALID_DOCUMENT = "INVALID_DOCUMENT"
SLOW_SECONDS = 1.0
"""A query that took longer is worth a line, even if all went well."""
NAME = re.compile(r"\w{1,80}")
"""What of a client's own choice gets into the log."""
UNCLEAR = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)


class OperationLog(SchemaExtension):
    """Follows an operation from its arrival to its end; comes after OperationContext."""

    def on_operation(self) -> Iterator[None]:
        """Note how long the operation took and what became of it."""
        transport, began = TRANSPORT.get(), time.perf_counter()
        if transport == "websocket":
            bind_new_reference()
        self._span = self._telemetry.tracer.begin("GraphQL")
        error: BaseException | None = None
        with ExitStack() as self._under_way:
            try:
                yield
            except BaseException as raised:
                error = raised
                raise
            finally:
                self._tell(self._outcome(error), transport, time.perf_counter() - began)

    def on_execute(self) -> Iterator[None]:
        """Count it as under way, now that it is valid; a subscription goes on after this hook has ended."""
        first = next(iter(self._fields()), None)
        metrics = self._telemetry.metrics.graphql
        self._under_way.enter_context(metrics.executing(self._type(), first))
        yield

    def _tell(self, outcome: str, transport: str, seconds: float) -> None:
        type = self._type()
        self._telemetry.metrics.graphql.ended(type, outcome, transport, seconds)
        self._end_span(type, outcome)
        # Queries are many and change nothing; pages of GraphiQL or a dashboard would drown the rest.
        plain = type == "query" and outcome in (OK, CANCELED) and seconds < SLOW_SECONDS
        say = log.debug if plain else log.info
        say(
            "operation",
            operation=self._name(),
            type=type,
            fields=self._fields(),
            outcome=outcome,
            transport=transport,
            milliseconds=round(1000 * seconds, 1),
        )

    def _end_span(self, type: str, outcome: str) -> None:
        """End the span, without the document and its variables: they hold prompts."""
        self._span.name(f"GraphQL {type}")
        self._span.note(
            {
                "graphql.operation.type": type,
                "graphql.operation.name": self._name(),
                **prefixed({"fields": self._fields()}),
            }
        )
        self._span.conclude(outcome)
        self._span.end()

    @property
    def _telemetry(self) -> Telemetry:
        context: Context = self.execution_context.context
        return context.server.telemetry

    def _type(self) -> str:
        try:
            return self.execution_context.operation_type.value
        except RuntimeError:
            return "unknown"  # There is no document, or no operation of that name in it.

    def _name(self) -> str | None:
        name = self.execution_context.operation_name
        return name if name is not None and NAME.fullmatch(name) else None

    def _fields(self) -> list[str]:
        return root_fields(self.execution_context.graphql_document, self.execution_context.operation_name)

    def _outcome(self, error: BaseException | None) -> str:
        if isinstance(error, UNCLEAR):
            return ErrorCode.INVALID_INPUT
        if error is not None and not isinstance(error, GraphQLError):
            return outcome_of(error)
        errors = [error] if error is not None else self.execution_context.pre_execution_errors
        if errors:
            code = (errors[0].extensions or {}).get("code")
            # Clients are told of both as INVALID_INPUT; what is wrong with a document has a place in it.
            executing = self.execution_context.context.executing
            is_of_document = code == ErrorCode.INVALID_INPUT and errors[0].locations and not executing
            known = code in ErrorCode.__members__ and not is_of_document
            return str(code) if known else INVALID_DOCUMENT
        return self._refusal() or OK

    def _refusal(self) -> str | None:
        context: Context = self.execution_context.context
        return context.refusal
