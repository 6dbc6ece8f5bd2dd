"""Promoted and suppressed tokens and similar neurons, held against NumPy on the models' own weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from gql_server.compute.indexing import direct_effects as effects_module
from gql_server.compute.indexing.direct_effects import direct_effects
from gql_server.compute.indexing.strongest_columns import strongest_columns
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.unembedding import NoUnembedding, find_unembedding
from gql_server.compute.saes import decoder_directions as directions_module
from gql_server.compute.saes.affine_saes import JumpReLUSae
from gql_server.compute.saes.decoder_directions import decoder_directions, similar_neurons
from gql_server.compute.worker.context import TaskError
from tests.compute.architectures import PADDING_ROWS, make_architecture
from tests.compute.dummy_sae import DummySae

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.modules.l1_sae import L1Sae
from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae
from mi_crow.mechanistic.sae.sae import Sae

Array = NDArray[Any]
TOLD = [
    "LlamaForCausalLM",
    "Gemma2ForCausalLM",
    "CohereForCausalLM",
    "GraniteForCausalLM",
    "GPT2LMHeadModel",
    "OlmoForCausalLM",
    "MiniCPM3ForCausalLM",
]


def nothing(completed: int, total: int) -> None:
    """Stand for a task's check."""


@pytest.fixture
def load(tiny_model_dir: Path, tmp_path: Path, language_models: LanguageModels) -> Any:
    def load(name: str, dtype: str = "FLOAT32") -> tuple[LanguageModel, dict[str, Array]]:
        source = make_architecture(name, tiny_model_dir, tmp_path, dtype)
        weights = load_file(Path(source.location) / "model.safetensors")
        return language_models.get(source), {key: value.astype(np.float64) for key, value in weights.items()}

    return load


def block(lm: LanguageModel, number: int = 0) -> str:
    """Return the name of a block's layer."""
    names: list[str] = [name for name in lm.layers.name_to_layer if name.endswith(f"_{number}")]
    return names[0]


