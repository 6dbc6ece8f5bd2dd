"""Generation against transformers' own generate, plain forward passes, and mi_crow's own hook."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from gql_server.compute.generating.generation import generate
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes import hooks
from gql_server.compute.saes.encoding import sparse_latents_of
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.model_files.chat_templates import chats
from gql_server.protocol.events import OutputFinished, TokenGenerated
from gql_server.protocol.sources import Edit, LanguageModelSource
from gql_server.protocol.tasks import Generate
from tests.compute.conftest import RecordingContext
from tests.compute.sae_fixtures import LAYER, N_LATENTS, layer_output, logits, make_sae, sae_source
from tests.support.generation_tasks import generation_task

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

PROMPTS = ["True and", "a string is not None or True for all of the others", "a", "while"]
"""Of different lengths; the model ends the last at once."""
STRONG = [Edit(3, 1.0, 6.0), Edit(11, 4.0, 0.0), Edit(20, 1.0, 0.0)]

Ask = Callable[..., list[OutputFinished]]


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    """Give the tiny model."""
    return language_models.get(tiny_source)


@pytest.fixture
def sae(lm: LanguageModel) -> Sae:
    """Give an SAE on it."""
    return make_sae(lm)


@pytest.fixture
def task(tiny_source: LanguageModelSource) -> Generate:
    """Give a greedy task without an SAE."""
    return generation_task(tiny_source, PROMPTS, 12, top_neurons=5)


@pytest.fixture
def ask(lm: LanguageModel, sae: Sae, task: Generate, recording_context: RecordingContext) -> Ask:
    """Give a function that generates with changes to the task and returns the finished outputs."""

    def run(**changes: Any) -> list[OutputFinished]:
        recording_context.events.clear()
        changed = msgspec.structs.replace(task, **changes)
        generate(changed, recording_context, lm, sae if changed.sae else None)
        return finished(recording_context)

    return run


def finished(context: RecordingContext) -> list[OutputFinished]:
    """Return the finished outputs among the events."""
    return [event for event in context.events if isinstance(event, OutputFinished)]


def streamed(context: RecordingContext, prompt_index: int, variant: str = "BASELINE") -> str:
    """Return the text that a client sees stream by."""
    tokens = [event for event in context.events if isinstance(event, TokenGenerated)]
    return "".join(e.token.text for e in tokens if (e.prompt_index, e.variant) == (prompt_index, variant))


def ids(output: OutputFinished) -> list[int]:
    """Return an output's token ids."""
    return [token.token_id for token in output.tokens]


def log_probabilities(output: OutputFinished) -> list[float]:
    """Return an output's log-probabilities."""
    return [token.log_probability for token in output.tokens]


def prompt_ids(lm: LanguageModel, prompt: str) -> list[int]:
    """Tokenize a prompt."""
    return list(lm.tokenizer(prompt)["input_ids"])


# ----------------------------------------------------------------------------- the model alone


@pytest.mark.parametrize("penalty", [None, 1.7])
def test_greedy_is_what_transformers_generates_for_each_prompt_alone(
    lm: LanguageModel, ask: Ask, penalty: float | None
) -> None:
    for output in ask(repetition_penalty=penalty):
        given = torch.tensor([prompt_ids(lm, output.prompt)])
        expected = lm.model.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=12,
            do_sample=False,
            repetition_penalty=penalty or 1.0,
        )[0, given.shape[1] :].tolist()
        assert ids(output) == [token for token in expected if token != lm.tokenizer.eos_token_id]
        assert output.finish_reason == ("END_OF_TEXT" if lm.tokenizer.eos_token_id in expected else "LENGTH")
        assert output.variant == "BASELINE"


def test_a_batch_gives_each_prompt_what_it_gets_alone(ask: Ask) -> None:
    for index, together in enumerate(ask(top_log_probabilities=3)):
        (alone,) = ask(prompts=[PROMPTS[index]], top_log_probabilities=3)
        assert ids(together) == ids(alone)
        assert log_probabilities(together) == pytest.approx(log_probabilities(alone), abs=1e-4)


