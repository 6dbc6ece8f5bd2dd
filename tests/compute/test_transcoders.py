"""Transcoders, which read one layer and write another, against transformers with hooks by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from gql_server.artifacts.datasets import write_texts
from gql_server.compute.evaluating.evaluation import evaluate_sae
from gql_server.compute.generating.generation import generate
from gql_server.compute.indexing.directions import direction_tensors
from gql_server.compute.inspection.attribution import attribute_neurons
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.saes.encoding import n_outputs_of
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import OutputFinished
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.sources import Edit, LanguageModelSource, SaeSource
from gql_server.protocol.tasks import AttributeNeurons, EvaluateSae, FindTopNeurons, IndexNeurons, TokenChoice
from tests.compute.conftest import RecordingContext
from tests.compute.evaluation_by_hand import NumpyAffineSae, log_softmax
from tests.compute.generating.requests_together import Request, noted_batch_sizes, run_alone, run_together
from tests.support.generation_tasks import generation_task

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

BLOCK = "llamaforcausallm_model_layers_0"
READS = ("model.layers.0.post_attention_layernorm", f"{BLOCK}_post_attention_layernorm")
MLP = ("model.layers.0.mlp", f"{BLOCK}_mlp")
WIDER = ("model.layers.0.mlp.up_proj", f"{BLOCK}_mlp_up_proj")
N_LATENTS, K = 48, 6
TEXTS = ["The for statement is used to iterate over a sequence.", "Strings", "It is used <eos> and more."]
EDITS = [Edit(3, 1.0, 4.0), Edit(11, 3.0, 0.0), Edit(20, 0.0, 0.0)]
EXCLUSIONS = Exclusions(first_positions=1)
CASES = [
    pytest.param("ReLUSae", MLP, True, id="skip"),
    pytest.param("BiasedTopKSae", MLP, False, id="top-k"),
    pytest.param("JumpReLUSae", WIDER, True, id="wider, skip"),
]


@pytest.fixture
def lm(language_models: LanguageModels, tiny_source: LanguageModelSource) -> LanguageModel:
    return language_models.get(tiny_source)


def make(lm: LanguageModel, name: str, output: tuple[str, str], has_skip: bool, path: Path) -> Sae:
    """Make one with random weights, and load it as it was saved."""
    torch.manual_seed(2)
    sae_class, width = SaeClasses().get(name), lm.model.config.hidden_size
    n_outputs = lm.model.config.intermediate_size if output == WIDER else width
    sae = sae_class.build(N_LATENTS, width, K if name == "BiasedTopKSae" else None, "cpu")
    sae.sae_engine.write(n_outputs, has_skip=has_skip)
    sae.sae_engine.subtracts_bias = False
    for tensor in sae.sae_engine.state_dict().values():
        tensor.copy_(torch.randn_like(tensor) * 0.4)
    if "threshold" in sae.sae_engine.state_dict():
        sae.sae_engine.state_dict()["threshold"].abs_()
    path.mkdir(exist_ok=True)
    sae = sae_class.load(sae_class.save(sae, path))
    place(sae, "cpu")
    assert n_outputs_of(sae) == n_outputs
    return sae


def source_of(name: str, output: tuple[str, str], directory: Path = Path("/nowhere")) -> SaeSource:
    k = K if name == "BiasedTopKSae" else None
    return SaeSource("sae_1", name, str(directory), READS[1], 32, N_LATENTS, k, output[1])


class WithTransformers:
    """A plain model, hooks by hand, and the transcoder in NumPy."""

    def __init__(self, directory: Path, sae: Sae, output: tuple[str, str]) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.sae, self.output = NumpyAffineSae(sae), output[0]
        self.skip = self.sae.weights.get("skip_weight")

    def latents(self, x: Any) -> Any:
        return self.sae.latents(x)

    def reconstruct(self, x: Any, latents: Any) -> Any:
        skip = 0 if self.skip is None else x @ self.skip.T
        return self.sae.reconstruct(latents) + skip

    def run(
        self, ids: list[int], change: Callable[[Any, Any], Any] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input layer's output, the output layer's, and the logits with that changed."""
        seen: list[Tensor] = []

        def read(module: Any, inputs: Any, output: Any) -> None:
            seen.append(output[0].clone())

        def write(module: Any, inputs: Any, output: Any) -> Any:
            seen.append(output[0].clone())
            if change is None:
                return None
            changed = change(seen[0].double().numpy(), seen[1].double().numpy())
            return torch.from_numpy(changed).to(output.dtype)[None]

        handles = [
            self.model.get_submodule(READS[0]).register_forward_hook(read),
            self.model.get_submodule(self.output).register_forward_hook(write),
        ]
        with torch.no_grad():
            logits = self.model(torch.tensor([ids])).logits[0]
        for handle in handles:
            handle.remove()
        return seen[0], seen[1], logits


