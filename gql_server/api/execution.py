"""What many subscribers to the same must share, and what no event of a subscription may leave behind."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from graphql import DocumentNode, GraphQLError, GraphQLObjectType, parse
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

SHARED_DOCUMENTS = 128
MAX_SHARED_CHARACTERS = 10_000


class SharedDocuments(SchemaExtension):
    """Parses a short document once for all who send it; each subscription holds its document to its end."""

    def on_parse(self) -> Iterator[None]:
        """Put the document where Strawberry looks for it before it parses."""
        execution = self.execution_context
        if execution.query and len(execution.query) <= MAX_SHARED_CHARACTERS:
            with suppress(GraphQLError):  # Strawberry finds the mistake again, and says so in its own way.
                options: dict[str, Any] = dict(execution.parse_options)
                execution.graphql_document = _parse(execution.query, **options)
        yield


@lru_cache(maxsize=SHARED_DOCUMENTS)
def _parse(text: str, **options: Any) -> DocumentNode:
    return parse(text, **options)


class Execution(StrawberryGraphQLCoreExecutionContext):
    """An executor that collects what a selection asks for once for all events of a subscription.

    graphql-core remembers that by the identity of a list that it makes anew for each event: it never finds it
    again, and keeps all of it until the subscription ends (some 4 kB an event).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._subfields: dict[tuple[Any, ...], Any] = {}

    def collect_subfields(self, return_type: GraphQLObjectType, field_details_list: list[Any]) -> Any:
        """Return what is selected of a type, remembered by the places in the document that select it."""
        # The document lives as long as this does, so the identities of its nodes are good keys.
        key = (return_type, *(id(details.node) for details in field_details_list))
        collected = self._subfields.get(key)
        if collected is None:
            collected = super().collect_subfields(return_type, field_details_list)
            self._relevant_sub_fields.clear()
            self._subfields[key] = collected
        return collected