def test_log_probabilities_are_those_of_the_models_own_softmax(lm: LanguageModel, ask: Ask) -> None:
    for output in ask(temperature=1.3, top_k=40, top_log_probabilities=4, repetition_penalty=1.2):
        given = prompt_ids(lm, output.prompt)
        by_hand = logits(lm, given + ids(output)).log_softmax(dim=1)[len(given) - 1 : -1]
        for token, row in zip(output.tokens, by_hand, strict=True):
            assert token.log_probability == pytest.approx(float(row[token.token_id]), abs=1e-4)
            best = row.topk(4)
            assert [entry.token_id for entry in token.alternatives] == best.indices.tolist()
            expected = pytest.approx(best.values.tolist(), abs=1e-4)
            assert [entry.log_probability for entry in token.alternatives] == expected


def test_a_prompts_random_stream_is_its_own(ask: Ask) -> None:
    first = ask(temperature=1.0, prompts=["a", "a", "for x in"])
    assert ids(first[0]) != ids(first[1])
    assert [ids(output) for output in ask(temperature=1.0, prompts=["a", "a"])] == [
        ids(one) for one in first[:2]
    ]
    assert [ids(output) for output in ask(temperature=1.0, prompts=["a"], seed=8)] != [ids(first[0])]


def test_top_k_of_one_is_greedy_at_any_temperature(ask: Ask) -> None:
    assert [ids(one) for one in ask(temperature=5.0, top_k=1)] == [ids(one) for one in ask()]
    assert [ids(one) for one in ask(temperature=5.0, top_p=1e-6)] == [ids(one) for one in ask()]


def test_token_texts_joined_are_the_text_and_multibyte_characters_come_whole(
    lm: LanguageModel, ask: Ask, recording_context: RecordingContext
) -> None:
    for output in ask(temperature=3.0, max_new_tokens=60):
        assert output.text == "".join(token.text for token in output.tokens)
        assert output.text == lm.tokenizer.decode(ids(output), clean_up_tokenization_spaces=False)
        if output.finish_reason == "LENGTH":
            assert streamed(recording_context, output.prompt_index) == output.text


def test_a_character_of_several_tokens_comes_with_the_last_of_them(lm: LanguageModel, ask: Ask) -> None:
    text = "né → 😀!"
    wanted = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    output = force(lm, wanted, lambda: ask(prompts=["a"], max_new_tokens=len(wanted))[0])
    assert output.text == text
    assert [token.text for token in output.tokens if token.text] == list(text)


def force(lm: LanguageModel, wanted: list[int], run: Callable[[], OutputFinished]) -> OutputFinished:
    """Let the model's logits say one given token after the other."""
    queue = list(wanted)

    def say(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(output, -100.0)
        forced[..., queue.pop(0)] = 100.0
        return forced

    handle = lm.model.lm_head.register_forward_hook(say)
    try:
        return run()
    finally:
        handle.remove()


def test_the_end_of_text_token_is_no_part_of_the_output(lm: LanguageModel, ask: Ask) -> None:
    wanted = [*lm.tokenizer("one two", add_special_tokens=False)["input_ids"], lm.tokenizer.eos_token_id]
    output = force(lm, wanted, lambda: ask(prompts=["a"], sae=sae_source())[0])
    assert (output.text, output.finish_reason) == ("one two", "END_OF_TEXT")
    assert ids(output) == wanted[:-1]


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ([", th"], "one, two", "STOP"),
        (["zzz", "wo"], "one, t", "STOP"),
        (["one"], "", "STOP"),
        ([", thx"], "one, two, three", "LENGTH"),
    ],
)
def test_an_output_ends_before_a_stop_string_and_none_of_it_is_streamed(
    lm: LanguageModel, ask: Ask, recording_context: RecordingContext, stop: list[str], text: str, reason: str
) -> None:
    wanted = lm.tokenizer("one, two, three", add_special_tokens=False)["input_ids"]
    output = force(
        lm,
        [*wanted, 0],
        lambda: ask(prompts=["a"], stop=stop, max_new_tokens=len(wanted), sae=sae_source())[0],
    )
    assert (output.text, output.finish_reason) == (text, reason)
    assert "".join(token.text for token in output.tokens) == text == streamed(recording_context, 0)
    assert [token.index for token in output.tokens] == list(range(len(output.tokens)))
    n_tokens = len(prompt_ids(lm, "a")) + len(output.tokens)
    assert all(entry.token_index is not None and entry.token_index < n_tokens for entry in output.top_neurons)