def by_hand(name: str, weights: dict[str, Array], directions: Array) -> Array:
    """Return the direct effects [n_latents, n_tokens], by each architecture's own formula."""
    centered = directions - directions.mean(axis=1, keepdims=True)
    effects: Array
    match name:
        case "LlamaForCausalLM":
            effects = directions * weights["model.norm.weight"] @ weights["lm_head.weight"].T
        case "Gemma2ForCausalLM":
            effects = directions * (1 + weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T
        case "GraniteForCausalLM":
            effects = directions * weights["model.norm.weight"] @ weights["lm_head.weight"].T / 8
        case "CohereForCausalLM":
            effects = centered * weights["model.norm.weight"] @ weights["model.embed_tokens.weight"].T * 0.25
        case "OlmoForCausalLM":
            # Its norms have no parameters.
            effects = centered @ weights["lm_head.weight"].T
        case "MiniCPM3ForCausalLM":
            # What comes into the output layer is divided by hidden_size / dim_model_base.
            effects = directions * weights["model.norm.weight"] / 4 @ weights["model.embed_tokens.weight"].T
        case "GPT2LMHeadModel":
            effects = centered * weights["transformer.ln_f.weight"] @ weights["transformer.wte.weight"].T
    return effects


def check_ranked(
    tokens: Array, effects: Array, by_hand: Array, k: int, sign: int, tolerance: float = 1e-5
) -> None:
    """Check the strongest tokens of every neuron against all effects [n_latents, n_tokens]."""
    for found_tokens, found, all_effects in zip(tokens, effects, sign * by_hand, strict=True):
        positive = int((all_effects > 0).sum())
        there = min(k, positive)
        expected = np.argsort(-all_effects, kind="stable")[:there]
        size = np.abs(all_effects).max()
        np.testing.assert_allclose(sign * found[:there], all_effects[expected], atol=tolerance * size)
        np.testing.assert_allclose(
            all_effects[found_tokens[:there]], all_effects[expected], atol=tolerance * size
        )
        assert len(set(found_tokens[:there].tolist())) == there
        assert (found_tokens[there:] == -1).all()
        assert not found[there:].any()


@pytest.mark.parametrize("name", TOLD)
def test_effects_are_those_of_the_weights_multiplied_by_hand(name: str, load: Any) -> None:
    lm, weights = load(name)
    directions = np.random.default_rng(1).normal(size=(40, 32)) + 0.5
    unembedding = find_unembedding(lm, block(lm))
    found = {
        key: tensor.numpy()
        for key, tensor in direct_effects(
            torch.tensor(directions, dtype=torch.float32), unembedding, nothing
        ).items()
    }
    n_tokens = len(lm.tokenizer)
    expected = by_hand(name, weights, directions)
    assert expected.shape[1] == n_tokens + PADDING_ROWS
    expected = expected[:, :n_tokens]
    assert found["promoted_tokens"].shape == found["suppressed_tokens"].shape == (40, 50)
    check_ranked(found["promoted_tokens"], found["promoted_effects"], expected, 50, 1)
    check_ranked(found["suppressed_tokens"], found["suppressed_effects"], expected, 50, -1)


@pytest.mark.parametrize("name", TOLD)
def test_what_is_found_is_the_whole_way_from_the_residual_stream_to_the_logits(name: str, load: Any) -> None:
    lm, _ = load(name)
    unembedding = find_unembedding(lm, block(lm))
    model = AutoModelForCausalLM.from_pretrained(lm.model.name_or_path).eval()
    model.config.final_logit_softcapping = None
    inner = model.transformer.h if name == "GPT2LMHeadModel" else model.model.layers
    caught = []
    inner[-1].register_forward_hook(lambda _, __, output: caught.append(output))
    with torch.no_grad():
        logits = model(torch.tensor([[5, 9, 77, 3]])).logits[0, :, : len(lm.tokenizer)]
    x = (caught[0][0] if isinstance(caught[0], tuple) else caught[0])[0]
    centered = x - x.mean(dim=1, keepdim=True) if unembedding.centers else x
    size = centered.square().mean(dim=1, keepdim=True).sqrt()
    with torch.no_grad():
        told = unembedding.seen(x) / size @ unembedding.weight.T
    # What is the same for every x, the norm's bias, goes away in the difference.
    torch.testing.assert_close(told[1:] - told[:-1], logits[1:] - logits[:-1], rtol=1e-3, atol=1e-4)


def test_effects_do_not_depend_on_the_chunks_or_the_precision(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, weights = load("LlamaForCausalLM", "BFLOAT16")
    directions = torch.randn(21, 32, generator=torch.Generator().manual_seed(2))
    unembedding = find_unembedding(lm, block(lm))
    assert unembedding.weight.dtype == torch.bfloat16
    whole = direct_effects(directions, unembedding, nothing)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(effects_module, "MAX_DENSE_VALUES", 2000)
    effects = direct_effects(directions, unembedding, lambda *done: told.append(done))
    assert told == [(start, 21) for start in range(0, 21, 3)]
    for name, tensor in whole.items():
        torch.testing.assert_close(effects[name], tensor)
    rounded = {
        key: torch.tensor(value).bfloat16().double().numpy()
        for key, value in weights.items()
        if key in ("model.norm.weight", "lm_head.weight")
    }
    expected = by_hand("LlamaForCausalLM", rounded, directions.double().numpy())[:, : len(lm.tokenizer)]
    check_ranked(whole["promoted_tokens"].numpy(), whole["promoted_effects"].numpy(), expected, 50, 1)


@pytest.mark.parametrize(
    ("name", "layer", "sentence"),
    [
        ("OPTForCausalLM", "layers_0", "does not come right after a final norm"),
        ("LlamaForCausalLM", "layers_0_input_layernorm", "not known to add to the residual stream"),
        ("LlamaForCausalLM", "layers_0_self_attn_q_proj", "not known to add to the residual stream"),
        ("Gemma2ForCausalLM", "layers_0_self_attn", "goes through a norm"),
        ("Gemma2ForCausalLM", "layers_0_mlp", "goes through a norm"),
    ],
)
def test_what_is_no_direct_way_to_the_logits_is_not_told(
    name: str, layer: str, sentence: str, load: Any
) -> None:
    lm, _ = load(name)
    full = next(known for known in lm.layers.name_to_layer if known.endswith(layer))
    with pytest.raises(NoUnembedding, match=sentence):
        find_unembedding(lm, full)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("LlamaForCausalLM", "layers_1_self_attn"),
        ("LlamaForCausalLM", "layers_1_mlp"),
        ("GPT2LMHeadModel", "h_1_attn"),
    ],
)
def test_attention_and_mlp_add_to_the_residual_stream_too(name: str, layer: str, load: Any) -> None:
    lm, _ = load(name)
    full = next(known for known in lm.layers.name_to_layer if known.endswith(layer))
    assert find_unembedding(lm, full).gain.shape == (32,)
    assert not any(module._forward_hooks for module in lm.model.modules())


def test_directions_of_another_width_have_no_effects_that_can_be_told(load: Any) -> None:
    lm, _ = load("LlamaForCausalLM")
    with pytest.raises(NoUnembedding, match="16 wide, the residual stream 32"):
        direct_effects(torch.ones(3, 16), find_unembedding(lm, block(lm)), nothing)


def test_a_direction_without_length_raises_no_token(load: Any) -> None:
    lm, _ = load("LlamaForCausalLM")
    found = direct_effects(torch.zeros(2, 32), find_unembedding(lm, block(lm)), nothing)
    assert (found["promoted_tokens"] == -1).all()
    assert (found["suppressed_tokens"] == -1).all()


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_effects_that_float32_cannot_hold_are_not_told(load: Any, name: str) -> None:
    lm, _ = load(name)
    directions = torch.randn(2, 32)
    directions[1] = directions[1].sign() * 3e38
    with pytest.raises(TaskError, match="effects on the logits are not finite"):
        direct_effects(directions, find_unembedding(lm, block(lm)), nothing)


