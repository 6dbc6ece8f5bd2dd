"""Generations of many requests in the same passes: each is what it is alone."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import pytest
import torch

from gql_server.compute.generating import batch as batch_module, batching, caches
from gql_server.compute.generating.batching import can_join
from gql_server.compute.generating.generation import Generations
from gql_server.compute.generating.model_inputs import ModelInputs
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes import encoding, row_hooks
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import OutputFinished
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.sources import Edit, LanguageModelSource
from gql_server.protocol.tasks import Generate
from tests.compute.architectures import make_architecture
from tests.compute.dummy_sae import DummySae
from tests.compute.generating.requests_together import Request, noted_batch_sizes, run_alone, run_together
from tests.compute.sae_fixtures import LAYER, N_LATENTS, make_sae, sae_source
from tests.support.generation_tasks import generation_task

from mi_crow.language_model.language_model import LanguageModel

JOINED = {
    "LlamaForCausalLM": "model.layers",
    "Gemma2ForCausalLM": "model.layers",
    "GPT2LMHeadModel": "transformer.h",
    "OPTForCausalLM": "model.decoder.layers",
    "Lfm2ForCausalLM": "model.layers",
    "Qwen3NextForCausalLM": "model.layers",
    "MambaForCausalLM": "backbone.layers",
}
"""Architectures whose rows go on in the same passes, and where their blocks are."""
APART = {"RecurrentGemmaForCausalLM": "model.layers", "OpenAIGPTLMHeadModel": "transformer.h"}
PROMPTS = ["True and", "a string is not None or True for all of the others", "a", "for x in y"]
EDITS = [Edit(3, 1.0, 6.0), Edit(11, 4.0, 0.0)]


@pytest.fixture(scope="module")
def load(
    tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[LanguageModel, LanguageModelSource]]:
    models, directory = LanguageModels(device="cpu"), tmp_path_factory.mktemp("architectures")

    def load(name: str) -> tuple[LanguageModel, LanguageModelSource]:
        source = make_architecture(name, tiny_model_dir, directory)
        return models.get(source), source

    return load


@pytest.fixture(scope="module")
def models() -> LanguageModels:
    return LanguageModels(device="cpu")


@pytest.fixture
def lm(models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    return models.get(tiny_source)


@pytest.fixture
def task(tiny_source: LanguageModelSource) -> Callable[..., Generate]:
    """Give a function that makes a task for the tiny model with an SAE."""

    def make(prompt: str, n_tokens: int = 8, **changes: Any) -> Generate:
        given = {"sae": sae_source(), "top_neurons": 5} | changes
        return generation_task(tiny_source, [prompt], n_tokens, **given)

    return make


def assert_same(found: Sequence[OutputFinished], expected: Sequence[OutputFinished]) -> None:
    """Hold outputs against those of a request alone, each in float32."""
    assert [(one.prompt_index, one.variant, one.text, one.finish_reason) for one in found] == [
        (one.prompt_index, one.variant, one.text, one.finish_reason) for one in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert [token.token_id for token in one.tokens] == [token.token_id for token in other.tokens]
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-5, rel=1e-5)


def numbers(output: OutputFinished) -> list[float]:
    """Return every measured number of an output."""
    found = [value for values in output.watched for value in values]
    found += [entry.activation for entry in output.top_neurons]
    for token in output.tokens:
        found += [token.log_probability, *token.watched]
        found += [entry.activation for entry in token.top_neurons]
        found += [other.log_probability for other in token.alternatives]
    return found


def layer_names(lm: LanguageModel, blocks: str) -> list[str]:
    """Return how the server calls the model's first and last block."""
    modules = list(lm.model.get_submodule(blocks))
    by_module = {id(module): name for name, module in lm.layers.name_to_layer.items()}
    return [by_module[id(modules[0])], by_module[id(modules[-1])]]


