"""Attribution by gradients and ablations, against transformers by hand and the steering that is offered."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM

from gql_server.compute.generating.generation import generate
from gql_server.compute.generating.model_inputs import ModelInputs
from gql_server.compute.inspection import attribution, decoded_latents
from gql_server.compute.inspection.attribution import attribute_neurons
from gql_server.compute.language_models.layers import describe_layers
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.hooks import SaeHook, attached
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import OutputFinished
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import AttributedNeuron, AttributionResult
from gql_server.protocol.sources import Edit, LanguageModelSource
from gql_server.protocol.tasks import AttributeNeurons, TokenChoice
from tests.compute.architectures import CONFIGS, make_architecture
from tests.compute.conftest import RecordingContext
from tests.compute.dummy_sae import DummySae
from tests.compute.sae_fixtures import N_LATENTS, layer_output, make_sae, sae_source
from tests.support.generation_tasks import generation_task

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

PROMPT = "for x in range(10): print(x<eos>, 'of many', x * x)"
SAES = ["TopKSae", "L1Sae", "ReLUSae", "BatchTopKSae", "JumpReLUSae", "GatedSae", "DummySae", "SquaringSae"]
NORMALIZED = ["BiasedTopKSae+LAYER_NORM", "ReLUSae+RMS_NORM", "JumpReLUSae+LAYER_NORM"]
NUMBER_5, NUMBER_9 = TokenChoice(token_id=5), TokenChoice(token_id=9)


class SquaringSae(DummySae):
    """Decodes in a way that is not linear, as nobody forbids."""

    def decode(self, x: Tensor) -> Tensor:
        return super().decode(x.square() + x)


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    return language_models.get(tiny_source)


def sae_of(lm: LanguageModel, name: str) -> Sae:
    own = {"DummySae": DummySae, "SquaringSae": SquaringSae}
    name, _, how = name.partition("+")
    if name not in own:
        sae = make_sae(lm, name)
        if how:
            sae.sae_engine.input_normalization = how
            sae.sae_engine.decoder_bias.fill_(0.3)
        return sae
    torch.manual_seed(1)
    sae = own[name](N_LATENTS, 32)
    sae.sae_engine.eval()
    return sae


def task_of(source: LanguageModelSource, **changes: Any) -> AttributeNeurons:
    task = AttributeNeurons(source, sae_source(), PROMPT, None, NUMBER_5, None, N_LATENTS, 0, 500)
    return msgspec.structs.replace(task, **changes)


def attribute(lm: LanguageModel, sae: Sae, source: LanguageModelSource, **changes: Any) -> AttributionResult:
    return attribute_neurons(task_of(source, **changes), RecordingContext(), lm, sae)


def by_neuron(found: AttributionResult) -> dict[int, AttributedNeuron]:
    return {one.neuron_index: one for one in found.neurons}


class ByHand:
    """Attribution with transformers alone, in float64: the SAE's latents in the graph as they are."""

    def __init__(self, directory: Path, sae: Sae, ids: Sequence[int], counts: Sequence[bool]) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
        self.ids, self.counts, self.sae = list(ids), torch.tensor(counts), sae
        # Trap: in evaluation mode mi_crow keeps a dictionary from before.
        sae.sae_engine.train().double().eval()

    def run(self, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the next token's log-probabilities with the layer's output [n_tokens, 32] changed."""

        def hook(module: Any, inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            changed = change(hidden[0])[None]
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = self.model.model.layers[0].register_forward_hook(hook)
        try:
            logits: Tensor = self.model(torch.tensor([self.ids])).logits[0, -1]
        finally:
            handle.remove()
        return logits.log_softmax(dim=0)

    def decode(self, z: Tensor, hidden: Tensor) -> Tensor:
        """Decode, and restore as hidden [n_tokens, 32] was normalized, which has no gradient."""
        decoded: Tensor = self.sae.decode(z)
        how, hidden = getattr(self.sae.sae_engine, "input_normalization", "NONE"), hidden.detach()
        if how == "RMS_NORM":
            return decoded * hidden.square().mean(dim=1, keepdim=True).sqrt()
        if how == "LAYER_NORM":
            mean = hidden.mean(dim=1, keepdim=True)
            return decoded * ((hidden - mean).square().sum(dim=1, keepdim=True) / 31).sqrt() + mean
        return decoded

    def effects(self, score: Callable[[Tensor], Tensor]) -> tuple[NDArray[Any], dict[str, float]]:
        """Return latent times gradient [n_tokens, n_latents], and the parts of gradient times output."""
        kept: dict[str, Tensor] = {}

        def change(hidden: Tensor) -> Tensor:
            hidden = hidden.detach()
            kept["z"] = self.sae.encode(hidden).detach().requires_grad_()
            kept["error"] = (hidden - self.decode(kept["z"], hidden)).detach()
            kept["bias"] = self.decode(torch.zeros(1, N_LATENTS, dtype=torch.float64), hidden)
            whole = self.decode(kept["z"], hidden) + kept["error"]
            kept["x"] = torch.where(self.counts[:, None], whole, hidden)
            kept["x"].retain_grad()
            return kept["x"]

        score(self.run(change)).backward()
        gradient, z = kept["x"].grad, kept["z"].grad
        assert gradient is not None and z is not None
        counted = gradient[self.counts]
        bias = kept["bias"].detach().expand(len(self.counts), -1)[self.counts]
        parts = {
            "error_effect": float((counted * kept["error"][self.counts]).sum()),
            "bias_effect": float((counted * bias).sum()),
            "left_out_effect": float((gradient * kept["x"].detach())[~self.counts].sum()),
        }
        return (z * kept["z"]).detach().numpy(), parts

    def without(self, neuron: int) -> Tensor:
        """Return the log-probabilities with a neuron's latents 0 and the error kept."""

        def change(hidden: Tensor) -> Tensor:
            z = self.sae.encode(hidden)
            edited = z.clone()
            edited[:, neuron] = 0
            shift = self.decode(edited, hidden) - self.decode(z, hidden)
            return hidden + torch.where(self.counts[:, None], shift, 0.0)

        with torch.no_grad():
            return self.run(change)


@pytest.mark.parametrize(
    ("contrast", "exclusions"),
    [(None, Exclusions()), (NUMBER_9, Exclusions(5))],
    ids=["of all tokens", "with a contrast, without the first 5"],
)
@pytest.mark.parametrize("name", SAES + NORMALIZED)
def test_effects_and_ablations_are_those_by_hand(
    lm: LanguageModel,
    tiny_source: LanguageModelSource,
    tiny_model_dir: Path,
    name: str,
    contrast: TokenChoice | None,
    exclusions: Exclusions,
) -> None:
    found = attribute(lm, sae_of(lm, name), tiny_source, contrast=contrast, ablate=6, exclusions=exclusions)
    ids = list(lm.tokenizer(PROMPT)["input_ids"])
    special = [token_id in lm.tokenizer.all_special_ids for token_id in ids]
    assert special.count(True) == 2
    counts = [not one and n >= exclusions.first_positions for n, one in enumerate(special)]
    hand = ByHand(tiny_model_dir, sae_of(lm, name), ids, counts)

    def score(log_probabilities: Tensor) -> Tensor:
        return log_probabilities[5] - (0 if contrast is None else log_probabilities[9])

    effects, parts = hand.effects(score)
    sums = effects.sum(axis=0)
    assert np.abs(sums).max() > 0.01
    with torch.no_grad():
        own = hand.run(lambda hidden: hidden)
    assert found.target.log_probability == pytest.approx(float(own[5]), abs=1e-4)
    assert (found.contrast is None) == (contrast is None)
    if found.contrast is not None:
        assert found.contrast.log_probability == pytest.approx(float(own[9]), abs=1e-4)
    assert {one.neuron_index for one in found.neurons} == set(np.flatnonzero(np.abs(sums)).tolist())
    sizes = [abs(one.effect) for one in found.neurons]
    assert sizes == sorted(sizes, reverse=True)
    for rank, one in enumerate(found.neurons):
        per_token = np.frombuffer(one.token_effects, "<f4")
        np.testing.assert_allclose(per_token, effects[:, one.neuron_index], atol=1e-4)
        assert one.effect == pytest.approx(sums[one.neuron_index], abs=1e-4)
        if rank >= 6:
            assert one.ablation_effect is None
            continue
        expected = float(score(own) - score(hand.without(one.neuron_index)))
        assert one.ablation_effect == pytest.approx(expected, abs=1e-4)
    assert found.neurons_effect == pytest.approx(sums.sum(), abs=1e-4)
    for part, value in parts.items():
        assert getattr(found, part) == pytest.approx(value, abs=1e-4), part


def steered(
    lm: LanguageModel, sae: Sae, task: AttributeNeurons, ids: Sequence[int], neuron: int, factor: float
) -> Tensor:
    """Return the next token's log-probabilities with a generation's hook for a multiplier on the layer."""
    hook = SaeHook(sae, "ERROR_PRESERVING", [Edit(neuron, factor, 0.0)], task.exclusions)
    hook.edit_mask = torch.tensor([[token_id not in lm.tokenizer.all_special_ids for token_id in ids]])
    hook.positions = torch.arange(len(ids))[None]
    inputs = ModelInputs(lm, [ids], all_logits=True).next()
    with torch.inference_mode(), attached(lm, task.sae.layer, hook):
        logits: Tensor = lm.model(**inputs).logits[0, -1]
    return logits.float().log_softmax(dim=0)


def assert_agrees_with_steering(lm: LanguageModel, sae: Sae, task: AttributeNeurons, token_id: int) -> None:
    """An ablation is steering by 0, and the gradient what a little more of the neuron changes."""
    found = attribute_neurons(task, RecordingContext(), lm, sae)
    ids = [token.token_id for token in found.tokens]
    assert len(found.neurons) > task.ablate > 0
    largest = abs(found.neurons[0].effect)
    for one in found.neurons[: task.ablate]:
        without, less, more = (
            float(steered(lm, sae, task, ids, one.neuron_index, factor)[token_id])
            for factor in (0.0, 0.98, 1.02)
        )
        assert one.ablation_effect == pytest.approx(found.target.log_probability - without, abs=1e-4)
        assert one.effect == pytest.approx((more - less) / 0.04, rel=0.02, abs=0.01 * largest)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "XLNetLMHeadModel"])