@pytest.mark.parametrize(("name", "output", "has_skip"), CASES)
def test_evaluates_the_output_layer_as_transformers_does_by_hand(
    name: str, output: tuple[str, str], has_skip: bool,
    lm: LanguageModel, tiny_source: LanguageModelSource, tmp_path: Path,
) -> None:  # fmt: skip
    sae = make(lm, name, output, has_skip, tmp_path / "sae")
    write_texts(tmp_path / "texts", TEXTS)
    task = EvaluateSae(
        sae=source_of(name, output, tmp_path / "sae"), language_model=tiny_source,
        dataset_dir=str(tmp_path / "texts"), hub_dataset=None, dataset_kind="INLINE",
        dataset_description="texts", dataset_sample_count=len(TEXTS), sample_offset=0, sample_limit=100,
        trained_max_length=20, max_texts=100, exclusions=EXCLUSIONS,
    )  # fmt: skip
    result = evaluate_sae(task, RecordingContext(), lm, sae)

    by_hand = WithTransformers(Path(tiny_source.location), sae, output)
    ys, hats, active = [], [], []
    ce: dict[str, list[Any]] = {"own": [], "hat": [], "zero": []}
    for text in TEXTS:
        ids = lm.tokenizer(text)["input_ids"][:20]
        counted = np.array([token not in lm.tokenizer.all_special_ids for token in ids])
        counted[0] = False
        x, y, own = by_hand.run(ids)
        latents = by_hand.latents(x.double().numpy())
        hat = by_hand.reconstruct(x.double().numpy(), latents)

        def put(values: Any, counted: Any = counted) -> Callable[[Any, Any], Any]:
            return lambda _, written: np.where(counted[:, None], values, written)

        logits = {"own": own, "hat": by_hand.run(ids, put(hat))[2], "zero": by_hand.run(ids, put(0.0))[2]}
        for place_ in range(1, len(ids)):
            if counted[place_]:
                for kept, found in logits.items():
                    ce[kept].append(-log_softmax(found[place_ - 1].double().numpy())[ids[place_]])
        ys.append(y.double().numpy()[counted])
        hats.append(hat[counted])
        active.append((latents[counted] != 0).sum(axis=1))
    y, hat = np.concatenate(ys), np.concatenate(hats)
    assert result.token_count == len(y)
    assert result.mse == pytest.approx(((y - hat) ** 2).mean(), rel=1e-5)
    variance = ((y - y.mean(axis=0)) ** 2).sum()
    assert result.explained_variance == pytest.approx(1 - ((y - hat) ** 2).sum() / variance, rel=1e-5)
    assert result.l0 == pytest.approx(np.concatenate(active).mean(), rel=1e-9)
    assert result.ce_loss_original == pytest.approx(np.mean(ce["own"]), rel=1e-5)
    assert result.ce_loss_reconstructed == pytest.approx(np.mean(ce["hat"]), rel=1e-5)
    assert result.ce_loss_zero_ablated == pytest.approx(np.mean(ce["zero"]), rel=1e-5)
    assert abs(np.mean(ce["hat"]) - np.mean(ce["own"])) > 1e-3


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
@pytest.mark.parametrize(("name", "output", "has_skip"), CASES)
def test_steers_where_it_writes_by_latents_of_where_it_reads(
    name: str, output: tuple[str, str], has_skip: bool, mode: Any,
    lm: LanguageModel, tiny_source: LanguageModelSource, tmp_path: Path,
) -> None:  # fmt: skip
    sae = make(lm, name, output, has_skip, tmp_path / "sae")
    prompts = ["True and", "a string is not None or True for all of the others", "a"]
    task = generation_task(
        tiny_source, prompts, 6, sae=source_of(name, output), edits=EDITS, mode=mode,
        compare_to_baseline=True, exclusions=EXCLUSIONS, top_log_probabilities=1,
    )  # fmt: skip
    context = RecordingContext()
    generate(task, context, lm, sae)
    outputs = [event for event in context.events if isinstance(event, OutputFinished)]
    by_hand = WithTransformers(Path(tiny_source.location), sae, output)
    assert {one.variant for one in outputs} == {"BASELINE", "STEERED"}
    differs = False
    for one in outputs:
        given = lm.tokenizer(prompts[one.prompt_index])["input_ids"]
        ids = given + [token.token_id for token in one.tokens]
        plain = np.array([token not in lm.tokenizer.all_special_ids for token in ids])
        kept = np.arange(len(ids)) >= 1

        def change(x: Any, y: Any, plain: Any = plain, kept: Any = kept) -> Any:
            before = by_hand.latents(x)
            after = before.copy()
            for edit in EDITS:
                there = plain & kept
                neuron = edit.neuron_index
                after[there, neuron] = before[there, neuron] * edit.multiplier + edit.bias
            # Nothing is changed where a position is left out.
            if mode == "RECONSTRUCTION":
                return np.where(kept[:, None], by_hand.reconstruct(x, after), y)
            return y + by_hand.reconstruct(x, after) - by_hand.reconstruct(x, before)

        own = by_hand.run(ids)[2]
        expected = by_hand.run(ids, change)[2] if one.variant == "STEERED" else own
        differs |= bool((own - expected).abs().max() > 1e-2)
        of_tokens = expected.log_softmax(dim=1)[len(given) - 1 : -1]
        for token, row in zip(one.tokens, of_tokens, strict=True):
            assert token.log_probability == pytest.approx(float(row[token.token_id]), abs=1e-5)
    assert differs


