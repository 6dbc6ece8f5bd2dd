"""Steering, top neurons and contrasts that leave out first positions and outliers, by hand."""

from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from gql_server.compute.generating.generation import generate
from gql_server.compute.inspection.contrast import contrast_neurons
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes import hooks
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import OutputFinished
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.sources import Edit, LanguageModelSource
from gql_server.protocol.tasks import ContrastNeurons, FindTopNeurons
from tests.compute.conftest import RecordingContext
from tests.compute.sae_fixtures import N_LATENTS, layer_output, logits, make_sae, sae_source
from tests.support.generation_tasks import generation_task

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

PROMPTS = ["True and", "a string is not None or True for all of the others", "for x in y"]
EDITS = [Edit(3, 1.0, 6.0), Edit(11, 4.0, 0.0)]
MEDIAN = 8.2
EXCLUSIONS = [Exclusions(4), Exclusions(0, 1.0, MEDIAN), Exclusions(2, 1.05, MEDIAN)]
"""The tiny model's activations have lengths around the median, so that each leaves out some tokens."""


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    return language_models.get(tiny_source)


@pytest.fixture
def sae(lm: LanguageModel) -> Sae:
    return make_sae(lm)


def kept_by_hand(exclusions: Exclusions, hidden: Tensor) -> Tensor:
    """Say of a text's activations [n_tokens, n_inputs] which are neither excluded nor those of its BOS."""
    limit = float("inf") if exclusions.outliers is None else exclusions.outliers * MEDIAN
    kept: Tensor = hidden.double().norm(dim=1) <= limit
    kept[: max(1, exclusions.first_positions)] = False
    return kept


def ids_of(lm: LanguageModel, text: str) -> list[int]:
    return list(lm.tokenizer(text)["input_ids"])


def generated(
    lm: LanguageModel, sae: Sae, source: LanguageModelSource, exclusions: Exclusions, **changes: Any
) -> list[OutputFinished]:
    task = generation_task(
        source, PROMPTS, 8, sae=sae_source(), edits=EDITS, top_neurons=N_LATENTS, exclusions=exclusions
    )
    context = RecordingContext()
    generate(msgspec.structs.replace(task, **changes), context, lm, sae)
    return [event for event in context.events if isinstance(event, OutputFinished)]


@pytest.mark.parametrize("dense", [2**24, 5 * N_LATENTS])
@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
@pytest.mark.parametrize("exclusions", EXCLUSIONS, ids=str)
def test_edits_leave_excluded_tokens_of_prompt_and_output_as_they_are(
    lm: LanguageModel,
    sae: Sae,
    tiny_source: LanguageModelSource,
    monkeypatch: pytest.MonkeyPatch,
    exclusions: Exclusions,
    mode: str,
    dense: int,
) -> None:
    monkeypatch.setattr(hooks, "MAX_HOOK_LATENTS", dense)
    outputs = generated(lm, sae, tiny_source, exclusions, mode=mode)
    plain = generated(lm, sae, tiny_source, Exclusions(), mode=mode)
    dictionary = sae.sae_engine.get_dictionary()
    n_excluded = 0

    def steer(module: Any, inputs: Any, output: Any) -> Any:
        nonlocal n_excluded
        hidden = output[0] if isinstance(output, tuple) else output
        latents, kept = sae.encode(hidden[0]), kept_by_hand(exclusions, hidden[0])
        change = 6.0 * dictionary[3] + 3.0 * latents[:, 11:12] * dictionary[11]
        change[~kept] = 0.0
        n_excluded += int((~kept).sum()) - 1
        if mode == "ERROR_PRESERVING":
            return hidden + change
        # The BOS is no excluded token where its length and position do not make it one.
        kept_as_it_is = ~kept
        kept_as_it_is[0] = exclusions.first_positions > 0 or bool(
            exclusions.norm_limit is not None and hidden[0, 0].double().norm() > exclusions.norm_limit
        )
        return torch.where(kept_as_it_is[:, None], hidden[0], sae.decode(latents) + change)[None]

    handle = lm.model.model.layers[0].register_forward_hook(steer)
    try:
        for output in outputs:
            given, made = ids_of(lm, output.prompt), [token.token_id for token in output.tokens]
            by_hand = logits(lm, given + made).log_softmax(dim=1)[len(given) - 1 : -1]
            for token, row in zip(output.tokens, by_hand, strict=True):
                assert token.log_probability == pytest.approx(float(row.max()), abs=1e-3)
                assert token.token_id == int(row.argmax())
    finally:
        handle.remove()
    assert n_excluded > 0
    assert [one.tokens for one in outputs] != [one.tokens for one in plain]


