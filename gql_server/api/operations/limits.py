"""Refuses operations that ask for too much, before they are run, and those that take too long."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    NameNode,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    get_operation_ast,
    parse,
)
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import validate_document
from strawberry.types.graphql import OperationType

from gql_server.api.common import ErrorCode
from gql_server.api.operations.costs import cost_of
from gql_server.api.operations.documents import Document, Shape, fragments_of, is_known, read, text_size
from gql_server.settings import Settings

LARGE_COST = 3_000
"""The cost of a query from which on it may take more than 20 ms without a pause."""
FAR_BEYOND = 10
"""Counting values stops at so many times the limit."""
MAX_NESTING = 100
"""Brackets inside brackets; the parser itself gives up at about twice as many."""

_TYPENAME: Any = parse("{ __typename }").definitions[0]


def too_complex(limit: str, allowed: float, actual: float, sentence: str) -> GraphQLError:
    """Return the refusal of what goes beyond a limit.

    Args:
        limit: Which limit it is.
        allowed: What it allows.
        actual: What was asked for.
        sentence: The same for people.
    """
    extensions = {"code": str(ErrorCode.TOO_COMPLEX), "limit": limit, "allowed": allowed, "actual": actual}
    return GraphQLError(sentence, extensions=extensions)


class Limits(SchemaExtension):
    """Checks the text, then the document's shape, then its cost: each limits the time of the next check."""

    def __init__(self) -> None:
        self._refusal: GraphQLError | None = None
        self._document: Document | None = None
        self._cost: int | None = None
        self._shown = False
        self._is_new, self._began = False, 0.0

    async def on_operation(self) -> AsyncIterator[None]:
        """Wait for a turn; an operation that takes longer than one goes on without it."""
        context = self.execution_context.context
        text = self.execution_context.query or ""
        line = context.server.operation_turns.of(text, is_known=is_known(text))
        self._turn = await line.take(context.client)
        try:
            yield
        finally:
            self._turn.end()

    def on_parse(self) -> Iterator[None]:
        """Parse the text in Strawberry's place, unless it is too large."""
        execution = self.execution_context
        if execution.query:
            self._is_new, self._began = not is_known(execution.query), time.monotonic()
            self._refusal = _refusal_of_text(execution.query, self._limits_of(execution.query)) or (
                _refusal_of_values(execution.variables or {}, self._settings)
            )
            if self._refusal:
                execution.graphql_document = _stand_in(execution.operation_name)
            else:
                self._read(execution.query)
        try:
            yield
        finally:
            # A text with a mistake is parsed once more by Strawberry, and never validated.
            self._note_reading()

    def on_validate(self) -> Iterator[None]:
        """Refuse the document for its size, its mistakes or its cost, in this order."""
        execution = self.execution_context
        if execution.pre_execution_errors is None:
            refusal = self._refusal or (
                self._document and _refusal_of_shape(self._document.shape, self._limits())
            )
            execution.pre_execution_errors = [refusal] if refusal else self._errors()
        self._note_reading()
        yield

    async def on_execute(self) -> AsyncIterator[None]:
        """End what takes too long; a subscription only until it has begun."""
        context, is_query = self.execution_context.context, self._operation_is(OperationType.QUERY)
        server, client = context.server, context.client
        # All of the schema is some 100 ms, whatever an answer's values are counted as.
        asks_for_schema = "__schema" in (self.execution_context.query or "")
        is_large = is_query and (asks_for_schema or (self._cost or 0) > LARGE_COST)
        if is_large:
            self._turn.end()  # It waits for another one.
        try:
            async with (
                server.operation_turns.large.turn(client) if is_large else nullcontext(),
                self._in_time(),
            ):
                yield
        finally:
            self._turn.end()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        seconds = self._settings.max_execution_seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            message = f"The operation takes too long; the limit is {seconds:g} s."
            raise too_complex("seconds", seconds, seconds, message) from None

    def get_results(self) -> dict[str, Any]:
        """Return the operation's cost; a subscription's with its first event alone."""
        if self._cost is None or self._shown:
            return {}
        self._shown = self._operation_is(OperationType.SUBSCRIPTION)
        return {"cost": {"estimated": self._cost, "limit": self._limits().max_query_cost}}

    def _operation_is(self, type: OperationType) -> bool:
        return self.execution_context.operation_type is type

    def _note_reading(self) -> None:
        if self._is_new:
            self._turn.held_up(time.monotonic() - self._began)

    @property
    def _settings(self) -> Settings:
        settings: Settings = self.execution_context.context.server.settings
        return settings

    def _limits(self) -> Settings:
        """Return the limits that the document has."""
        introspects = self._document is not None and self._document.only_introspects
        return for_introspection(self._settings) if introspects else self._settings

    def _limits_of(self, text: str) -> Settings:
        """Return the limits that a text has; it is parsed where those for introspection alone allow it."""
        higher = for_introspection(self._settings)
        if _refusal_of_text(text, self._settings) and not _refusal_of_text(text, higher):
            self._read(text)
        return self._limits()

    def _read(self, text: str) -> None:
        try:
            self._document = read(text)
        except GraphQLError:
            return  # Strawberry finds the mistake again, and says so in its own way.
        self.execution_context.graphql_document = self._document.node

    def _errors(self) -> list[GraphQLError]:
        """Return the document's mistakes by GraphQL's rules or, if there are none, the error of its cost."""
        document, introspection = self._document, self._settings.introspection
        assert document is not None, "one that cannot be parsed is not validated"
        if introspection not in document.found_valid:
            rules = self.execution_context.validation_rules
            if not introspection:
                rules = (*rules, NoSchemaIntrospectionCustomRule)
            errors = validate_document(self.execution_context.schema._schema, document.node, rules)
            if errors:
                return errors
            document.found_valid.add(introspection)
        return self._cost_errors(document.node)

    def _cost_errors(self, document: DocumentNode) -> list[GraphQLError]:
        execution, limit = self.execution_context, self._limits().max_query_cost
        operation = get_operation_ast(document, execution.operation_name)
        if not isinstance(operation, OperationDefinitionNode):
            return []
        fragments, variables = fragments_of(document), execution.variables or {}
        self._cost = cost_of(execution.schema._schema, operation, fragments, variables)
        execution.context.cost = self._cost or 0
        if self._cost is None or self._cost <= limit:
            return []
        message = (
            f"The query's cost is {self._cost:,}; the limit is {limit:,}. Ask for smaller pages, fewer"
            " fields or fewer prompts."
        )
        return [too_complex("cost", limit, self._cost, message)]