def mixed(
    lm: LanguageModel, source: LanguageModelSource, blocks: str, endings: Sequence[str] = ("", "")
) -> list[Request]:
    """Return requests of all kinds that come at different times; with endings of layers' names."""
    first, last = (f"{name}{ending}" for name, ending in zip(layer_names(lm, blocks), endings, strict=True))
    one, other = make_sae(lm), make_sae(lm, "L1Sae", seed=3)
    of_one = msgspec.structs.replace(sae_source(), layer=first)
    of_other = msgspec.structs.replace(sae_source("L1Sae"), layer=last)
    steered = {"sae": of_one, "edits": EDITS, "top_neurons": 4}
    task = generation_task(source, PROMPTS[:1], 9)

    def changed(**changes: Any) -> Generate:
        return msgspec.structs.replace(task, **changes)

    return [
        Request(changed(prompts=PROMPTS[1:3], max_new_tokens=12, top_log_probabilities=3)),
        Request(changed(**steered, compare_to_baseline=True, watch_neurons=[11, 3, 40]), one),
        Request(changed(**steered | {"mode": "RECONSTRUCTION", "prompts": PROMPTS[3:]}), one, begins=1),
        Request(
            changed(sae=of_other, edits=[Edit(7, 1.0, 3.0)], temperature=0.9, seed=3, top_neurons=48),
            other,
            begins=3,
        ),
        Request(changed(temperature=1.4, top_k=30, top_p=0.9, repetition_penalty=1.3, seed=5), begins=4),
        Request(
            changed(**steered | {"prompts": PROMPTS[:2], "exclusions": Exclusions(3)}, max_new_tokens=4),
            one,
            begins=5,
        ),
        Request(changed(stop=["e", "a"], temperature=2.0, max_new_tokens=20), begins=6),
    ]


@pytest.mark.parametrize(("name", "blocks"), (JOINED | APART).items())
def test_each_of_many_requests_gets_what_it_gets_alone(
    load: Callable[[str], tuple[LanguageModel, LanguageModelSource]], name: str, blocks: str
) -> None:
    lm, source = load(name)
    assert can_join(lm) == (name in JOINED)
    requests = mixed(lm, source, blocks)
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, requests)
    for request, alone in zip(requests, run_alone(lm, requests), strict=True):
        assert request.error is None
        assert_same(request.outputs, alone.outputs)
    assert (max(sizes) >= 8) == (name in JOINED)


@pytest.mark.parametrize(
    ("name", "blocks", "first", "last"),
    [
        ("LlamaForCausalLM", "model.layers", "_self_attn_o_proj.input", "_post_attention_layernorm.input"),
        ("Gemma2ForCausalLM", "model.layers", ".input", "_self_attn_o_proj.input"),
        ("GPT2LMHeadModel", "transformer.h", "_attn_c_proj.input", "_ln_2.input"),
        ("OPTForCausalLM", "model.decoder.layers", "_self_attn_out_proj.input", "_final_layer_norm.input"),
        ("OpenAIGPTLMHeadModel", "transformer.h", "_attn_c_proj.input", "_ln_2.input"),
    ],
)
def test_it_is_so_where_saes_are_on_what_modules_read(
    load: Callable[[str], tuple[LanguageModel, LanguageModelSource]],
    name: str,
    blocks: str,
    first: str,
    last: str,
) -> None:
    lm, source = load(name)
    requests = mixed(lm, source, blocks, (first, last))
    run_together(lm, requests)
    for request, alone in zip(requests, run_alone(lm, requests), strict=True):
        assert request.error is None
        assert_same(request.outputs, alone.outputs)


def test_a_row_comes_and_goes_between_two_tokens_of_the_others(lm: LanguageModel, task: Any) -> None:
    requests = [
        Request(task(PROMPTS[1], 8, sae=None, top_neurons=0)),
        Request(task(PROMPTS[0], 3, sae=None, top_neurons=0), begins=4),
    ]
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, requests)
    # The second one's prompt has a pass of its own.
    assert sorted(sizes) == [1] * 7 + [2, 2]
    assert sizes[:3] == [1, 1, 1]


def test_a_canceled_request_leaves_the_others_as_they_are(lm: LanguageModel, task: Any) -> None:
    requests = [
        Request(task(PROMPTS[0], edits=EDITS), make_sae(lm)),
        Request(task(PROMPTS[1], edits=EDITS), make_sae(lm), canceled_at=4),
        Request(task(PROMPTS[2], edits=EDITS), make_sae(lm)),
    ]
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, requests)
    assert isinstance(requests[1].error, CancelRequested) and requests[1].outputs == []
    assert 0 < len(requests[1].tokens) < 8
    assert sizes[3] == 3 and sizes[-1] == 2
    for request, alone in zip(requests[::2], run_alone(lm, requests[::2]), strict=True):
        assert_same(request.outputs, alone.outputs)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"edits": [Edit(3, 1.0, 1e300)]}, ["steering"]),
        ({"temperature": 1e-40}, ["temperature"]),
        ({"watch_neurons": [48]}, ["watchNeurons", "0"]),
    ],
)
def test_a_request_that_fails_ends_alone(
    lm: LanguageModel, task: Any, changes: dict[str, Any], path: list[str]
) -> None:
    sae = make_sae(lm)
    requests = [
        Request(task(PROMPTS[0], edits=EDITS), sae),
        Request(task(PROMPTS[1], **changes), sae, begins=2),
        Request(task(PROMPTS[2], edits=None), sae, begins=2),
    ]
    run_together(lm, requests)
    error = requests[1].error
    assert isinstance(error, TaskError) and error.path == path
    for request, alone in zip(requests[::2], run_alone(lm, requests[::2]), strict=True):
        assert request.error is None
        assert_same(request.outputs, alone.outputs)


