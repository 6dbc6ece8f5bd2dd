"""What no event of a subscription may leave behind."""

from typing import Any

from graphql import GraphQLObjectType
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext


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