def for_introspection(settings: Settings) -> Settings:
    """Return the limits for documents that ask for the schema alone: no lower than the settings' defaults.

    Clients and tools send one and the same document, which takes what the schema takes, whatever an
    operator allows operations on data.
    """
    names = ("characters", "tokens", "depth", "aliases", "overlaps", "cost")
    fields = type(settings).model_fields
    higher = {
        f"max_query_{name}": max(getattr(settings, f"max_query_{name}"), fields[f"max_query_{name}"].default)
        for name in names
    }
    return settings.model_copy(update=higher)


def _refusal_of_text(text: str, settings: Settings) -> GraphQLError | None:
    allowed, actual = settings.max_query_characters, len(text)
    if actual > allowed:
        message = f"The document has {actual:,} characters; the limit is {allowed:,}."
        return too_complex("characters", allowed, actual, message)
    size = text_size(text)
    if size.tokens > settings.max_query_tokens:
        message = f"The document has {size.tokens:,} tokens; the limit is {settings.max_query_tokens:,}."
        return too_complex("tokens", settings.max_query_tokens, size.tokens, message)
    if size.nesting > MAX_NESTING:
        message = f"The document's brackets are {size.nesting:,} deep; the limit is {MAX_NESTING}."
        return too_complex("nesting", MAX_NESTING, size.nesting, message)
    return None


def _refusal_of_values(variables: dict[str, Any], settings: Settings) -> GraphQLError | None:
    allowed = settings.max_variable_values
    at_most = FAR_BEYOND * allowed
    actual = _count(variables, at_most)
    if actual <= allowed:
        return None
    or_more = " or more" if actual >= at_most else ""
    sentence = f"The variables have {actual:,}{or_more} values; the limit is {allowed:,}."
    return too_complex("values", allowed, actual, f"{sentence} Send a long list as a file.")


def _count(variables: dict[str, Any], at_most: int) -> int:
    """Return how many values there are, those inside others among them; counting ends at ``at_most``."""
    count, rest = 0, list(variables.values())
    while rest and count < at_most:
        count += 1
        match rest.pop():
            case dict(members):
                rest += members.values()
            case list(items):
                rest += items
    return count


def _refusal_of_shape(shape: Shape, settings: Settings) -> GraphQLError | None:
    if shape.depth > settings.max_query_depth:
        message = (
            f"The document's fields are {shape.depth:,} deep; the limit is {settings.max_query_depth:,}."
        )
        return too_complex("depth", settings.max_query_depth, shape.depth, message)
    if shape.aliases > settings.max_query_aliases:
        message = (
            f"The document has {shape.aliases:,} aliases and repeated fields; the limit is"
            f" {settings.max_query_aliases:,}. Page through lists instead of naming their entries one by one."
        )
        return too_complex("aliases", settings.max_query_aliases, shape.aliases, message)
    # Validation compares each pair, in some 7 µs.
    if shape.overlaps > settings.max_query_overlaps:
        message = (
            f"The document has {shape.overlaps:,} pairs of fields for one place of the answer; the limit is"
            f" {settings.max_query_overlaps:,}. Ask for each field once."
        )
        return too_complex("overlaps", settings.max_query_overlaps, shape.overlaps, message)
    return None


def _stand_in(operation_name: str | None) -> DocumentNode:
    """Return a document in place of one that is refused unparsed.

    An error that on_parse raised would escape from Strawberry's event streams; one of on_validate is sent.
    """
    name = NameNode(value=operation_name) if operation_name else None
    return DocumentNode(definitions=(replace(_TYPENAME, name=name),))
