"""Every GraphQL document that people or programs are told to send is valid against schema.graphql."""

import re
from pathlib import Path

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

from gql_server.tour import documents, steering, steps
from tests.support.documents import ROOT, TABS, graphql_blocks, tab_variables


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


@pytest.mark.parametrize("tab", sorted(TABS.glob("*.graphql")), ids=lambda path: path.stem)
def test_a_tab_has_one_operation_and_its_variables_fit_and_none_is_missing(
    tab: Path, schema: GraphQLSchema
) -> None:
    values = tab_variables(tab)
    operations = [
        node for node in parse(tab.read_text()).definitions if isinstance(node, OperationDefinitionNode)
    ]
    wanted: dict[str, TypeNode] = {}
    required: set[str] = set()
    for operation in operations:
        declared = operation.variable_definitions or ()
        wanted |= {node.variable.name.value: node.type for node in declared}
        required |= {node.variable.name.value for node in declared if node.default_value is None}

    assert len(operations) == 1
    assert required <= values.keys() <= wanted.keys()
    for name, value in values.items():
        type = type_from_ast(schema, wanted[name])
        assert is_input_type(type)
        coerce_input_value(value, type)


def test_the_readme_begins_with_the_query_of_the_first_tab() -> None:
    first_tab = re.sub(r"^#.*\n", "", (TABS / "00_overview.graphql").read_text(), flags=re.MULTILINE)

    assert graphql_blocks(ROOT / "README.md")[0] == first_tab


def test_the_tabs_begin_with_what_is_right_for_the_run_of_the_tour() -> None:
    capture, measure = (tab_variables(TABS / f"{name}.graphql") for name in ("04_capture", "09_measure"))

    assert capture["sampleLimit"] == measure["sampleOffset"] == steps.SAMPLE_LIMIT
    assert capture["layer"].endswith(f"_{steps.DEPTH}")
    assert tab_variables(TABS / "05_train.graphql")["latentCount"] == steps.LATENT_COUNT
    assert tab_variables(TABS / "08_steer.graphql")["prompt"] == steering.PROMPT