def test_chat_puts_the_prompt_through_the_template_without_a_second_first_token(
    lm: LanguageModel, tiny_source: LanguageModelSource, ask: Ask
) -> None:
    (output,) = ask(prompts=["a"], chats=chats(Path(tiny_source.copy_dir), ["a"]))
    given = lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}], add_generation_prompt=True, return_dict=False
    )
    first = logits(lm, given)[-1].log_softmax(dim=0)
    assert ids(output)[0] == int(first.argmax())
    assert output.tokens[0].log_probability == pytest.approx(float(first.max()), abs=1e-4)
    assert output.prompt == "a"


def test_more_tokens_than_the_model_takes_are_invalid(ask: Ask) -> None:
    with pytest.raises(TaskError, match="takes 512 in all, so at most 510") as caught:
        ask(prompts=["a"], max_new_tokens=511)
    assert (caught.value.code, caught.value.path) == ("INVALID", ["maxNewTokens"])


def test_cancelation_ends_it_within_a_step(
    ask: Ask, lm: LanguageModel, recording_context: RecordingContext
) -> None:
    def cancel() -> None:
        assert lm.layers.get_hooks() == []
        if len(recording_context.events) >= 6:
            raise CancelRequested

    recording_context.on_check = cancel  # type: ignore[method-assign]
    with pytest.raises(CancelRequested):
        ask(sae=sae_source(), edits=STRONG)
    assert len(recording_context.events) < 6 + len(PROMPTS)
    assert lm.layers.get_hooks() == []


# ------------------------------------------------------------------------------------ steering


@pytest.mark.parametrize("edits", [[], [Edit(3, 1.0, 0.0)]])
def test_error_preserving_without_effective_edits_is_the_baseline(ask: Ask, edits: list[Edit]) -> None:
    steered = ask(sae=sae_source(), edits=edits, compare_to_baseline=True)
    pairs = list(zip(steered[::2], steered[1::2], strict=True))
    assert [(a.variant, b.variant) for a, b in pairs] == [("BASELINE", "STEERED")] * len(PROMPTS)
    for baseline, same in pairs:
        assert ids(baseline) == ids(same)
        assert log_probabilities(baseline) == pytest.approx(log_probabilities(same), abs=1e-5)


def test_outputs_finish_prompt_by_prompt_and_start_from_the_same_seed(ask: Ask) -> None:
    outputs = ask(sae=sae_source(), edits=[], compare_to_baseline=True, temperature=1.0)
    assert [(one.prompt_index, one.variant) for one in outputs] == [
        (index, variant) for index in range(4) for variant in ("BASELINE", "STEERED")
    ]
    assert [ids(one) for one in outputs[::2]] == [ids(one) for one in outputs[1::2]]


def test_only_the_steered_variant_is_made_unless_the_baseline_is_asked_for(ask: Ask) -> None:
    assert [one.variant for one in ask(sae=sae_source(), edits=[])] == ["STEERED"] * 4
    assert [one.variant for one in ask(sae=sae_source(), edits=None)] == ["BASELINE"] * 4
    assert [one.variant for one in ask(sae=None, edits=[])] == ["BASELINE"] * 4


def test_reconstruction_without_edits_is_generation_with_mi_crows_own_hook(
    lm: LanguageModel, sae: Sae, ask: Ask
) -> None:
    outputs = ask(sae=sae_source(), edits=[], mode="RECONSTRUCTION")
    baseline = ask()
    lm.layers.register_hook(LAYER, sae)
    try:
        for output in outputs:
            given = prompt_ids(lm, output.prompt)
            for number, token in enumerate(output.tokens):
                row = logits(lm, given + ids(output)[:number])[-1].log_softmax(dim=0)
                assert token.token_id == int(row.argmax())
                assert token.log_probability == pytest.approx(float(row.max()), abs=1e-4)
    finally:
        lm.layers.unregister_hook(sae)
    assert [log_probabilities(one) for one in outputs] != [log_probabilities(one) for one in baseline]