@pytest.mark.parametrize("share", [True, False])
def test_an_SAE_that_fails_during_a_common_pass_ends_its_own_request(
    lm: LanguageModel, task: Any, share: bool
) -> None:
    """Its weights are spoilt once the rows go on together."""
    sae, spoilt = make_sae(lm), make_sae(lm)
    requests = [
        Request(task(PROMPTS[0], edits=EDITS), sae),
        Request(task(PROMPTS[1], edits=EDITS), spoilt),
        Request(task(PROMPTS[2], edits=EDITS), sae if share else None),
    ]
    if not share:
        requests[2].task = task(PROMPTS[2], sae=None, top_neurons=0)
    emit = requests[1].context.emit

    def spoil(event: Any) -> None:
        emit(event)
        if len(requests[1].tokens) == 3:
            with torch.no_grad():
                for parameter in spoilt.sae_engine.parameters():
                    parameter.fill_(math.nan)

    requests[1].context.emit = spoil  # type: ignore[method-assign]
    run_together(lm, requests)
    error = requests[1].error
    assert isinstance(error, TaskError) and "not finite" in error.reason
    for request, alone in zip(requests[::2], run_alone(lm, requests[::2]), strict=True):
        assert request.error is None
        assert_same(request.outputs, alone.outputs)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_whatever_an_SAE_of_another_package_raises_ends_its_own_requests(
    lm: LanguageModel, task: Any, monkeypatch: pytest.MonkeyPatch, method: str, share: bool
) -> None:
    sae, broken = make_sae(lm), DummySae(N_LATENTS, lm.model.config.hidden_size)
    requests = [Request(task(PROMPTS[0], edits=EDITS), sae), Request(task(PROMPTS[1], edits=EDITS), broken)]
    requests += [Request(task(PROMPTS[3], edits=EDITS), broken)] if share else []
    works = getattr(broken, method)

    def fail(given: torch.Tensor) -> torch.Tensor:
        if requests[1].tokens:
            raise ValueError("It does not like this.")
        return works(given)  # type: ignore[no-any-return]

    monkeypatch.setattr(broken, method, fail)
    run_together(lm, requests)
    assert all("does not like" in str(request.error) for request in requests[1:])
    assert requests[0].error is None
    assert_same(requests[0].outputs, run_alone(lm, requests[:1])[0].outputs)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "Gemma2ForCausalLM", "Qwen3NextForCausalLM"])