def minus(part: Any) -> Callable[[Any, Any], Any]:
    return lambda _, written: written - part


@pytest.mark.parametrize(("name", "output", "has_skip"), CASES)
def test_attributes_to_latents_through_the_output_layer(
    name: str, output: tuple[str, str], has_skip: bool,
    lm: LanguageModel, tiny_source: LanguageModelSource, tmp_path: Path,
) -> None:  # fmt: skip
    sae = make(lm, name, output, has_skip, tmp_path / "sae")
    prompt = "for x in range(10): print(x)"
    task = AttributeNeurons(
        tiny_source, source_of(name, output), prompt, None, TokenChoice(token_id=5), None, N_LATENTS, 3, 500
    )
    found = attribute_neurons(task, RecordingContext(), lm, sae)
    by_hand = WithTransformers(Path(tiny_source.location), sae, output)
    ids = lm.tokenizer(prompt)["input_ids"]
    plain = np.array([token not in lm.tokenizer.all_special_ids for token in ids])
    read, written, own = by_hand.run(ids)
    x, y = read.double().numpy(), written.double().numpy()
    latents = by_hand.latents(x) * plain[:, None]

    leaf: list[Tensor] = []

    def begin(module: Any, inputs: Any, output: Any) -> Tensor:
        leaf.append(output.detach().clone().requires_grad_())
        return leaf[0].clone()

    handle = by_hand.model.get_submodule(output[0]).register_forward_hook(begin)
    score = by_hand.model(torch.tensor([ids])).logits[0, -1].log_softmax(dim=0)[5]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, leaf[0])
    slope = gradient[0].double().numpy()
    effects = (latents * (slope @ by_hand.sae.weights["decoder_weight"].T)).sum(axis=0)
    nothing = by_hand.reconstruct(x, np.zeros_like(latents))
    error = y - by_hand.reconstruct(x, by_hand.latents(x))
    assert {one.neuron_index for one in found.neurons} == set(np.flatnonzero(effects).tolist())
    for one in found.neurons:
        assert one.effect == pytest.approx(effects[one.neuron_index], rel=1e-4, abs=1e-6)
    assert found.bias_effect == pytest.approx((slope * nothing)[plain].sum(), rel=1e-4, abs=1e-5)
    assert found.error_effect == pytest.approx((slope * error)[plain].sum(), rel=1e-4, abs=1e-5)
    for one in found.neurons[:3]:
        part = latents[:, [one.neuron_index]] * by_hand.sae.weights["decoder_weight"][one.neuron_index]
        without = by_hand.run(ids, minus(part))[2]
        change = own[-1].log_softmax(dim=0)[5] - without[-1].log_softmax(dim=0)[5]
        assert one.ablation_effect == pytest.approx(float(change), rel=1e-3, abs=1e-5)


