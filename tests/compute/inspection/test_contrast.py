"""Neurons that tell two sets of texts apart, against plain transformers and NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.compute.inspection import contrast as contrast_module, top_neurons
from gql_server.compute.inspection.contrast import contrast_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes import hooks
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.results import ContrastedNeuron
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import ContrastNeurons
from tests.compute.conftest import RecordingContext
from tests.compute.sae_fixtures import N_LATENTS, K, make_sae, sae_source

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

TEXTS_A = ["True and False are the", "x<eos>", "for x in range(10): print(x, 'of many', x * x)"]
TEXTS_B = ["naïve 😀 text\n", "  a raw string literal, cut nowhere"]


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    return language_models.get(tiny_source)


@pytest.fixture
def sae(lm: LanguageModel) -> Sae:
    return make_sae(lm)


def contrast(
    lm: LanguageModel, sae: Sae, source: LanguageModelSource, a: list[str], b: list[str], first: int = 100
) -> list[ContrastedNeuron]:
    task = ContrastNeurons(source, sae_source(), a, b, first)
    return contrast_neurons(task, RecordingContext(), lm, sae).neurons


def means_by_hand(directory: Path, sae: Sae, texts: list[str]) -> NDArray[Any]:
    """Return the mean latents, one text at a time, with the top-k in NumPy."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    encoder = sae.sae_engine.encoder.final_block[0]
    weight, bias = encoder.weight.detach().double().numpy(), encoder.bias.detach().double().numpy()
    rows = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0]
        for token, activations in zip(ids, states.double().numpy(), strict=True):
            if token not in tokenizer.all_special_ids:
                latents = np.maximum(weight @ activations + bias, 0)
                latents[np.argsort(-latents)[K:]] = 0
                rows.append(latents)
    mean: NDArray[Any] = np.mean(rows, axis=0)
    return mean


@pytest.mark.parametrize(("dense", "per_batch"), [(2**24, 2**26), (N_LATENTS * 5, 1)])
def test_differences_are_those_of_means_over_tokens_taken_by_hand(
    lm: LanguageModel,
    sae: Sae,
    tiny_source: LanguageModelSource,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    dense: int,
    per_batch: int,
) -> None:
    monkeypatch.setattr(hooks, "MAX_HOOK_LATENTS", dense)
    monkeypatch.setattr(top_neurons, "_MAX_LATENTS_PER_BATCH", per_batch)
    mean_a, mean_b = (means_by_hand(tiny_model_dir, sae, texts) for texts in (TEXTS_A, TEXTS_B))
    expected = np.argsort(-(mean_a - mean_b))
    expected = expected[(mean_a - mean_b)[expected] > 0]
    found = contrast(lm, sae, tiny_source, TEXTS_A, TEXTS_B)
    assert [neuron.neuron_index for neuron in found] == expected.tolist()
    np.testing.assert_allclose([neuron.mean_a for neuron in found], mean_a[expected], atol=1e-5)
    np.testing.assert_allclose([neuron.mean_b for neuron in found], mean_b[expected], atol=1e-5)
    assert contrast(lm, sae, tiny_source, TEXTS_A, TEXTS_B, first=3) == found[:3]
    swapped = {neuron.neuron_index for neuron in contrast(lm, sae, tiny_source, TEXTS_B, TEXTS_A)}
    assert swapped.isdisjoint(expected.tolist())


@pytest.mark.parametrize("first", [3, 100])
def test_both_directions_are_those_of_two_calls(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource, first: int
) -> None:
    task = ContrastNeurons(tiny_source, sae_source(), TEXTS_A, TEXTS_B, first)
    found = contrast_neurons(task, RecordingContext(), lm, sae)
    assert found.neurons == contrast(lm, sae, tiny_source, TEXTS_A, TEXTS_B, first)
    swapped = contrast(lm, sae, tiny_source, TEXTS_B, TEXTS_A, first)
    assert found.neurons_b and found.neurons
    assert found.neurons_b == [ContrastedNeuron(one.neuron_index, one.mean_b, one.mean_a) for one in swapped]


def test_a_set_is_not_told_apart_from_itself(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    assert contrast(lm, sae, tiny_source, TEXTS_A, TEXTS_A) == []


def test_latents_are_added_up_where_there_is_float64(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a device without numbers here, so that whatever is added up on it shows."""
    asked = []

    def elsewhere(device: torch.device) -> torch.device:
        asked.append(device)
        return torch.device("meta")

    monkeypatch.setattr(contrast_module, "float64_device", elsewhere)
    with pytest.raises(NotImplementedError, match="meta"):
        contrast(lm, sae, tiny_source, TEXTS_A, TEXTS_B)
    assert asked == [torch.device("cpu")]


@pytest.mark.parametrize(
    ("texts_a", "texts_b", "path"),
    [
        (["<eos>"], ["a"], ["textsA"]),
        (["a"], ["<eos>", ""], ["textsB"]),
        (["a"], ["a", "7 " * 600], ["textsB", "1"]),
    ],
)
def test_texts_without_a_token_that_counts_or_too_long_for_the_model_are_invalid(
    lm: LanguageModel,
    sae: Sae,
    tiny_source: LanguageModelSource,
    texts_a: list[str],
    texts_b: list[str],
    path: list[str],
) -> None:
    with pytest.raises(TaskError) as caught:
        contrast(lm, sae, tiny_source, texts_a, texts_b)
    assert (caught.value.code, caught.value.path) == ("INVALID", path)


def test_the_forward_pass_leaves_no_hook(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    contrast(lm, sae, tiny_source, TEXTS_A, TEXTS_B)
    assert lm.layers.get_hooks() == []