VALUES = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 1.0, 2.0, 3.0])


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(1, 900),
    k=st.integers(1, 50),
    seed=st.integers(0, 1000),
    above=st.sampled_from([-(10**6), 0]),
    largest=st.sampled_from([3, 100, 10**5]),
)
def test_the_largest_of_a_row_are_chosen_and_ties_go_to_the_lower_column(
    width: int, k: int, seed: int, above: float, largest: int
) -> None:
    values = np.random.default_rng(seed).integers(-largest, largest + 1, size=(3, width)).astype(np.float32)
    values[2] = 0
    columns, found = strongest_columns(torch.tensor(values), k, above)
    for row in range(3):
        order = np.argsort(-values[row], kind="stable")[:k]
        order = order[values[row][order] > above]
        missing = min(k, width) - len(order)
        assert columns[row].tolist() == order.tolist() + [-1] * missing
        assert found[row].tolist() == values[row][order].tolist() + [0] * missing


@pytest.mark.parametrize(
    ("sae_class", "shows_dictionary"),
    [(TopKSae, True), (L1Sae, True), (JumpReLUSae, True), (DummySae, True), (DummySae, False)],
)
def test_a_direction_is_what_one_unit_of_the_latent_adds_to_the_reconstruction(
    sae_class: type[Sae], shows_dictionary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(4)
    sae = sae_class(n_latents=40, n_inputs=12)
    with torch.no_grad():
        for name, parameter in sae.sae_engine.named_parameters():
            if "decoder" in name or "_weights" in name:
                parameter.copy_(torch.randn_like(parameter) * 2)
    sae.sae_engine.eval()
    sae.sae_engine.train()
    sae.sae_engine.eval()
    monkeypatch.setattr(directions_module, "MAX_DENSE_VALUES", 200)
    if not shows_dictionary:
        monkeypatch.setattr(sae.sae_engine, "get_dictionary", lambda: torch.ones(40, 12))
    directions = decoder_directions(sae, nothing)
    with torch.no_grad():
        latents = torch.rand(1, 40)
        for neuron in range(40):
            more = latents.clone()
            more[0, neuron] += 1
            torch.testing.assert_close(
                directions[neuron], (sae.decode(more) - sae.decode(latents))[0], atol=1e-4, rtol=1e-4
            )


def test_a_large_decoder_bias_leaves_the_directions_as_they_are() -> None:
    torch.manual_seed(5)
    sae = JumpReLUSae(n_latents=40, n_inputs=12)
    with torch.no_grad():
        sae.sae_engine.decoder_bias.fill_(3e38)
    assert torch.equal(decoder_directions(sae, nothing), sae.sae_engine.decoder_weight)


@pytest.mark.parametrize("length", [3e38, 1e-30, 1e-38])
def test_cosines_are_right_for_directions_whose_squares_float32_cannot_hold(length: float) -> None:
    rng = np.random.default_rng(8)
    directions = (rng.uniform(-1, 1, size=(20, 6)) * length).astype(np.float32)
    found = similar_neurons(torch.tensor(directions), nothing)
    units = directions.astype(np.float64) / length
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    for neuron, (others, cosines) in enumerate(
        zip(found["similar_neurons"].tolist(), found["similar_cosines"].tolist(), strict=True)
    ):
        expected = np.delete(np.arange(20), neuron)
        expected = expected[np.argsort(-(units[expected] @ units[neuron]))]
        assert others == [*expected, -1]
        np.testing.assert_allclose(cosines[:-1], units[expected] @ units[neuron], atol=1e-5)


def test_a_direction_that_is_not_finite_is_like_no_other() -> None:
    directions = torch.ones(4, 6)
    directions[1, 2], directions[2, 0] = torch.nan, torch.inf
    found = similar_neurons(directions, nothing)
    assert found["similar_neurons"].tolist() == [[3, *[-1] * 3], [-1] * 4, [-1] * 4, [0, *[-1] * 3]]


def test_similar_neurons_are_the_nearest_by_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    directions = rng.normal(size=(90, 8)) * rng.uniform(0.1, 20, size=(90, 1))
    directions[11] = 0
    monkeypatch.setattr(directions_module, "MAX_DENSE_VALUES", 1000)
    found = similar_neurons(torch.tensor(directions, dtype=torch.float32), nothing)
    neurons, cosines = found["similar_neurons"].numpy(), found["similar_cosines"].numpy()
    assert neurons.shape == (90, 50)
    assert (neurons[11] == -1).all()
    others = np.delete(np.arange(90), 11)
    for neuron in others:
        rest = others[others != neuron]
        lengths = np.linalg.norm(directions[rest], axis=1) * np.linalg.norm(directions[neuron])
        expected = directions[rest] @ directions[neuron] / lengths
        order = np.argsort(-expected)[:50]
        np.testing.assert_array_equal(neurons[neuron], rest[order])
        np.testing.assert_allclose(cosines[neuron], expected[order], atol=1e-6)