def test_refuses_to_write_a_layer_that_comes_before_the_one_it_reads(
    lm: LanguageModel, tiny_source: LanguageModelSource, tmp_path: Path
) -> None:
    sae = make(lm, "ReLUSae", MLP, True, tmp_path / "sae")
    source = msgspec.structs.replace(source_of("ReLUSae", MLP), layer=MLP[1], output_layer=READS[1])
    with pytest.raises(TaskError) as refused:
        generate(generation_task(tiny_source, ["a"], 2, sae=source, edits=EDITS), RecordingContext(), lm, sae)
    assert refused.value.code == "CONFLICT"
    assert "has its output before" in refused.value.reason
    task = AttributeNeurons(tiny_source, source, "a b", None, TokenChoice(token_id=5), None, 5, 0, 500)
    with pytest.raises(TaskError, match="has its output before"):
        attribute_neurons(task, RecordingContext(), lm, sae)


def test_promoted_tokens_and_top_neurons_are_of_where_it_writes_and_reads(
    lm: LanguageModel, language_models: LanguageModels, tiny_source: LanguageModelSource, tmp_path: Path
) -> None:
    sae = make(lm, "ReLUSae", MLP, True, tmp_path / "sae")
    source, context = source_of("ReLUSae", MLP), RecordingContext()
    task = IndexNeurons(
        "index_1",
        source,
        "run_1",
        "/nowhere",
        "/nowhere",
        "/nowhere",
        5,
        "/nowhere",
        language_model=tiny_source,
    )
    tensors, _ = direction_tensors(task, context, sae, language_models)
    model: Any = WithTransformers(Path(tiny_source.location), sae, MLP).model
    weights = sae.sae_engine.state_dict()["decoder_weight"] * model.model.norm.weight
    effects = weights @ model.lm_head.weight.T
    assert tensors["promoted_tokens"][:, 0].tolist() == effects.argmax(dim=1).tolist()
    # What it reads goes through the MLP, so that nothing could be said of it.
    plain = msgspec.structs.replace(source, output_layer=None)
    other, _ = direction_tensors(msgspec.structs.replace(task, sae=plain), context, sae, language_models)
    assert "promoted_tokens" not in other

    asked = FindTopNeurons(tiny_source, source, [TEXTS[0]], 5, per_token=False)
    (found,) = find_top_neurons(asked, context, lm, sae).prompts
    ids = lm.tokenizer(TEXTS[0])["input_ids"]
    by_hand = WithTransformers(Path(tiny_source.location), sae, MLP)
    counted = np.array([token not in lm.tokenizer.all_special_ids for token in ids])
    highest = by_hand.latents(by_hand.run(ids)[0].double().numpy())[counted].max(axis=0)
    assert [one.neuron_index for one in found.neurons] == np.argsort(-highest)[:5].tolist()
    values = [one.activation for one in found.neurons]
    assert values == pytest.approx(np.sort(highest)[::-1][:5].tolist(), rel=1e-5)


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_requests_go_on_together_with_others_on_the_same_layers(
    mode: Any, lm: LanguageModel, tiny_source: LanguageModelSource, tmp_path: Path
) -> None:
    reads = make(lm, "ReLUSae", MLP, True, tmp_path / "a")
    plain = make(lm, "JumpReLUSae", MLP, False, tmp_path / "b")
    transcoder = source_of("ReLUSae", MLP)
    on_output = SaeSource("sae_2", "JumpReLUSae", "/nowhere", MLP[1], 32, N_LATENTS, None)
    on_input = msgspec.structs.replace(on_output, layer=READS[1])
    requests = [
        Request(
            generation_task(
                tiny_source, [prompt], 6, sae=source, edits=EDITS, mode=mode, top_log_probabilities=1
            ),
            sae,
        )
        for prompt, source, sae in (
            ("True and", transcoder, reads),
            ("a string is not None", on_output, plain),
            ("for x in y", on_input, plain),
            ("a", transcoder, reads),
        )
    ]
    with noted_batch_sizes(lm) as sizes:
        run_together(lm, requests)
    assert max(sizes) == len(requests)
    for together, alone in zip(requests, run_alone(lm, requests), strict=True):
        assert together.error is None and alone.error is None
        for one, other in zip(together.outputs, alone.outputs, strict=True):
            assert [token.token_id for token in one.tokens] == [token.token_id for token in other.tokens]
            expected = [token.log_probability for token in other.tokens]
            assert [token.log_probability for token in one.tokens] == pytest.approx(expected, abs=1e-4)
