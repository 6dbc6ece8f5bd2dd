"""What the documents of the explorer cost."""

import json
from pathlib import Path
from typing import Any

import pytest
from graphql import FragmentDefinitionNode, OperationDefinitionNode, concat_ast, parse, validate

from gql_server.api.operations.costs import cost_of
from gql_server.api.schema import schema
from gql_server.settings import Settings

PAGES = Path(__file__).parents[3] / "explorer/src"
DOCUMENT = concat_ast([parse(path.read_text()) for path in sorted(PAGES.rglob("*.graphql"))])
OPERATIONS = {
    one.name.value: one
    for one in DOCUMENT.definitions
    if isinstance(one, OperationDefinitionNode) and one.name is not None
}
FRAGMENTS = {one.name.value: one for one in DOCUMENT.definitions if isinstance(one, FragmentDefinitionNode)}
VARIABLES: dict[str, Any] = json.loads(Path(__file__).with_name("page_variables.json").read_text())


def test_every_page_is_valid_and_every_query_that_takes_variables_has_some() -> None:
    assert validate(schema._schema, DOCUMENT) == []
    takes = {name for name, one in OPERATIONS.items() if one.variable_definitions}
    asks = {name for name in takes if not name.endswith("Mutation")}
    assert asks <= VARIABLES.keys() <= takes


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name in VARIABLES or "Mutation" not in name])
def test_a_page_costs_less_than_half_of_what_an_operation_may(name: str) -> None:
    cost = cost_of(schema._schema, OPERATIONS[name], FRAGMENTS, VARIABLES.get(name, {}))
    assert cost is not None
    assert 0 < cost < Settings().max_query_cost / 2