@pytest.mark.parametrize("exclusions", EXCLUSIONS, ids=str)
def test_neurons_of_a_generation_do_not_count_on_excluded_tokens(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource, exclusions: Exclusions
) -> None:
    for output in generated(lm, sae, tiny_source, exclusions, edits=None):
        given, made = ids_of(lm, output.prompt), [token.token_id for token in output.tokens]
        hidden = layer_output(lm, given + made)
        kept = kept_by_hand(exclusions, hidden)
        latents = sae.encode(hidden) * kept[:, None]
        expected = {n: float(v) for n, v in enumerate(latents.max(dim=0).values) if v > 0}
        found = {entry.neuron_index: entry.activation for entry in output.top_neurons}
        assert found == pytest.approx(expected, abs=1e-4)
        for number, token in enumerate(output.tokens):
            row = latents[len(given) - 1 + number]
            expected = {int(n): float(row[n]) for n in row.nonzero().flatten()}
            found = {entry.neuron_index: entry.activation for entry in token.top_neurons}
            assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("exclusions", EXCLUSIONS, ids=str)
def test_top_neurons_of_prompts_do_not_count_on_excluded_tokens(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource, exclusions: Exclusions
) -> None:
    task = FindTopNeurons(tiny_source, sae_source(), PROMPTS, N_LATENTS, True, exclusions=exclusions)
    for found in find_top_neurons(task, RecordingContext(), lm, sae).prompts:
        hidden = layer_output(lm, ids_of(lm, found.prompt))
        latents = sae.encode(hidden) * kept_by_hand(exclusions, hidden)[:, None]
        expected = {n: float(v) for n, v in enumerate(latents.max(dim=0).values) if v > 0}
        assert {one.neuron_index: one.activation for one in found.neurons} == pytest.approx(
            expected, abs=1e-4
        )
        for token, row in zip(found.per_token, latents, strict=True):
            expected = {int(n): float(row[n]) for n in row.nonzero().flatten()}
            assert {one.neuron_index: one.activation for one in token.neurons} == pytest.approx(
                expected, abs=1e-4
            )


@pytest.mark.parametrize("exclusions", EXCLUSIONS, ids=str)
def test_contrasts_are_of_means_over_the_tokens_that_are_left(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource, exclusions: Exclusions
) -> None:
    sets = (PROMPTS[1:2], PROMPTS)
    means = []
    for texts in sets:
        parts = []
        for text in texts:
            hidden = layer_output(lm, ids_of(lm, text))
            parts.append(sae.encode(hidden)[kept_by_hand(exclusions, hidden)])
        means.append(torch.cat(parts).double().mean(dim=0))
    task = ContrastNeurons(tiny_source, sae_source(), *sets, N_LATENTS, exclusions=exclusions)
    found = contrast_neurons(task, RecordingContext(), lm, sae).neurons
    assert found
    for one in found:
        assert one.mean_a == pytest.approx(float(means[0][one.neuron_index]), abs=1e-5)
        assert one.mean_b == pytest.approx(float(means[1][one.neuron_index]), abs=1e-5)
    assert len(found) == int((means[0] - means[1] > 1e-7).sum())


def test_a_set_of_texts_without_a_token_left_is_invalid(
    lm: LanguageModel, sae: Sae, tiny_source: LanguageModelSource
) -> None:
    task = ContrastNeurons(tiny_source, sae_source(), PROMPTS, ["x"], 5, exclusions=Exclusions(5))
    with pytest.raises(TaskError, match="All tokens of these texts are left out") as caught:
        contrast_neurons(task, RecordingContext(), lm, sae)
    assert (caught.value.code, caught.value.path) == ("INVALID", ["textsB"])