def test_texts_for_which_there_is_no_memory_beside_others_go_on_by_themselves(
    load: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lm, source = load(name)
    assert can_join(lm)
    joins = torch.cat
    n_joined = 0

    def run_out(parts: Any, *args: Any) -> torch.Tensor:
        nonlocal n_joined
        n_joined += 1
        if n_joined == 4:  # In the midst of a layer.
            raise RuntimeError("There is no memory left.")
        return joins(parts, *args)

    tasks = [generation_task(source, [prompt], 8, sae=None, top_neurons=0) for prompt in PROMPTS[:2]]
    requests = [Request(tasks[0]), Request(tasks[1], begins=2)]
    with noted_batch_sizes(lm) as sizes:
        monkeypatch.setattr(caches, "concatenate", run_out)
        run_together(lm, requests)
        monkeypatch.setattr(caches, "concatenate", joins)
    assert n_joined == 4 and max(sizes) == 1
    for request, alone in zip(requests, run_alone(lm, requests), strict=True):
        assert request.error is None
        assert_same(request.outputs, alone.outputs)


def test_texts_of_a_model_whose_positions_depend_on_the_longest_go_on_apart(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, _ = load("LlamaForCausalLM")
    assert not batching._depends_on_the_longest(lm)
    by_length = {"rope_type": "longrope", "rope_theta": 1e4}
    for options in (by_length, {"full_attention": by_length, "sliding_attention": {"rope_type": "default"}}):
        monkeypatch.setattr(lm.model.config, "rope_parameters", options)
        monkeypatch.setattr(batching, "_go_together", WeakKeyDictionary())
        monkeypatch.setattr(batching, "_can_join", WeakKeyDictionary())
        assert not batching.go_together(lm) and not can_join(lm)


def test_a_pass_that_fails_is_told_to_everybody_in_it_and_to_nobody_else(
    lm: LanguageModel, task: Any
) -> None:
    requests = [Request(task(prompt, sae=None, top_neurons=0)) for prompt in PROMPTS[:2]]
    later = Request(task(PROMPTS[2], sae=None, top_neurons=0), begins=3)

    def fail(module: Any, inputs: Any) -> None:
        if len(inputs[0]) == 2 and len(requests[0].tokens) == 3:
            raise TaskError("It broke.")

    # The blocks before it have kept the token, and it has not.
    handle = lm.model.model.layers[-1].register_forward_pre_hook(fail)
    try:
        run_together(lm, [requests[0], later, requests[1]])
    finally:
        handle.remove()
    assert [str(request.error) for request in requests] == ["It broke."] * 2
    assert later.error is None and len(later.tokens) == 8


def test_texts_of_very_different_lengths_go_on_apart(
    lm: LanguageModel, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "FEW_POSITIONS", 0)
    long = Request(task(PROMPTS[1] * 5, sae=None, top_neurons=0))
    short = [Request(task("a", sae=None, top_neurons=0)) for _ in range(4)]
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, [long, *short])
    # Beside the first of them less than half is padding.
    assert set(sizes) == {1, 2, 3}
    for request, alone in zip([long, *short], run_alone(lm, [long, *short]), strict=True):
        assert_same(request.outputs, alone.outputs)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "Gemma2ForCausalLM", "Lfm2ForCausalLM"])
def test_padding_that_no_row_needs_goes_with_the_longest(
    load: Callable[[str], tuple[LanguageModel, LanguageModelSource]], name: str
) -> None:
    lm, _ = load(name)
    texts = [[0, *range(50, 80)], [0, 40, 41], [0, 90, 91, 92, 93]]
    expected = [ModelInputs(lm, [text]) for text in texts]
    first, *others = (ModelInputs(lm, [text]) for text in texts)
    with torch.inference_mode():
        for inputs in (first, *others, *expected):
            step(lm, inputs)
        for inputs in others:
            first.join(inputs)
        assert first.ids.shape == (3, 31)
        for token_ids in ([60, 61], [62, 63]):
            first.append([1, 2] if len(first.rows) == 3 else [0, 1], token_ids)
            for inputs, token_id in zip(expected[1:], token_ids, strict=True):
                inputs.append([0], [token_id])
            alone = torch.cat([step(lm, inputs) for inputs in expected[1:]])
            torch.testing.assert_close(step(lm, first), alone, atol=1e-4, rtol=1e-4)
    assert first.ids.shape == (2, 7)
    assert all(layer.keys.shape[-2] == 7 for layer in keys_of(first))


def step(lm: LanguageModel, inputs: ModelInputs) -> torch.Tensor:
    """Return the logits after each text."""
    output: Any = lm.model(**inputs.next())
    inputs.took(output)
    logits: torch.Tensor = output.logits[:, -1]
    return logits


def keys_of(inputs: ModelInputs) -> list[Any]:
    """Return the layers of the cache that have keys."""
    layers = [layer for cache in inputs._caches() for layer in cache.layers]
    return [layer for layer in layers if getattr(layer, "keys", None) is not None]


def test_hooks_of_one_sae_share_an_encoding(
    lm: LanguageModel, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def counted(sae: Any, activations: Any) -> Any:
        counts.append(len(activations))
        return encoding.encoded(sae, activations)

    monkeypatch.setattr(row_hooks, "encoded", counted)
    sae = make_sae(lm)
    requests = [
        Request(task(PROMPTS[0], edits=EDITS, compare_to_baseline=True), sae),
        Request(task(PROMPTS[2], edits=[Edit(5, 0.0, 2.0)]), sae),
    ]
    run_together(lm, requests)
    assert 3 in counts
    for request, alone in zip(requests, run_alone(lm, requests), strict=True):
        assert_same(request.outputs, alone.outputs)


# ------------------------------------------------------------------- baseline and steered


def test_baseline_and_steered_tokens_alternate_from_one_pass_on(lm: LanguageModel, task: Any) -> None:
    request = Request(task(PROMPTS[0], 5, edits=EDITS, compare_to_baseline=True), make_sae(lm))
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, [request])
    assert [event.variant for event in request.tokens] == ["BASELINE", "STEERED"] * 5
    assert [output.variant for output in request.outputs] == ["BASELINE", "STEERED"]
    assert sizes == [2] * 6


