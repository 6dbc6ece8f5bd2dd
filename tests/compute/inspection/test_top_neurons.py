"""The neurons that fire on prompts, against encoding activations that were read by hand."""

import pytest
import torch
from torch import Tensor

from gql_server.compute.inspection import top_neurons
from gql_server.compute.inspection.ranking import strongest, strongest_per_row
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes import hooks
from gql_server.compute.saes.encoding import sparse_latents_of
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import NeuronActivationMessage
from gql_server.protocol.results import PromptNeurons
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import FindTopNeurons
from tests.compute.conftest import RecordingContext
from tests.compute.sae_fixtures import N_LATENTS, layer_output, make_sae, sae_source

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

PROMPTS = ["True and False are the", "for x in range(10): print(x, 'of many', x * x)", "", "a<eos>b"]


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    """Give the tiny model."""
    return language_models.get(tiny_source)


@pytest.fixture
def sae(lm: LanguageModel) -> Sae:
    """Give an SAE on it."""
    return make_sae(lm)


def find(
    lm: LanguageModel, sae: Sae, source: LanguageModelSource, prompts: list[str], first: int = 5
) -> list[PromptNeurons]:
    """Ask for the top neurons of prompts, token by token too."""
    task = FindTopNeurons(source, sae_source(), prompts, first, per_token=True)
    return find_top_neurons(task, RecordingContext(), lm, sae).prompts


def latents_by_hand(lm: LanguageModel, sae: Sae, prompt: str) -> tuple[Tensor, list[bool]]:
    """Return a prompt's latents and which of its tokens are special."""
    ids = lm.tokenizer(prompt)["input_ids"]
    return sae.encode(layer_output(lm, ids)), [token_id in lm.tokenizer.all_special_ids for token_id in ids]


def as_dict(neurons: list[NeuronActivationMessage]) -> dict[int, float]:
    """Return activations by neuron."""
    return {entry.neuron_index: entry.activation for entry in neurons}


