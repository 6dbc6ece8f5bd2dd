"""Execution of operations: events of a subscription leave no garbage, and equal ones are executed once."""

import time
from collections.abc import Awaitable, Hashable
from functools import cached_property
from typing import Any

from graphql import ExecutionResult, GraphQLObjectType
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from gql_server.api.operations.json_text import json_bytes
from gql_server.api.operations.variables import used_within_events
from gql_server.api.whole_lists import Whole


class SharedData(dict[str, Any]):
    """An answer's data that goes to several subscribers, who must not change it."""

    @cached_property
    def text(self) -> str:
        """The same as JSON, written once for all of them."""
        return json_bytes(self).decode()


class Execution(StrawberryGraphQLCoreExecutionContext):
    """An executor for subscriptions with many events and many subscribers.

    graphql-core remembers what a selection asks for by the identity of a list that it makes anew for each
    event: it never finds it again, and keeps all of it until the subscription ends (some 4 kB an event). This
    one collects it once for all events.

    Subscribers who ask the same of the same event at the same moment share one execution.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._subfields: dict[tuple[Any, ...], Any] = {}
        self._asked: tuple[Hashable, ...] | None = None
        self._is_of_event = False

    def build_per_event_executor(self, payload: Any) -> Any:
        """Return a copy of this executor for an event."""
        if self._asked is None:
            self._asked = self._what_is_asked()
        executor: Any = super().build_per_event_executor(payload)
        executor._is_of_event = True
        return executor

    def execute_operation(self, serially: bool | None = None) -> Any:
        """Execute the operation or an event, if possible together with other subscribers."""
        if not self._is_of_event:
            return super().execute_operation(serially)
        snapshot_key = self.context_value.snapshot_key
        return self._execute_in_turn() if snapshot_key is None else self._execute_with_others(snapshot_key)

    async def _execute_with_others(self, snapshot_key: Hashable) -> ExecutionResult:
        result: ExecutionResult = await self.context_value.server.answers.do(
            (snapshot_key, self._asked),
            self._execute_to_share,
            can_share=lambda result: isinstance(result.data, SharedData),
        )
        return ExecutionResult(result.data, result.errors)

    async def _execute_to_share(self) -> ExecutionResult:
        """Execute, with data that others can share unless there are errors: each gets its own of those."""
        result = await self._execute_in_turn()
        if not result.errors and result.data is not None:
            result.data = SharedData(result.data)
        return result

    async def _execute_in_turn(self) -> ExecutionResult:
        """Execute in one of few turns: an event takes many steps of the loop, which queries need too."""
        turn = await self.context_value.server.operation_turns.events.take(self.context_value.client)
        try:
            began = time.monotonic()
            result: Any = super().execute_operation(False)
            turn.held_up(time.monotonic() - began)
            executed: ExecutionResult = await result if isinstance(result, Awaitable) else result
            return executed
        finally:
            turn.end()

    def _what_is_asked(self) -> tuple[Hashable, ...]:
        """Return the key of equal requests for an event: the document, and the variables that it uses."""
        values = self.variable_values.coerced
        used = used_within_events(self.operation, self.fragment_definitions)
        # Documents are shared between operations with the same text; repr() tells 1 from True and 1.0.
        return (id(self.operation), *((name, repr(values[name])) for name in sorted(used & values.keys())))

    def complete_list_value(
        self, return_type: Any, field_details_list: Any, info: Any, path: Any, result: Any, context: Any
    ) -> Any:
        """Return a list's completed entries: whole lists as they are, others one by one."""
        if isinstance(result, Whole):
            return list(result)
        return super().complete_list_value(return_type, field_details_list, info, path, result, context)

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