def test_a_kept_baseline_is_sent_at_once_and_not_computed_again(lm: LanguageModel, task: Any) -> None:
    generations, sae = Generations(), make_sae(lm)
    first, second = (
        Request(task(PROMPTS[0], 5, edits=[Edit(3, 1.0, bias)], compare_to_baseline=True), sae)
        for bias in (2.0, 6.0)
    )
    run_together(lm, [first], generations)
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, [second], generations)
    assert set(sizes) == {1}
    assert [event.variant for event in second.tokens] == ["BASELINE"] * 5 + ["STEERED"] * 5
    (alone,) = run_alone(lm, [second])
    assert_same(second.outputs, alone.outputs)
    assert second.outputs[0].elapsed_milliseconds == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts": ["True or"]},
        {"seed": 8},
        {"temperature": 1.1},
        {"top_k": 7},
        {"top_p": 0.5},
        {"repetition_penalty": 1.2},
        {"max_new_tokens": 4},
        {"stop": ["q"]},
        {"top_log_probabilities": 1},
        {"top_neurons": 3},
        {"watch_neurons": [1]},
        {"exclusions": Exclusions(1)},
        {"top_texts_path": "top_texts.json"},
    ],
)
def test_a_baseline_of_other_settings_is_computed(
    lm: LanguageModel, task: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    generations, sae = Generations(), make_sae(lm)
    given = task(PROMPTS[0], 5, edits=EDITS, compare_to_baseline=True, temperature=0.9)
    run_together(lm, [Request(given, sae)], generations)
    if "top_texts_path" in changes:
        changes = {"top_texts_path": str(tmp_path / "top_texts.json")}
    request = Request(msgspec.structs.replace(given, **changes), sae)
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, [request], generations)
    assert sizes[0] == 2


def test_a_baseline_of_another_sae_or_model_is_computed(
    models: LanguageModels, tiny_source: LanguageModelSource, lm: LanguageModel, task: Any
) -> None:
    generations, sae = Generations(), make_sae(lm)
    given = task(PROMPTS[0], 3, edits=EDITS, compare_to_baseline=True)
    run_together(lm, [Request(given, sae)], generations)
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, [Request(given, make_sae(lm))], generations)
    assert sizes[0] == 2
    other = LanguageModels(device="cpu").get(tiny_source)
    with noted_batch_sizes(other) as sizes:
        run_together(other, [Request(given, sae)], generations)
    assert sizes[0] == 2


def test_greedy_baselines_do_not_depend_on_the_seed(lm: LanguageModel, task: Any) -> None:
    generations, sae = Generations(), make_sae(lm)
    given = task(PROMPTS[0], 3, edits=EDITS, compare_to_baseline=True)
    run_together(lm, [Request(given, sae)], generations)
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, [Request(msgspec.structs.replace(given, seed=99), sae)], generations)
    assert set(sizes) == {1}


# ---------------------------------------------------------------------------- watched neurons


def test_watched_neurons_are_those_of_an_encoding_by_hand(lm: LanguageModel, task: Any) -> None:
    sae, watch = make_sae(lm), [11, 3, 40, 7]
    given = msgspec.structs.replace(task("", 6, top_neurons=0, watch_neurons=watch), prompts=PROMPTS)
    request = Request(given, sae)
    run_together(lm, [request])
    caught: list[torch.Tensor] = []

    def catch(module: Any, inputs: Any, output: Any) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)

    handle = lm.layers.name_to_layer[LAYER].register_forward_hook(catch)
    try:
        for output in request.outputs:
            prompt = list(lm.tokenizer(output.prompt)["input_ids"])
            ids = prompt + [token.token_id for token in output.tokens]
            with torch.inference_mode():
                lm.model(torch.tensor([ids]))
            latents = sae.encode(caught.pop()[0])[:, watch]
            for number, token in enumerate(output.tokens):
                here = latents[len(prompt) - 1 + number].tolist()
                assert token.watched == pytest.approx(here, abs=1e-4)
            latents[0] = 0  # <bos>
            assert len(output.watched) == len(ids)
            for found, expected in zip(output.watched, latents.tolist(), strict=True):
                assert found == pytest.approx(expected, abs=1e-4)
            assert output.top_neurons == []
    finally:
        handle.remove()
    assert any(any(values) for output in request.outputs for values in output.watched)
