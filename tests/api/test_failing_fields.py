"""An error in one field leaves the others what they wait for."""

import pytest

from gql_server.services.app_context import AppContext
from tests.api.asking import execute
from tests.support.serving import add_language_model, add_run, add_sae

FAILING = "neurons(first: 0) { totalCount }"
SHARED = "languageModel { name }"


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
