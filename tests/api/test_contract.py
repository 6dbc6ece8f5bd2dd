"""The exported schema can replace the contract without breaking a client, but for what is not built yet."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    REMOVE,
    DangerousChangeType,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    Node,
    TypeDefinitionNode,
    Visitor,
    build_ast_schema,
    build_schema,
    find_breaking_changes,
    find_dangerous_changes,
    parse,
    visit,
)

from gql_server.api.schema import export, schema

CONTRACT = Path(__file__).parent / "contract.graphql"
RELEASED = Path(__file__).parent / "released.graphql"
EXPORTED = Path(__file__).parents[2] / "schema.graphql"

NOT_BUILT = {}

# Clients need a default branch for these: the contract says that they may grow.
ALLOWED = {
    DangerousChangeType.TYPE_ADDED_TO_UNION,
    DangerousChangeType.VALUE_ADDED_TO_ENUM,
    DangerousChangeType.IMPLEMENTED_INTERFACE_ADDED,
    DangerousChangeType.OPTIONAL_ARG_ADDED,
    DangerousChangeType.OPTIONAL_INPUT_FIELD_ADDED,
}


class Without(Visitor):
    """Leaves some types ("Type") and fields ("Type.field") out of a document."""

    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self.names = names

    def enter(self, node: Node, *_: Any) -> Any:
        if not isinstance(node, TypeDefinitionNode):
            return None
        if node.name.value in self.names:
            return REMOVE
        fields: tuple[Any, ...] = getattr(node, "fields", None) or ()
        kept = [field for field in fields if f"{node.name.value}.{field.name.value}" not in self.names]
        return replace(node, fields=tuple(kept)) if len(kept) < len(fields) else None  # type: ignore[call-arg]


def names_in(graphql_schema: GraphQLSchema) -> set[str]:
    """Return the names of all types and fields."""
    names = set(graphql_schema.type_map)
    for type_name, type_ in graphql_schema.type_map.items():
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            names |= {f"{type_name}.{field}" for field in type_.fields}
    return names


@pytest.fixture
def built_contract() -> GraphQLSchema:
    return build_ast_schema(visit(parse(CONTRACT.read_text()), Without(NOT_BUILT)))


@pytest.fixture
def exported() -> GraphQLSchema:
    return build_schema(export())


def test_no_change_from_the_contract_breaks_a_client(
    built_contract: GraphQLSchema, exported: GraphQLSchema
) -> None:
    assert [change.description for change in find_breaking_changes(built_contract, exported)] == []


def test_no_change_from_the_last_release_breaks_a_client(exported: GraphQLSchema) -> None:
    released = build_schema(RELEASED.read_text())
    assert [change.description for change in find_breaking_changes(released, exported)] == []
    dangerous = find_dangerous_changes(released, exported)
    assert [change.description for change in dangerous if change.type not in ALLOWED] == []
    assert changes_of_defaults(released, exported) == []


def test_changes_from_the_contract_are_those_that_clients_must_expect(
    built_contract: GraphQLSchema, exported: GraphQLSchema
) -> None:
    changes = find_dangerous_changes(built_contract, exported)
    assert [change.description for change in changes if change.type not in ALLOWED] == []


def test_defaults_are_those_of_the_contract(built_contract: GraphQLSchema, exported: GraphQLSchema) -> None:
    # A default that the contract lacks is no change to graphql-core, but one to clients that leave it out.
    assert changes_of_defaults(built_contract, exported) == []


def changes_of_defaults(old: GraphQLSchema, new: GraphQLSchema) -> list[str]:
    """Return the arguments and input fields whose default or optionality differs."""
    before, after = inputs_in(old), inputs_in(new)
    return [name for name in before if before[name] != after[name]]


def inputs_in(graphql_schema: GraphQLSchema) -> dict[str, str]:
    """Return how every argument and input field is written, without descriptions."""
    inputs: dict[str, str] = {}
    for type_name, type_ in graphql_schema.type_map.items():
        if type_name.startswith("__"):
            continue
        if isinstance(type_, GraphQLInputObjectType):
            for name, field in type_.fields.items():
                inputs[f"{type_name}.{name}"] = f"{field.type} = {field.default_value}"
        elif isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in type_.fields.items():
                for argument_name, argument in field.args.items():
                    where = f"{type_name}.{name}({argument_name})"
                    inputs[where] = f"{argument.type} = {argument.default_value}"
    return inputs


def test_one_of_inputs_are_those_of_the_contract(
    built_contract: GraphQLSchema, exported: GraphQLSchema
) -> None:
    assert one_of_inputs(exported) == one_of_inputs(built_contract)


def one_of_inputs(graphql_schema: GraphQLSchema) -> set[str]:
    """Return the names of the @oneOf inputs."""
    types = graphql_schema.type_map.values()
    return {type_.name for type_ in types if isinstance(type_, GraphQLInputObjectType) and type_.is_one_of}


def test_the_list_of_what_is_not_built_is_exact(exported: GraphQLSchema) -> None:
    contract = names_in(build_schema(CONTRACT.read_text()))
    assert contract >= NOT_BUILT, "not in the contract"
    assert not NOT_BUILT & names_in(exported), "built: take it off the list"
    types_not_built = {name for name in NOT_BUILT if "." not in name}
    missing = {name for name in contract - names_in(exported) if name.split(".")[0] not in types_not_built}
    assert missing == NOT_BUILT - types_not_built


def test_everything_has_a_description() -> None:
    assert undescribed(build_schema(export())) == []


def undescribed(graphql_schema: GraphQLSchema) -> list[str]:
    """Return what has no description."""
    missing = []
    for type_name, type_ in graphql_schema.type_map.items():
        if type_name.startswith("__") or type_name in {"String", "Int", "Float", "Boolean", "ID"}:
            continue
        parts = {type_name: type_.description}
        if isinstance(type_, GraphQLEnumType):
            parts |= {f"{type_name}.{name}": value.description for name, value in type_.values.items()}
        for name, field in getattr(type_, "fields", {}).items():
            parts[f"{type_name}.{name}"] = field.description
            for argument_name, argument in getattr(field, "args", {}).items():
                parts[f"{type_name}.{name}({argument_name})"] = argument.description
        missing += [name for name, description in parts.items() if not description]
    return missing


def test_the_exported_file_is_up_to_date() -> None:
    assert EXPORTED.read_text() == export(), "run gql-server export-schema > schema.graphql"


def test_the_exported_file_describes_the_schema_that_is_served() -> None:
    assert find_breaking_changes(schema._schema, build_schema(export())) == []
