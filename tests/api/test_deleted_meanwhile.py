"""What is deleted while an operation reads is not found, which is no fault of the server's."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from gql_server import ids
from gql_server.api import language_models, saes
from gql_server.api.context import Context
from gql_server.errors import NotFound
from gql_server.services import neuron_tensors
from gql_server.services.app_context import AppContext
from models import NeuronIndex
from tests.api.asking import execute
from tests.support.artifact_files import add_neuron_index
from tests.support.serving import add_language_model, add_run, add_sae


@pytest.mark.parametrize(
    ("read", "kind"),
    [(saes.sae_row_of, ids.SAE), (language_models.language_model_of, ids.LANGUAGE_MODEL)],
)
async def test_what_a_foreign_key_names_and_has_gone_is_not_found(
    server: AppContext, read: Callable[[Any, str], Awaitable[object]], kind: str
) -> None:
    info = SimpleNamespace(context=Context(server))
    with pytest.raises(NotFound, match=kind):
        await read(info, ids.new(kind))


NEURON = "neuron(index: 0) { frequency activationHistogram { counts } }"


async def test_an_index_whose_file_has_gone_is_a_conflict_and_another_is_read(server: AppContext) -> None:
    run = await add_run(server, await add_language_model(server))
    there, gone = [await add_sae(server, run, latent_count=4) for _ in range(2)]
    for sae in (there, gone):
        await add_neuron_index(server, sae)
    async with server.database.read() as session:
        index = await session.scalar(select(NeuronIndex).where(NeuronIndex.sae_id == gone.id))
    assert index is not None
    neuron_tensors.path_of(server.settings, index.id).unlink()

    result = await execute(
        server,
        f"""query($there: ID!, $gone: ID!) {{
          there: sae(id: $there) {{ {NEURON} }}
          gone: sae(id: $gone) {{ {NEURON} }}
          ordered: sae(id: $gone) {{ neurons(orderBy: FREQUENCY_DESC) {{ totalCount }} }} }}""",
        there=there.id,
        gone=gone.id,
    )

    assert result.data is not None and result.data["there"]["neuron"]["frequency"] is not None
    assert {str(error.path[0]) for error in result.errors or [] if error.path} == {"gone", "ordered"}
    assert {(error.extensions or {}).get("code") for error in result.errors or []} == {"CONFLICT"}
