"""What clients are told of an SAE's layers."""

import pytest

from gql_server.services.app_context import AppContext
from tests.api.asking import ask
from tests.support.serving import add_language_model, add_run, add_sae


@pytest.mark.parametrize("written", [None, "m_layers_1_mlp"])
async def test_an_sae_says_which_layer_it_reads_and_which_it_writes(
    server: AppContext, written: str | None
) -> None:
    run = await add_run(server, await add_language_model(server))
    sae = await add_sae(server, run, output_layer=written)
    query = "query($id: ID!) { sae(id: $id) { layer inputLayer outputLayer } }"
    assert (await ask(server, query, id=sae.id))["sae"] == {
        "layer": "m_layers_1",
        "inputLayer": "m_layers_1",
        "outputLayer": written or "m_layers_1",
    }
