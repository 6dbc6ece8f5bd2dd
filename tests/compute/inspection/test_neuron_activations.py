"""Chosen neurons on every token of prompts, against encoding activations that were read by hand."""

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gql_server.compute.inspection import top_neurons
from gql_server.compute.inspection.neuron_activations import read_neuron_activations
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes import hooks
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import PromptLatentRows
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import ReadNeuronActivations
from tests.compute.conftest import RecordingContext
from tests.compute.sae_fixtures import N_LATENTS, layer_output, make_sae, sae_source

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

PROMPTS = ["True and False are the", "for x in range(10): print(x, 'of many', x * x)", "", "a<eos>b"]
NEURONS = [*range(N_LATENTS - 1, 20, -1), 0, 7]
"""Most of them, in an order of their own."""


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    return language_models.get(tiny_source)


@pytest.fixture(params=["TopKSae", "JumpReLUSae"])
def sae(lm: LanguageModel, request: pytest.FixtureRequest) -> Sae:
    return make_sae(lm, request.param)


def read(
    lm: LanguageModel, sae: Sae, source: LanguageModelSource, prompts: list[str], **changes: Any
) -> list[PromptLatentRows]:
    task = ReadNeuronActivations(source, sae_source(), prompts, None, NEURONS, 500)
    task = msgspec.structs.replace(task, **changes)
    return read_neuron_activations(task, RecordingContext(), lm, sae).prompts


def rows_of(found: PromptLatentRows) -> NDArray[Any]:
    return np.frombuffer(found.latents, "<f4").reshape(-1, len(found.tokens))


def by_hand(lm: LanguageModel, sae: Sae, ids: list[int]) -> tuple[Tensor, Tensor]:
    """Return latents [n_tokens, n_latents] with those of special tokens 0, and activations' lengths."""
    hidden = layer_output(lm, ids)
    latents = sae.encode(hidden).detach()
    latents[[token_id in lm.tokenizer.all_special_ids for token_id in ids]] = 0
    return latents, hidden.double().norm(dim=1)


@pytest.mark.parametrize(("dense", "per_batch"), [(2**24, 2**26), (N_LATENTS * 5, 1)])
def test_rows_are_the_neurons_latents_on_every_token_and_0_on_special_ones(
    lm: LanguageModel,
    sae: Sae,
    tiny_source: LanguageModelSource,
    monkeypatch: pytest.MonkeyPatch,
    dense: int,
    per_batch: int,
) -> None:
    monkeypatch.setattr(hooks, "MAX_HOOK_LATENTS", dense)
    monkeypatch.setattr(top_neurons, "_MAX_LATENTS_PER_BATCH", per_batch)
    found = read(lm, sae, tiny_source, PROMPTS)
    assert [one.prompt for one in found] == PROMPTS
    fired = 0
    for prompt, one in zip(PROMPTS, found, strict=True):
        ids = list(lm.tokenizer(prompt)["input_ids"])
        assert [token.token_id for token in one.tokens] == ids
        latents, _ = by_hand(lm, sae, ids)
        expected = latents[:, NEURONS].T.numpy()
        np.testing.assert_allclose(rows_of(one), expected, atol=1e-4)
        np.testing.assert_array_equal(rows_of(one) == 0, expected == 0)
        fired += int((expected != 0).sum())
    assert fired > 20


@pytest.mark.parametrize(
    "exclusions", [Exclusions(4), Exclusions(0, 1.0, 8.2), Exclusions(2, 1.05, 8.2)], ids=str
)
def test_rows_are_0_on_tokens_that_are_left_out(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource, exclusions: Exclusions
) -> None:
    n_left_out = 0
    for one in read(lm, sae, tiny_source, PROMPTS[:2], exclusions=exclusions):
        latents, norms = by_hand(lm, sae, [token.token_id for token in one.tokens])
        left_out = torch.arange(len(norms)) < exclusions.first_positions
        if exclusions.norm_limit is not None:
            left_out |= norms > exclusions.norm_limit
        n_left_out += int((latents[left_out][:, NEURONS] != 0).sum())
        latents[left_out] = 0
        np.testing.assert_allclose(rows_of(one), latents[:, NEURONS].T.numpy(), atol=1e-4)
    assert n_left_out > 0


def test_a_chat_is_read_as_it_was_rendered(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    (chat,) = read(lm, sae, tiny_source, ["hello"], chats=["<bos>user: hello"])
    assert chat.prompt == "hello"
    ids = lm.tokenizer("<bos>user: hello", add_special_tokens=False)["input_ids"]
    assert [token.token_id for token in chat.tokens] == ids
    latents, _ = by_hand(lm, sae, ids)
    np.testing.assert_allclose(rows_of(chat), latents[:, NEURONS].T.numpy(), atol=1e-4)


def test_a_prompt_longer_than_the_model_is_invalid_and_no_hook_stays(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    with pytest.raises(TaskError) as caught:
        read(lm, sae, tiny_source, ["short", "7 " * 600])
    assert (caught.value.code, caught.value.path) == ("INVALID", ["prompts", "1"])
    with pytest.raises(TaskError, match="for so many neurons the limit is 3") as caught:
        read(lm, sae, tiny_source, ["short", "a string"], max_tokens=3)
    assert (caught.value.code, caught.value.path) == ("INVALID", ["prompts"])
    read(lm, sae, tiny_source, ["short"])
    assert lm.layers.get_hooks() == []
