"""Every GraphQL document that people or programs are told to send is valid against schema.graphql."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLSchema,
    build_schema,
    coerce_input_value,
    is_input_type,
    parse,
    type_from_ast,
    validate,
)
from graphql.language import OperationDefinitionNode, TypeNode

from gql_server.tour import documents, steps
from tests.support.documents import ROOT, TABS, graphql_blocks


def json_with_comments(text: str) -> dict[str, Any]:
    """Return the variables of a tab, as GraphiQL reads them."""
    found: dict[str, Any] = json.loads(re.sub(r"//.*", "", text))
    return found


def all_documents() -> dict[str, str]:
    found = {
        f"tour {name}": value for name, value in vars(documents).items() if name.isupper() and name[0] != "_"
    }
    found |= {f"tab {path.stem}": path.read_text() for path in TABS.glob("*.graphql")}
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        name = page.relative_to(ROOT)
        found |= {f"{name} {number}": text for number, text in enumerate(graphql_blocks(page), 1)}
    query, subscription = steps.to_paste("sae_01JD3Z")
    return found | {"tour query to paste": query, "tour subscription to paste": subscription}


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    return build_schema((ROOT / "schema.graphql").read_text())


@pytest.mark.parametrize("name", all_documents())
def test_a_document_is_valid_against_the_schema(name: str, schema: GraphQLSchema) -> None:
    assert validate(schema, parse(all_documents()[name])) == []


@pytest.mark.parametrize("variables", sorted(TABS.glob("*.jsonc")), ids=lambda path: path.stem)
def test_a_tabs_variables_fit_its_operations_and_none_is_missing(
    variables: Path, schema: GraphQLSchema
) -> None:
    values = json_with_comments(variables.read_text())
    wanted: dict[str, TypeNode] = {}
    required: set[str] = set()
    for definition in parse(variables.with_suffix(".graphql").read_text()).definitions:
        if isinstance(definition, OperationDefinitionNode):
            declared = definition.variable_definitions or ()
            wanted |= {node.variable.name.value: node.type for node in declared}
            required |= {node.variable.name.value for node in declared if node.default_value is None}

    assert required <= values.keys() <= wanted.keys()
    for name, value in values.items():
        type = type_from_ast(schema, wanted[name])
        assert is_input_type(type)
        coerce_input_value(value, type)


def test_the_readme_begins_with_the_query_of_the_first_tab() -> None:
    first_tab = re.sub(r"^#.*\n", "", (TABS / "overview.graphql").read_text())

    assert graphql_blocks(ROOT / "README.md")[0] == first_tab