@pytest.mark.parametrize("prompts", [PROMPTS, ["a"]])
def test_steering_adds_the_edits_difference_at_every_token_but_special_ones(
    lm: LanguageModel, sae: Sae, ask: Ask, prompts: list[str]
) -> None:
    outputs = ask(sae=sae_source(), edits=STRONG, prompts=prompts)
    dictionary = sae.sae_engine.get_dictionary()

    def edit(module: Any, inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        latents = sae.encode(hidden[0])
        change = 6.0 * dictionary[3] + 3.0 * latents[:, 11:12] * dictionary[11]
        change[0] = 0.0
        return hidden + change

    handle = lm.model.model.layers[0].register_forward_hook(edit)
    try:
        for output in outputs:
            given = prompt_ids(lm, output.prompt)
            by_hand = logits(lm, given + ids(output)).log_softmax(dim=1)[len(given) - 1 : -1]
            for token, row in zip(output.tokens, by_hand, strict=True):
                assert token.log_probability == pytest.approx(float(row.max()), abs=1e-3)
                assert token.token_id == int(row.argmax())
    finally:
        handle.remove()
    assert [ids(one) for one in outputs] != [ids(one) for one in ask(prompts=prompts)]


def test_an_edit_of_a_neuron_that_is_not_there_is_invalid(ask: Ask) -> None:
    with pytest.raises(TaskError, match="0 to 47") as caught:
        ask(sae=sae_source(), edits=[Edit(0, 2.0, 0.0), Edit(48, 2.0, 0.0)])
    assert (caught.value.code, caught.value.path) == ("INVALID", ["edits", "1", "neuronIndex"])


@pytest.mark.parametrize("edit", [Edit(3, 1.0, 1e300), Edit(3, 1e300, 1e300), Edit(3, 1.0, -1e300)])
@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_edits_that_drive_the_numbers_out_of_range_are_invalid(ask: Ask, edit: Edit, mode: str) -> None:
    with pytest.raises(TaskError, match="out of range at token 0 of prompt 0; use smaller") as caught:
        ask(sae=sae_source(), edits=[edit], mode=mode, compare_to_baseline=True)
    assert (caught.value.code, caught.value.path) == ("INVALID", ["steering"])


def test_a_model_whose_own_numbers_are_out_of_range_fails_in_a_sentence(lm: LanguageModel, ask: Ask) -> None:
    handle = lm.model.lm_head.register_forward_hook(lambda module, inputs, output: output * torch.nan)
    try:
        with pytest.raises(TaskError, match="language model's numbers are out of range at tok") as caught:
            ask(sae=sae_source(), edits=[])
    finally:
        handle.remove()
    assert (caught.value.code, caught.value.path) == ("FAILED", [])


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"temperature": 1e-40}, "temperature"),
        ({"temperature": 1e-40, "top_k": 3, "top_p": 0.5}, "temperature"),
        ({"temperature": 0.7, "repetition_penalty": 1e-40}, "temperature"),
        ({"temperature": 0.0, "repetition_penalty": 1e-40}, "repetitionPenalty"),
    ],
)
def test_sampling_that_makes_numbers_out_of_range_is_invalid(
    ask: Ask, changes: dict[str, Any], path: str
) -> None:
    with pytest.raises(TaskError, match="out of range") as caught:
        ask(**changes)
    assert (caught.value.code, caught.value.path) == ("INVALID", [path])


# ------------------------------------------------------------------------------------- neurons


def test_neurons_are_those_of_an_encoding_by_hand_token_by_token_and_over_all(
    lm: LanguageModel, sae: Sae, ask: Ask
) -> None:
    for output in ask(sae=sae_source()):
        given = prompt_ids(lm, output.prompt)
        latents = sae.encode(layer_output(lm, given + ids(output)))
        for number, token in enumerate(output.tokens):
            row = latents[len(given) - 1 + number]
            expected = {int(n): float(row[n]) for n in row.argsort(descending=True)[:5] if row[n] > 0}
            found = {entry.neuron_index: entry.activation for entry in token.top_neurons}
            assert found == pytest.approx(expected, abs=1e-4)
            assert all(entry.token_index is None for entry in token.top_neurons)
        latents[0] = 0
        peaks = latents.max(dim=0).values
        expected = {int(n): float(peaks[n]) for n in peaks.argsort(descending=True)[:5]}
        found = {entry.neuron_index: entry.activation for entry in output.top_neurons}
        assert found == pytest.approx(expected, abs=1e-4)
        for entry in output.top_neurons:
            assert entry.token_index is not None
            at_place = float(latents[entry.token_index, entry.neuron_index])
            assert at_place == pytest.approx(entry.activation, abs=1e-4)