def test_a_chat_is_read_as_it_was_rendered(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    chats = ["<bos>user: hello", "<bos>user: a longer text"]
    task = FindTopNeurons(tiny_source, sae_source(), ["hello", "a longer text"], 5, True, chats=chats)
    found = find_top_neurons(task, RecordingContext(), lm, sae).prompts
    assert [one.prompt for one in found] == ["hello", "a longer text"]
    for one, chat in zip(found, chats, strict=True):
        ids = lm.tokenizer(chat, add_special_tokens=False)["input_ids"]
        assert [token.token_id for token in one.tokens] == ids
        latents = sae.encode(layer_output(lm, ids))
        latents[torch.tensor([token_id in lm.tokenizer.all_special_ids for token_id in ids])] = 0
        peaks = latents.max(dim=0).values
        expected = {int(n): float(peaks[n]) for n in peaks.argsort(descending=True)[:5] if peaks[n] > 0}
        assert as_dict(one.neurons) == pytest.approx(expected, abs=1e-4)


def test_prompts_of_different_lengths_give_what_encoding_by_hand_gives(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    for prompt, found in zip(PROMPTS, find(lm, sae, tiny_source, PROMPTS), strict=True):
        latents, special = latents_by_hand(lm, sae, prompt)
        latents[torch.tensor(special)] = 0
        peaks = latents.max(dim=0).values
        expected = {int(n): float(peaks[n]) for n in peaks.argsort(descending=True)[:5] if peaks[n] > 0}
        assert as_dict(found.neurons) == pytest.approx(expected, abs=1e-4)
        activations = [entry.activation for entry in found.neurons]
        assert activations == sorted(activations, reverse=True)
        for entry in found.neurons:
            assert entry.token_index is not None
            assert float(latents[entry.token_index, entry.neuron_index]) == pytest.approx(
                entry.activation, abs=1e-4
            )
        for token in found.per_token:
            row = latents[token.token_index]
            expected = {int(n): float(row[n]) for n in row.argsort(descending=True)[:5] if row[n] > 0}
            assert as_dict(token.neurons) == pytest.approx(expected, abs=1e-4)


def test_every_token_is_listed_with_its_text_and_special_ones_are_never_ranked(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    words, _, empty, mixed = find(lm, sae, tiny_source, PROMPTS)
    assert [token.token_id for token in words.tokens] == lm.tokenizer(PROMPTS[0])["input_ids"]
    assert "".join(token.text for token in words.tokens if not token.special) == PROMPTS[0]
    assert [(token.text, token.special) for token in empty.tokens] == [("<bos>", True)]
    assert empty.neurons == empty.per_token[0].neurons == []
    assert [token.special for token in mixed.tokens] == [True, False, True, False]
    assert [bool(entry.neurons) for entry in mixed.per_token] == [False, True, False, True]
    assert {entry.token_index for entry in mixed.neurons} <= {1, 3}


def test_a_prompt_gives_the_same_alone_and_beside_others(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = find(lm, sae, tiny_source, PROMPTS)
    monkeypatch.setattr(top_neurons, "_MAX_LATENTS_PER_BATCH", 1)
    for one, alone in zip(together, find(lm, sae, tiny_source, PROMPTS), strict=True):
        assert as_dict(one.neurons) == pytest.approx(as_dict(alone.neurons), abs=1e-5)


@pytest.mark.parametrize("rows", [1, 7])
def test_latents_are_dense_for_a_few_positions_at_once(
    lm: LanguageModel,
    sae: Sae,
    tiny_source: LanguageModelSource,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    whole = find(lm, sae, tiny_source, PROMPTS)
    sizes = []

    def watched(sae: Sae, activations: Tensor, counted: Tensor | None = None) -> SparseLatents:
        sizes.append(len(activations))
        return sparse_latents_of(sae, activations, counted)

    monkeypatch.setattr(hooks, "sparse_latents_of", watched)
    monkeypatch.setattr(hooks, "MAX_HOOK_LATENTS", rows * N_LATENTS + 1)
    for one, same in zip(whole, find(lm, sae, tiny_source, PROMPTS), strict=True):
        assert as_dict(one.neurons) == pytest.approx(as_dict(same.neurons), abs=1e-5)
        assert [entry.token_index for entry in one.neurons] == [entry.token_index for entry in same.neurons]
        for token, same_token in zip(one.per_token, same.per_token, strict=True):
            assert as_dict(token.neurons) == pytest.approx(as_dict(same_token.neurons), abs=1e-5)
    assert max(sizes) == rows


def test_the_forward_pass_ends_at_the_layer_and_leaves_no_hook(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("the second layer ran")

    handle = lm.model.model.layers[1].register_forward_pre_hook(fail)
    find(lm, sae, tiny_source, PROMPTS)
    handle.remove()
    assert lm.layers.get_hooks() == []
    assert not lm.model.model.layers[0]._forward_hooks


def test_a_prompt_longer_than_the_model_is_invalid(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    with pytest.raises(TaskError, match="takes at most 512") as caught:
        find(lm, sae, tiny_source, ["short", "7 " * 600])
    assert (caught.value.code, caught.value.path) == ("INVALID", ["prompts", "1"])


def test_ties_go_to_the_lower_neuron_and_silent_neurons_are_not_listed() -> None:
    latents = torch.tensor([[0.0, 2.0, 3.0, 2.0, -1.0, 2.0], [0.0] * 6])
    ranked = strongest_per_row(SparseLatents.of(latents), 3)
    assert [[entry.neuron_index for entry in row] for row in ranked] == [[2, 1, 3], []]
    assert strongest(latents[0], torch.arange(6), 9) == [
        NeuronActivationMessage(2, 3.0, 2),
        NeuronActivationMessage(1, 2.0, 1),
        NeuronActivationMessage(3, 2.0, 3),
        NeuronActivationMessage(5, 2.0, 5),
    ]
    assert strongest_per_row(SparseLatents.of(latents), 0) == [[], []]
