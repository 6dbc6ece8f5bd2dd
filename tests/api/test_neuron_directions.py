"""What the API says of neurons' decoder directions."""

import pytest

from gql_server import ids
from gql_server.services import artifacts, neuron_tensors
from gql_server.services.app_context import AppContext
from models import NeuronIndex, Sae
from models.enums import ArtifactStatus
from tests.api.asking import ask, counted_statements, first_error
from tests.support.serving import add_language_model, add_run, add_sae


async def test_tokens_and_neurons_of_directions_are_read_at_once_with_their_texts(server: AppContext) -> None:
    sae, index_id = await add_indexed(server)
    write_directions(server, sae.language_model_id, index_id)
    query = """query ($id: ID!) { sae(id: $id) { neurons(first: 32) { nodes {
      promotedTokens(first: 2) { token tokenId effect } suppressedTokens { token effect }
      similarNeurons(first: 1) { neuron { index id } cosine } } } } }"""
    with counted_statements(server) as statements:
        nodes = (await ask(server, query, id=sae.id))["sae"]["neurons"]["nodes"]
    assert len(statements) <= 3
    assert nodes[3]["promotedTokens"] == [
        {"token": " mat", "tokenId": 1, "effect": 3.0},
        {"token": "Ã", "tokenId": 2, "effect": 2.0},
    ]
    assert nodes[3]["suppressedTokens"] == [{"token": "the", "effect": -1.0}]
    assert nodes[3]["similarNeurons"] == [
        {"neuron": {"index": 4, "id": ids.neuron_id(sae.id, 4)}, "cosine": 0.5}
    ]
    assert nodes[31]["similarNeurons"] == []


@pytest.mark.parametrize("name", ["promotedTokens", "suppressedTokens", "similarNeurons"])
async def test_an_index_without_directions_cannot_tell_of_them(server: AppContext, name: str) -> None:
    sae, index_id = await add_indexed(server)
    fields = "{ token }" if name.endswith("Tokens") else "{ cosine }"
    asked = f"neuron(index: 0) {{ {name}(first: $n) {fields} }}"
    query = f"query ($id: ID!, $n: Int!) {{ sae(id: $id) {{ {asked} }} }}"
    write_directions(server, sae.language_model_id, index_id, without=True)
    assert (await ask(server, query, id=sae.id, n=50))["sae"]["neuron"] == {name: None}
    for number in (0, 51):
        error = await first_error(server, query, id=sae.id, n=number)
        assert error["extensions"]["code"] == "INVALID_INPUT"
        assert "from 1 to 50" in error["message"]


async def test_tokens_cannot_be_told_without_the_tokenizer(server: AppContext) -> None:
    sae, index_id = await add_indexed(server)
    write_directions(server, sae.language_model_id, index_id)
    (artifacts.copy_directory(server.settings, sae.language_model_id) / "tokenizer.json").unlink()
    query = """query ($id: ID!) { sae(id: $id) { neuron(index: 0) {
      promotedTokens { token } similarNeurons { cosine } } } }"""
    assert (await ask(server, query, id=sae.id))["sae"]["neuron"] == {
        "promotedTokens": None,
        "similarNeurons": [{"cosine": 0.5}],
    }


async def test_without_the_tokenizer_tokens_are_told_by_the_texts_that_an_index_has_left(
    server: AppContext,
) -> None:
    sae, index_id = await add_indexed(server)
    write_directions(server, sae.language_model_id, index_id)
    directory = artifacts.copy_directory(server.settings, sae.language_model_id)
    (directory / "tokenizer.json").unlink()
    (directory / "token_texts.json").write_text('["the", " mat", "\\u00c3"]')
    query = "query ($id: ID!) { sae(id: $id) { neuron(index: 0) { promotedTokens { token } } } }"
    found = (await ask(server, query, id=sae.id))["sae"]["neuron"]["promotedTokens"]
    assert [entry["token"] for entry in found] == [" mat", "Ã", "the"]


async def test_effects_that_are_not_finite_are_not_told(server: AppContext) -> None:
    sae, index_id = await add_indexed(server)
    write_directions(server, sae.language_model_id, index_id, strongest=float("inf"))
    query = """query ($id: ID!) { sae(id: $id) { neuron(index: 0) {
      promotedTokens { effect } suppressedTokens { effect } } } }"""
    assert (await ask(server, query, id=sae.id))["sae"]["neuron"] == {
        "promotedTokens": None,
        "suppressedTokens": [{"effect": -1.0}],
    }


async def add_indexed(server: AppContext) -> tuple[Sae, str]:
    """Insert an SAE of 32 neurons with a READY index; return it and the index's ID."""
    run = await add_run(server, await add_language_model(server))
    sae = await add_sae(server, run)
    index = NeuronIndex(
        id=ids.new(ids.NEURON_INDEX),
        sae_id=sae.id,
        status=ArtifactStatus.READY,
        activation_run_id=run.id,
        top_texts_per_neuron=2,
    )
    async with server.database.write() as session:
        session.add(index)
    return sae, index.id


def write_directions(
    server: AppContext, language_model_id: str, index_id: str, without: bool = False, strongest: float = 3.0
) -> None:
    """Write an index in which every neuron raises two tokens and lowers one, and is like the next neuron."""
    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, decoders, models

    tokenizer = Tokenizer(models.BPE({"the": 0, "Ġmat": 1, "Ã": 2}, []))
    tokenizer.decoder = decoders.ByteLevel()
    copy_directory = artifacts.copy_directory(server.settings, language_model_id)
    copy_directory.mkdir(parents=True)
    tokenizer.save(str(copy_directory / "tokenizer.json"))
    (copy_directory / "special_token_ids.json").write_text("[]")
    following = np.append(np.arange(1, 32), -1).astype(np.int32)
    tensors = {
        "promoted_tokens": np.tile(np.array([1, 2, 0], dtype=np.int32), (32, 1)),
        "promoted_effects": np.tile(np.array([strongest, 2, 1], dtype=np.float32), (32, 1)),
        "suppressed_tokens": np.tile(np.array([0, -1, -1], dtype=np.int32), (32, 1)),
        "suppressed_effects": np.tile(np.array([-1, 0, 0], dtype=np.float32), (32, 1)),
        "similar_neurons": following[:, None],
        "similar_cosines": np.full((32, 1), 0.5, dtype=np.float32),
    }
    path = neuron_tensors.path_of(server.settings, index_id)
    path.parent.mkdir(parents=True)
    save_file({"firing_count": np.ones(32, dtype=np.int64)} if without else tensors, path)
