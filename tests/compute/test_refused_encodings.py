"""SAEs whose values float32 cannot hold: refused in a sentence wherever they are used, and never told."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gql_server.compute.generating.generation import generate
from gql_server.compute.inspection.attribution import attribute_neurons
from gql_server.compute.inspection.contrast import contrast_neurons
from gql_server.compute.inspection.neuron_activations import read_neuron_activations
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.encoding import all_finite
from gql_server.compute.saes.hooks import Mode, SaeHook
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import Edit, LanguageModelSource
from gql_server.protocol.tasks import (
    AttributeNeurons,
    ContrastNeurons,
    FindTopNeurons,
    ReadNeuronActivations,
)
from tests.compute.conftest import RecordingContext
from tests.compute.sae_fixtures import LAYER, make_sae, sae_source
from tests.support.generation_tasks import generation_task

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

TEXTS = ["True and False are the", "x", "a<eos>b"]


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    return language_models.get(tiny_source)


def too_large(lm: LanguageModel, tensor: str) -> Sae:
    """Give an SAE that fits the layer, with one of its tensors so large that what it computes is infinite."""
    sae = make_sae(lm, "ReLUSae")
    sae.id = "sae_1"
    parameter = getattr(sae.sae_engine, tensor)
    parameter.copy_(parameter.sign() * 3e38)
    return sae


def find(lm: LanguageModel, source: LanguageModelSource, sae: Sae, per_token: bool) -> None:
    find_top_neurons(FindTopNeurons(source, sae_source(), TEXTS, 5, per_token), RecordingContext(), lm, sae)


def contrast(lm: LanguageModel, source: LanguageModelSource, sae: Sae) -> None:
    contrast_neurons(ContrastNeurons(source, sae_source(), TEXTS, ["b"], 5), RecordingContext(), lm, sae)


def read(lm: LanguageModel, source: LanguageModelSource, sae: Sae) -> None:
    task = ReadNeuronActivations(source, sae_source(), TEXTS, None, [3], 99)
    read_neuron_activations(task, RecordingContext(), lm, sae)


def attribute(lm: LanguageModel, source: LanguageModelSource, sae: Sae) -> None:
    task = AttributeNeurons(source, sae_source(), TEXTS[0], None, None, None, 5, 2, 99)
    attribute_neurons(task, RecordingContext(), lm, sae)


def write(lm: LanguageModel, source: LanguageModelSource, sae: Sae, **changes: Any) -> None:
    prompts = ["True and False", "b"]
    task = generation_task(source, prompts, 3, sae=sae_source(), top_neurons=3, **changes)
    generate(task, RecordingContext(), lm, sae)


USES: dict[str, Callable[[LanguageModel, LanguageModelSource, Sae], None]] = {
    "topNeurons": lambda lm, source, sae: find(lm, source, sae, per_token=False),
    "topNeurons per token": lambda lm, source, sae: find(lm, source, sae, per_token=True),
    "contrastNeurons": contrast,
    "neuronActivations": read,
    "attributeNeurons": attribute,
    "generate": write,
    "generate, steered": lambda lm, source, sae: write(lm, source, sae, edits=[Edit(3, 2.0, 0.0)]),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_infinite_latents_are_refused_in_a_sentence_that_names_the_sae(
    lm: LanguageModel, tiny_source: LanguageModelSource, use: Callable[..., None]
) -> None:
    with pytest.raises(TaskError) as caught:
        use(lm, tiny_source, too_large(lm, "encoder_weight"))
    assert caught.value.code == "CONFLICT"
    assert caught.value.reason == (
        "SAE sae_1 gives neurons' activations that are not finite on these texts: its weights are too large; "
        "train it again, or import it with smaller ones."
    )
    assert not lm.layers.get_hooks()


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_an_infinite_reconstruction_is_the_saes_fault_and_not_that_of_mild_edits(
    lm: LanguageModel, tiny_source: LanguageModelSource, mode: Mode
) -> None:
    edits = [Edit(neuron, 1.5, 0.0) for neuron in range(48)]
    with pytest.raises(TaskError, match="SAE sae_1 gives reconstructions that are not finite") as caught:
        write(lm, tiny_source, too_large(lm, "decoder_weight"), edits=edits, mode=mode)
    assert caught.value.code == "CONFLICT"


def test_an_infinite_reconstruction_has_no_attribution(
    lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    with pytest.raises(TaskError, match="SAE sae_1 gives reconstructions that are not finite") as caught:
        attribute(lm, tiny_source, too_large(lm, "decoder_weight"))
    assert caught.value.code == "CONFLICT"


def test_activations_that_are_not_finite_are_the_models_fault(
    lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    handle = lm.layers.name_to_layer[LAYER].register_forward_hook(
        lambda module, inputs, output: output * 1e39
    )
    try:
        with pytest.raises(TaskError, match="The language model's activations are not finite") as caught:
            find(lm, tiny_source, make_sae(lm), per_token=False)
    finally:
        handle.remove()
    assert caught.value.code == "CONFLICT"


@pytest.mark.parametrize("mode", ["OBSERVE", "ERROR_PRESERVING", "RECONSTRUCTION"])
def test_what_nobody_is_told_of_may_be_anything(lm: LanguageModel, mode: Mode) -> None:
    hook = SaeHook(make_sae(lm), mode, [Edit(3, 1.0, 2.0)])
    hook.edit_mask = torch.tensor([[False, True], [True, True]])
    output = torch.randn(2, 2, 32)
    output[0, 0] = torch.nan
    hook.report_mask = torch.tensor([[False, True], [True, True]])
    changed = hook.modify_activations(lm.model, None, output)
    assert hook.latents is not None and bool(hook.latents[hook.report_mask].isfinite().all())
    assert changed is None or bool(changed[hook.report_mask].isfinite().all())
    hook.report_mask = None
    with pytest.raises(TaskError, match="not finite"):
        hook.modify_activations(lm.model, None, output)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3e38, 3e38, 3e38], True),
        ([-3e38, -3e38], True),
        ([0.0, 1.0], True),
        ([0.0, torch.inf], False),
        ([torch.inf, -torch.inf], False),
        ([torch.nan, 1.0], False),
    ],
)
def test_values_are_finite_even_where_their_sum_is_not(values: list[float], expected: bool) -> None:
    assert all_finite(torch.tensor(values)) == expected