def test_every_architecture_agrees_with_its_own_steering(
    name: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    source = make_architecture(name, tiny_model_dir, tmp_path)
    lm = LanguageModels(device="cpu").get(source)
    blocks = [layer.name for layer in describe_layers(lm) if layer.kind == "BLOCK"]
    for layer in (blocks[0], blocks[-1]):
        sae_at = msgspec.structs.replace(sae_source("ReLUSae"), layer=layer)
        changes = {"sae": sae_at, "prompt": "True and False are the", "ablate": 4}
        task = task_of(source, exclusions=Exclusions(1), **changes)
        assert_agrees_with_steering(lm, make_sae(lm, "ReLUSae"), task, 5)
        parameters = list(lm.model.parameters())
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in parameters)
        assert lm.layers.get_hooks() == []
        assert not lm.layers.name_to_layer[layer]._forward_hooks


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("OPTForCausalLM", "optforcausallm_model_decoder_layers_0_fc2"),
        ("LlamaForCausalLM", "llamaforcausallm_model_layers_1_mlp"),
        ("LlamaForCausalLM", "llamaforcausallm_model_norm"),
        ("LlamaForCausalLM", "llamaforcausallm_model_layers_1_self_attn_o_proj.input"),
        ("LlamaForCausalLM", "llamaforcausallm_model_layers_0_post_attention_layernorm.input"),
        ("LlamaForCausalLM", "llamaforcausallm_model_layers_0.input"),
        ("Gemma2ForCausalLM", "gemma2forcausallm_model_layers_1_pre_feedforward_layernorm.input"),
        ("GPT2LMHeadModel", "gpt2lmheadmodel_transformer_h_0_attn_c_proj.input"),
    ],
)
def test_other_layers_than_blocks_agree_with_their_steering(
    name: str, layer: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    source = make_architecture(name, tiny_model_dir, tmp_path)
    lm = LanguageModels(device="cpu").get(source)
    sae_at = msgspec.structs.replace(sae_source("ReLUSae"), layer=layer)
    task = task_of(source, sae=sae_at, ablate=4)
    assert_agrees_with_steering(lm, make_sae(lm, "ReLUSae"), task, 5)


def test_a_layer_that_has_not_a_vector_for_each_token_is_refused(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    """XLNet predicts at a token behind the text, and its body gives that one's vector alone."""
    source = make_architecture("XLNetLMHeadModel", tiny_model_dir, tmp_path)
    lm = LanguageModels(device="cpu").get(source)
    sae_at = msgspec.structs.replace(sae_source(), layer="xlnetlmheadmodel_transformer")
    with pytest.raises(TaskError, match="for 35 tokens, not one of 32 for each") as caught:
        attribute_neurons(task_of(source, sae=sae_at), RecordingContext(), lm, make_sae(lm))
    assert caught.value.code == "CONFLICT"


# ------------------------------------------------------------------------------- what is asked for


def test_the_models_own_most_probable_token_is_the_target_by_default(
    lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    sae = make_sae(lm)
    found = attribute(lm, sae, tiny_source, target=None, ablate=3)
    ids = [token.token_id for token in found.tokens]
    plain = steered(lm, sae, task_of(tiny_source), ids, 0, 1.0)
    assert found.target.token_id == int(plain.argmax())
    assert found.target.log_probability == pytest.approx(float(plain.max()), abs=1e-5)
    named = attribute(lm, sae, tiny_source, target=TokenChoice(token_id=found.target.token_id), ablate=3)
    assert named == found


def test_an_ablation_is_what_a_generation_with_that_neuron_at_0_says(
    lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    sae = make_sae(lm)
    found = attribute(lm, sae, tiny_source, target=None, ablate=3)
    for one in found.neurons[:3]:
        task = generation_task(
            tiny_source,
            [PROMPT],
            1,
            sae=sae_source(),
            edits=[Edit(one.neuron_index, 0.0, 0.0)],
            top_log_probabilities=20,
        )
        context = RecordingContext()
        generate(task, context, lm, sae)
        (output,) = [event for event in context.events if isinstance(event, OutputFinished)]
        said = {entry.token_id: entry.log_probability for entry in output.tokens[0].alternatives}
        without = said[found.target.token_id]
        assert one.ablation_effect == pytest.approx(found.target.log_probability - without, abs=1e-5)
        assert one.ablation_effect != pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("text", [" is", "is", "<eos>", "\n"])
def test_a_target_is_named_by_the_text_that_it_adds_to_the_prompt(
    lm: LanguageModel, tiny_source: LanguageModelSource, text: str
) -> None:
    prompt = "the value"
    (token_id,) = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    found = attribute(lm, make_sae(lm), tiny_source, prompt=prompt, target=TokenChoice(text=text))
    assert found.target.token_id == token_id
    by_id = attribute(lm, make_sae(lm), tiny_source, prompt=prompt, target=TokenChoice(token_id=token_id))
    assert by_id == found


@pytest.mark.parametrize(
    ("changes", "path", "sentence"),
    [
        (
            {"target": TokenChoice(text=" is zebra")},
            ["target", "text"],
            "No token of the language model adds",
        ),
        ({"contrast": TokenChoice(text="qqqq")}, ["contrast", "text"], "or give a tokenId"),
        ({"target": TokenChoice(token_id=10**6)}, ["target", "tokenId"], "there is no 1000000"),
        ({"target": TokenChoice(token_id=-1)}, ["target", "tokenId"], "there is no -1"),
        ({"contrast": NUMBER_5}, ["contrast"], "is the target itself; name"),
        ({"prompt": "7 " * 200, "max_tokens": 300}, ["prompt"], "401 tokens; the limit is 300"),
        ({"prompt": "7 " * 600}, ["prompt"], "takes at most 512"),
    ],
)
def test_what_cannot_be_attributed_is_invalid(
    lm: LanguageModel,
    tiny_source: LanguageModelSource,
    changes: dict[str, Any],
    path: list[str],
    sentence: str,
) -> None:
    with pytest.raises(TaskError, match=sentence) as caught:
        attribute(lm, make_sae(lm), tiny_source, **changes)
    assert (caught.value.code, caught.value.path) == ("INVALID", path)


def test_the_default_target_is_no_contrast(lm: LanguageModel, tiny_source: LanguageModelSource) -> None:
    sae = make_sae(lm)
    top = attribute(lm, sae, tiny_source, target=None).target.token_id
    with pytest.raises(TaskError, match="itself, as the most probable token is by default"):
        attribute(lm, sae, tiny_source, target=None, contrast=TokenChoice(token_id=top))


def test_a_chat_is_read_as_it_was_rendered(lm: LanguageModel, tiny_source: LanguageModelSource) -> None:
    chat = "<bos>user: hello"
    found = attribute(
        lm, make_sae(lm), tiny_source, prompt="hello", chat=chat, target=TokenChoice(text=" is")
    )
    assert found.prompt == "hello"
    ids = lm.tokenizer(chat, add_special_tokens=False)["input_ids"]
    assert [token.token_id for token in found.tokens] == ids


def test_only_so_many_neurons_are_listed_and_ablated(
    lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    sae = make_sae(lm)
    every = attribute(lm, sae, tiny_source, ablate=2)
    few = attribute(lm, sae, tiny_source, first=4, ablate=2)
    assert few.neurons == every.neurons[:4]
    assert [one.ablation_effect is None for one in few.neurons] == [False, False, True, True]
    assert few.neurons_effect == every.neurons_effect
    more = attribute(lm, sae, tiny_source, first=2, ablate=50).neurons
    assert [one.ablation_effect is None for one in more] == [False, False]


# --------------------------------------------------------------------------------- how it is done


@pytest.mark.parametrize("together", [True, False])
def test_ablations_are_the_same_in_one_pass_and_in_several_and_others_have_their_turn_between(
    lm: LanguageModel, tiny_source: LanguageModelSource, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    sae = make_sae(lm)
    whole = attribute(lm, sae, tiny_source, ablate=5)
    monkeypatch.setattr(attribution, "TOKENS_OF_A_PASS", 3 * len(whole.tokens))
    monkeypatch.setattr(attribution, "go_together", lambda lm: together)
    context = RecordingContext()

    def look() -> None:
        assert not torch.is_inference_mode_enabled()
        assert lm.layers.get_hooks() == []

    context.on_check = look  # type: ignore[method-assign]
    parts = attribute_neurons(task_of(tiny_source, ablate=5), context, lm, sae)
    # One before the first pass, and one before each of two ablations beside the whole, or of one.
    assert context.checks == 1 + (3 if together else 5)
    for one, same in zip(whole.neurons[:5], parts.neurons, strict=False):
        assert one.neuron_index == same.neuron_index
        assert one.ablation_effect == pytest.approx(same.ablation_effect, abs=1e-5)


def test_a_model_may_change_its_stream_in_place_and_is_not_asked_to_keep_anything(
    lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    sae = make_sae(lm)
    expected = attribute(lm, sae, tiny_source, ablate=2)
    asked: list[dict[str, Any]] = []
    handles = [
        lm.model.model.layers[1].register_forward_pre_hook(change_in_place),
        lm.model.register_forward_pre_hook(
            lambda module, inputs, options: asked.append(options), with_kwargs=True
        ),
    ]
    try:
        found = attribute(lm, sae, tiny_source, ablate=2)
    finally:
        for handle in handles:
            handle.remove()
    assert found == expected
    assert len(asked) == 2
    for options in asked:
        assert options["use_cache"] is False and options.get("past_key_values") is None


def change_in_place(module: Any, inputs: tuple[Tensor, ...]) -> None:
    inputs[0].mul_(1.0)


def test_a_canceled_request_ends_between_passes(lm: LanguageModel, tiny_source: LanguageModelSource) -> None:
    context = RecordingContext()

    def cancel() -> None:
        if context.checks == 2:
            raise CancelRequested

    context.on_check = cancel  # type: ignore[method-assign]
    with pytest.raises(CancelRequested):
        attribute_neurons(task_of(tiny_source, ablate=5), context, lm, make_sae(lm))
    assert lm.layers.get_hooks() == []


@pytest.mark.parametrize("name", ["ReLUSae", "SquaringSae"])
def test_latents_are_dense_for_a_few_tokens_at_once(
    lm: LanguageModel, tiny_source: LanguageModelSource, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = attribute(lm, sae_of(lm, name), tiny_source, ablate=3)
    monkeypatch.setattr(decoded_latents, "MAX_HOOK_LATENTS", 3 * N_LATENTS)
    parts = by_neuron(attribute(lm, sae_of(lm, name), tiny_source, ablate=3))
    for one in whole.neurons:
        same = parts[one.neuron_index]
        assert one.effect == pytest.approx(same.effect, abs=1e-5)
        assert one.ablation_effect == pytest.approx(same.ablation_effect, abs=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("FLOAT16", 0.02), ("BFLOAT16", 0.15)])
def test_half_precision_gives_about_the_same(
    lm: LanguageModel, tiny_source: LanguageModelSource, dtype: str, tolerance: float
) -> None:
    sae = make_sae(lm, "ReLUSae")
    exact = attribute(lm, sae, tiny_source, ablate=4)
    source = msgspec.structs.replace(tiny_source, id="lm_half", dtype=dtype)
    half_lm = LanguageModels(device="cpu").get(source)
    half = by_neuron(attribute_neurons(task_of(source, ablate=4), RecordingContext(), half_lm, sae))
    largest = abs(exact.neurons[0].effect)
    for one in exact.neurons[:8]:
        assert half[one.neuron_index].effect == pytest.approx(one.effect, abs=tolerance * largest)
    for found in half.values():
        if found.ablation_effect is not None:
            ids = [token.token_id for token in exact.tokens]
            own, without = (
                steered(half_lm, sae, task_of(source), ids, found.neuron_index, factor)[5]
                for factor in (1.0, 0.0)
            )
            assert found.ablation_effect == pytest.approx(float(own - without), abs=1e-4)


def test_a_neurons_activation_is_its_highest_latent_and_the_token_of_it(
    lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    sae = make_sae(lm, "ReLUSae")
    found = attribute(lm, sae, tiny_source)
    ids = [token.token_id for token in found.tokens]
    latents = sae.encode(layer_output(lm, ids))
    latents[[token.special for token in found.tokens]] = 0
    for one in found.neurons:
        assert one.activation == pytest.approx(float(latents[:, one.neuron_index].max()), abs=1e-5)
        assert float(latents[one.token_index, one.neuron_index]) == pytest.approx(one.activation, abs=1e-5)


def test_an_sae_that_decodes_without_gradients_is_refused(
    lm: LanguageModel, tiny_source: LanguageModelSource
) -> None:
    class Opaque(DummySae):
        def decode(self, x: Tensor) -> Tensor:
            return super().decode(x).detach()

    sae = Opaque(N_LATENTS, 32)
    sae.sae_engine.eval()
    with pytest.raises(TaskError, match=r"Opaque.decode has no gradients") as caught:
        attribute(lm, sae, tiny_source)
    assert caught.value.code == "CONFLICT"
