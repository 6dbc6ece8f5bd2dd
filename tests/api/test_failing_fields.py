"""An error in one field leaves the others what they wait for."""

import pytest

from gql_server.services import cursors
from gql_server.services.app_context import AppContext
from tests.api.asking import execute
from tests.support.serving import add_language_model, add_run, add_sae

FAILING = "neurons(first: 0) { totalCount }"
SHARED = "languageModel { name }"
NOON = cursors.encode("CONCEPT_UPDATED_DESC", "noon", 1)  # Which is no time.


@pytest.mark.parametrize("fields", [f"{FAILING} {SHARED}", f"{SHARED} {FAILING}"])
async def test_a_failing_field_does_not_cancel_what_another_object_reads_too(
    server: AppContext, fields: str
) -> None:
    language_model = await add_language_model(server)
    run = await add_run(server, language_model)
    saes = [await add_sae(server, run) for _ in range(2)]

    result = await execute(
        server,
        f"query($a: ID!, $b: ID!) {{ a: sae(id: $a) {{ {fields} }} b: sae(id: $b) {{ {SHARED} }} }}",
        a=saes[0].id,
        b=saes[1].id,
    )

    assert result.data == {"a": None, "b": {"languageModel": {"name": language_model.name}}}
    assert [error.path for error in result.errors or []] == [["a", "neurons"]]


@pytest.mark.parametrize(
    ("bad", "good", "empty"),
    [
        ("evaluations(first: 0) { __typename }", "evaluations(first: 1) { l0 }", {"evaluations": []}),
        (
            "neurons(first: 1, offset: -1) { totalCount }",
            "neurons(first: 1) { totalCount }",
            {"neurons": {"totalCount": 32}},
        ),
        (
            'neurons(first: 1) { nodes { nextIndex(filter: {search: "a b c d e f g h i"}) } }',
            "neurons(first: 1) { nodes { nextIndex } }",
            {"neurons": {"nodes": [{"nextIndex": 1}]}},
        ),
        (
            f'neurons(first: 1, orderBy: CONCEPT_UPDATED_DESC, after: "{NOON}") {{ totalCount }}',
            "neurons(first: 1, orderBy: CONCEPT_UPDATED_DESC) { totalCount }",
            {"neurons": {"totalCount": 32}},
        ),
    ],
)
async def test_a_bad_argument_fails_its_own_field_alone(
    server: AppContext, bad: str, good: str, empty: object
) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    query = f"query($id: ID!) {{ a: sae(id: $id) {{ {bad} }} b: sae(id: $id) {{ {good} }} }}"

    result = await execute(server, query, id=sae.id)

    assert result.data is not None and result.data["b"] == empty
    assert {error.path[0] for error in result.errors or [] if error.path} == {"a"}
    codes = {(error.extensions or {})["code"] for error in result.errors or []}
    assert codes == {"INVALID_INPUT"}
