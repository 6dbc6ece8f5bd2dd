"""The exported schema can replace the whole contract without breaking a client."""

from pathlib import Path

import pytest
from graphql import (
    DangerousChangeType,
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    find_breaking_changes,
    find_dangerous_changes,
    print_ast,
)

from gql_server.api.schema import export, schema

CONTRACT = Path(__file__).parent / "contract.graphql"
RELEASED = Path(__file__).parent / "released.graphql"
EXPORTED = Path(__file__).parents[2] / "schema.graphql"

# Clients need a default branch for these: the contract says that they may grow.
ALLOWED = {
    DangerousChangeType.TYPE_ADDED_TO_UNION,
    DangerousChangeType.VALUE_ADDED_TO_ENUM,
    DangerousChangeType.IMPLEMENTED_INTERFACE_ADDED,
    DangerousChangeType.OPTIONAL_ARG_ADDED,
    DangerousChangeType.OPTIONAL_INPUT_FIELD_ADDED,
}

# Relay compiles no document that asks for fields of one name and different types in members of a union.
RENAMED_SINCE_THE_RELEASE = [
    "Field Conflict.id was removed.",
    "Field Deleted.id was removed.",
    "Field NotFound.id was removed.",
]


@pytest.fixture
def contract() -> GraphQLSchema:
    return build_schema(CONTRACT.read_text())


@pytest.fixture
def exported() -> GraphQLSchema:
    return build_schema(export())


def test_no_change_from_the_contract_breaks_a_client(
    contract: GraphQLSchema, exported: GraphQLSchema
) -> None:
    assert [change.description for change in find_breaking_changes(contract, exported)] == []


def test_no_change_from_the_last_release_breaks_a_client(exported: GraphQLSchema) -> None:
    released = build_schema(RELEASED.read_text())
    breaking = [change.description for change in find_breaking_changes(released, exported)]
    assert sorted(breaking) == RENAMED_SINCE_THE_RELEASE
    dangerous = find_dangerous_changes(released, exported)
    assert [change.description for change in dangerous if change.type not in ALLOWED] == [
        'TrainSaeInput.saeClass has changed defaultValue from "TopKSae" to "BatchTopKSae".'
    ]
    assert changes_of_defaults(released, exported) == ["TrainSaeInput.saeClass"]


def test_changes_from_the_contract_are_those_that_clients_must_expect(
    contract: GraphQLSchema, exported: GraphQLSchema
) -> None:
    changes = find_dangerous_changes(contract, exported)
    assert [change.description for change in changes if change.type not in ALLOWED] == []


def test_defaults_are_those_of_the_contract(contract: GraphQLSchema, exported: GraphQLSchema) -> None:
    # A default that the contract lacks is no change to graphql-core, but one to clients that leave it out.
    assert changes_of_defaults(contract, exported) == []


def changes_of_defaults(old: GraphQLSchema, new: GraphQLSchema) -> list[str]:
    """Return the arguments and input fields whose default or optionality differs."""
    before, after = inputs_in(old), inputs_in(new)
    # What nobody could leave out may become optional.
    return [name for name in before if after[name] not in (before[name], before[name].removesuffix("!"))]


def inputs_in(graphql_schema: GraphQLSchema) -> dict[str, str]:
    """Return how every argument and input field is written, without descriptions."""
    inputs: dict[str, str] = {}
    for type_name, type_ in graphql_schema.type_map.items():
        if type_name.startswith("__"):
            continue
        if isinstance(type_, GraphQLInputObjectType):
            for name, field in type_.fields.items():
                inputs[f"{type_name}.{name}"] = written(field)
        elif isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in type_.fields.items():
                for argument_name, argument in field.args.items():
                    inputs[f"{type_name}.{name}({argument_name})"] = written(argument)
    return inputs


def written(value: GraphQLInputField | GraphQLArgument) -> str:
    """Return the type and the default as the schema has them."""
    assert value.ast_node is not None
    default = value.ast_node.default_value
    return f"{value.type}" if default is None else f"{value.type} = {print_ast(default)}"


def test_one_of_inputs_are_those_of_the_contract(contract: GraphQLSchema, exported: GraphQLSchema) -> None:
    known = set(contract.type_map)
    assert {name for name in one_of_inputs(exported) if name in known} == one_of_inputs(contract)


def one_of_inputs(graphql_schema: GraphQLSchema) -> set[str]:
    """Return the names of the @oneOf inputs."""
    types = graphql_schema.type_map.values()
    return {type_.name for type_ in types if isinstance(type_, GraphQLInputObjectType) and type_.is_one_of}


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