def test_the_last_generated_token_counts_too(lm: LanguageModel, sae: Sae, ask: Ask) -> None:
    (output,) = ask(prompts=["a"], sae=sae_source(), max_new_tokens=1, top_neurons=48)
    given = prompt_ids(lm, "a")
    latents = sae.encode(layer_output(lm, given + ids(output)))
    latents[0] = 0
    peaks = latents.max(dim=0)
    expected = {int(n): float(peaks.values[n]) for n in peaks.values.nonzero().flatten()}
    found = {entry.neuron_index: entry.activation for entry in output.top_neurons}
    assert found == pytest.approx(expected, abs=1e-4)
    places = {entry.neuron_index: entry.token_index for entry in output.top_neurons}
    assert places == {neuron: int(peaks.indices[neuron]) for neuron in expected}
    assert len(given) in places.values()


def test_without_an_sae_there_are_no_neurons(ask: Ask) -> None:
    for output in ask():
        assert output.top_neurons == []
        assert all(token.top_neurons == [] for token in output.tokens)


def test_steering_works_where_no_neurons_are_asked_for(ask: Ask) -> None:
    with_neurons = ask(sae=sae_source(), edits=STRONG)
    without = ask(sae=sae_source(), edits=STRONG, top_neurons=0, compare_to_baseline=True)
    assert [ids(one) for one in without[1::2]] == [ids(one) for one in with_neurons]
    assert all(one.top_neurons == [] for one in without)


def test_the_top_texts_file_tells_which_texts_each_reported_neuron_fires_on(
    lm: LanguageModel, ask: Ask, tmp_path: Path
) -> None:
    path = tmp_path / "top_texts" / "request.json"
    outputs = ask(sae=sae_source(), edits=[], compare_to_baseline=True, top_texts_path=str(path))
    content = json.loads(path.read_text())
    assert (content["sae_id"], content["prompts"]) == ("sae_1", PROMPTS)
    reported = {entry.neuron_index for output in outputs for entry in output.top_neurons}
    assert {entry["neuron"] for entry in content["neurons"]} == reported
    by_neuron = {entry["neuron"]: entry["texts"] for entry in content["neurons"]}
    for output in outputs:
        strongest = output.top_neurons[0]
        text = next(
            text
            for text in by_neuron[strongest.neuron_index]
            if text["text"] == output.prompt + output.text and text["variant"] == output.variant
        )
        assert (text["score"], text["token_index"]) == (strongest.activation, strongest.token_index)
        given = prompt_ids(lm, output.prompt)
        place = text["token_index"]
        if place >= len(given):
            assert text["token"] == output.tokens[place - len(given)].text
    for texts in by_neuron.values():
        scores = [text["score"] for text in texts]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_latents_are_dense_for_a_few_positions_at_once_with_the_same_outcome(
    sae: Sae, ask: Ask, monkeypatch: pytest.MonkeyPatch, rows: int, mode: str
) -> None:
    changes = {"sae": sae_source(), "edits": STRONG, "mode": mode, "compare_to_baseline": True}
    whole = ask(**changes)
    sizes = []

    def watched(sae: Sae, activations: torch.Tensor, counted: torch.Tensor | None = None) -> SparseLatents:
        sizes.append(len(activations))
        return sparse_latents_of(sae, activations, counted)

    monkeypatch.setattr(hooks, "sparse_latents_of", watched)
    monkeypatch.setattr(hooks, "MAX_HOOK_LATENTS", rows * N_LATENTS + 1)
    for one, same in zip(whole, ask(**changes), strict=True):
        assert ids(one) == ids(same)
        assert log_probabilities(one) == pytest.approx(log_probabilities(same), abs=1e-4)
        places = {entry.neuron_index: entry.token_index for entry in one.top_neurons}
        assert {entry.neuron_index: entry.token_index for entry in same.top_neurons} == places
        activations = [entry.activation for entry in one.top_neurons]
        assert [entry.activation for entry in same.top_neurons] == pytest.approx(activations, abs=1e-4)
    assert max(sizes) == rows
