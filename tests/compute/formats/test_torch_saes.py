"""SAEs of sparsify and of .pt and .pth files: dictionary_learning, Qwen-Scope, Goodfire and others."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources.refusing import NotRepresentable
from tests.compute.formats.published import (
    above,
    assert_any_damage_is_read_or_refused,
    assert_any_value_is_read_or_refused,
    assert_computes,
    found,
    imported,
    largest,
    layer_normed,
    pre_activations,
    safetensors,
    source_files,
    torch_file,
    write_json,
)
from tests.published.weights import (
    N_INPUTS,
    N_LATENTS,
    Array,
    Weights,
    inputs,
    rounded,
    tensor,
    tensors,
    weights,
)

K = 6


def linear(w: Weights, dtype: torch.dtype = torch.float32, **more: Any) -> dict[str, Any]:
    """Return two linear layers as torch has them."""
    layers = tensors(
        dtype, encoder__weight=w.encoder, encoder__bias=w.encoder_bias, decoder__weight=w.decoder.T
    )
    return layers | more


# ------------------------------------------------------------------------------------ sparsify

CFG = {"expansion_factor": 32, "num_latents": N_LATENTS, "k": K, "signed": False, "d_in": N_INPUTS}


def sparsify(directory: Path, w: Weights, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    values = tensors(
        dtype, encoder__weight=w.encoder, encoder__bias=w.encoder_bias, W_dec=w.decoder, b_dec=w.decoder_bias
    )
    safetensors(directory / "sae.safetensors", values)
    write_json(directory / "cfg.json", CFG | changes)
    return directory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [K, 35])
def test_sparsify_computes_as_its_library_does(k: int, dtype: torch.dtype, tmp_path: Path) -> None:
    w = weights(1, subtracted=True)
    path = sparsify(tmp_path / "layers.3" / "seed1", w, dtype, k=k)
    one = imported(path, kind="BLOCK", depth=3)
    assert (one.result.sae_class, one.result.k) == ("BiasedTopKSae", k)
    assert one.metadata["source"]["format"] == "SPARSIFY" and found(path).place == "layers.3"
    rows = inputs()
    latents = largest(pre_activations(rows, w, subtracts=True), k)
    assert ((latents != 0).sum(axis=1) < k).any()
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)


def test_sparsify_may_say_its_size_by_a_factor(tmp_path: Path) -> None:
    path = sparsify(tmp_path / "sae", weights(), num_latents=0, expansion_factor=3)
    with pytest.raises(NotRepresentable, match=r"d_in and num_latents say \[48, 16\]"):
        found(path)


@pytest.mark.parametrize("k", [1, N_LATENTS])
def test_a_groupmax_of_one_group_or_of_groups_of_one_is_a_topk(k: int, tmp_path: Path) -> None:
    w = weights(1, subtracted=True)
    one = imported(sparsify(tmp_path / "sae", w, activation="groupmax", k=k))
    rows = inputs()
    positive = above(pre_activations(rows, w, subtracts=True), 0)
    groups = positive.reshape(len(rows), k, -1)
    latents = np.where(groups == groups.max(axis=2, keepdims=True), groups, 0).reshape(positive.shape)
    with torch.no_grad():
        ours = one.sae.encode(torch.tensor(rows, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(ours, latents, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"activation": "groupmax"}, "largest latent of each of k groups"),
        ({"activation": "gelu"}, "'gelu' has no counterpart"),
        ({"skip_connection": True}, "lacks W_skip"),
        ({"signed": True}, "may be negative"),
        ({"k": 0}, "k must be a number from 1, not 0"),
        ({"d_in": "16"}, "d_in must be a number from 1"),
    ],
)
def test_what_sparsify_has_beside_that_is_refused(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(NotRepresentable, match=sentence):
        found(sparsify(tmp_path / "sae", weights(), **change))


def test_more_than_all_neurons_cannot_be_active(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"k is 41, more than its 40 neurons"):
        imported(sparsify(tmp_path / "sae", weights(), k=41))


# ------------------------------------------------------------------------- dictionary_learning


def config(dict_class: str | None, **trainer: Any) -> dict[str, Any]:
    said = {"layer": 5, "submodule_name": "resid_post_layer_5", "lm_name": "EleutherAI/pythia-70m", "k": K}
    return {"trainer": {"dict_class": dict_class, **said, **trainer}, "buffer": {"ctx_len": 128}}


def dictionary(directory: Path, state: dict[str, Any], said: dict[str, Any] | None) -> Path:
    torch_file(directory / "ae.pt", state)
    if said is not None:
        write_json(directory / "config.json", said)
    return directory


def auto_encoder(w: Weights) -> dict[str, Any]:
    return linear(w, bias=tensor(w.decoder_bias))


def auto_encoder_new(w: Weights) -> dict[str, Any]:
    return linear(w) | tensors(decoder__bias=w.decoder_bias)


def matrices(w: Weights, **more: Any) -> dict[str, Any]:
    # As the library makes them: a clone of a transpose keeps the order of the original.
    encoder = tensor(w.encoder).T
    return {"W_enc": encoder, **tensors(b_enc=w.encoder_bias, W_dec=w.decoder, b_dec=w.decoder_bias), **more}


def jumprelu(w: Weights) -> dict[str, Any]:
    return matrices(w, threshold=tensor(w.threshold))


def topk(w: Weights) -> dict[str, Any]:
    state = linear(w, b_dec=tensor(w.decoder_bias), k=torch.tensor(K, dtype=torch.int))
    # As above; and a threshold is stored, which is not used.
    return state | {"encoder.weight": tensor(w.encoder.T).T, "threshold": torch.tensor(9.0)}


def batch_topk(w: Weights) -> dict[str, Any]:
    return topk(w) | {"threshold": torch.tensor(0.5)}


def matryoshka(w: Weights) -> dict[str, Any]:
    groups = torch.tensor([10, 30])
    return matrices(w, k=torch.tensor(K), threshold=torch.tensor(0.5), group_sizes=groups)


def magnitudes(w: Weights) -> tuple[Array, Array]:
    """Return r_mag and mag_bias for weights whose gates are encoder_bias: some open ones give nothing."""
    scales, shifts = np.random.default_rng(7).normal(size=(2, N_LATENTS))
    return rounded(scales / 2), rounded(w.encoder_bias + shifts - 1)


def gated(w: Weights, at: float = -0.5) -> dict[str, Any]:
    """Return a gated dictionary in which the gate of latent 0 is exactly 0, and its magnitude is not."""
    log_scale, bias = magnitudes(w)
    gate_bias = w.encoder_bias.copy()
    gate_bias[0], bias[0] = at, 2
    return tensors(
        decoder_bias=w.decoder_bias,
        encoder__weight=w.encoder,
        gate_bias=gate_bias,
        r_mag=log_scale,
        mag_bias=bias,
        decoder__weight=w.decoder.T,
    )


def gates(rows: Array, state: dict[str, Any], *, subtracts: bool = True) -> Array:
    """Return the latents of a gated dictionary."""
    s = {name: np.asarray(tensor.double()) for name, tensor in state.items()}
    z = (rows - (s["decoder_bias"] if subtracts else 0)) @ s["encoder.weight"].T
    magnitude = np.maximum(np.exp(s["r_mag"]) * z + s["mag_bias"], 0)
    return np.where(z + s["gate_bias"] > 0, magnitude, 0)


@pytest.mark.parametrize(
    "said", [config("GatedAutoEncoder"), None, config(None, trainer_class="GatedSAETrainer")]
)
def test_a_gated_dictionary_computes_as_its_library_does(said: dict[str, Any] | None, tmp_path: Path) -> None:
    w = weights(2, subtracted=True)
    state = gated(w)
    one = imported(dictionary(tmp_path / "trainer_0", state, said))
    assert (one.result.sae_class, one.result.k) == ("GatedSae", None)
    assert one.metadata["source"]["metadata"]["architecture"] == "GatedAutoEncoder"
    rows = inputs()
    latents = gates(rows, state)
    assert not latents[:, 0].any() and gates(rows, gated(w, -0.25))[:, 0].all()
    # Some gates are open on nothing.
    opened = (rows - w.decoder_bias) @ w.encoder.T + w.encoder_bias > 0
    assert (opened & (latents == 0))[:, 1:].any()
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)


def test_magnitudes_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = gated(weights()) | {"r_mag": torch.full((N_LATENTS,), 100.0)}
    with pytest.raises(TaskError, match=r"exp\(r_mag\) has values that are NaN or infinite"):
        imported(dictionary(tmp_path / "trainer_0", state, None))


Case = tuple[Callable[[Weights], dict[str, Any]], bool, Callable[[Array, Weights], Array], str, int | None]
DICTIONARIES: dict[str, Case] = {
    "AutoEncoder": (auto_encoder, True, lambda pre, w: above(pre, 0), "ReLUSae", None),
    "AutoEncoderNew": (auto_encoder_new, False, lambda pre, w: above(pre, 0), "ReLUSae", None),
    "JumpReluAutoEncoder": (jumprelu, False, lambda pre, w: above(pre, w.threshold), "JumpReLUSae", None),
    "AutoEncoderTopK": (topk, True, lambda pre, w: largest(pre, K), "BiasedTopKSae", K),
    "BatchTopKSAE": (batch_topk, True, lambda pre, w: above(pre, 0.5), "BatchTopKSae", K),
    "MatryoshkaBatchTopKSAE": (matryoshka, True, lambda pre, w: above(pre, 0.5), "BatchTopKSae", K),
}


@pytest.mark.parametrize("name", DICTIONARIES)
def test_a_dictionary_computes_as_its_library_does(name: str, tmp_path: Path) -> None:
    state, subtracts, activate, sae_class, k = DICTIONARIES[name]
    w = weights(2, subtracted=subtracts)
    path = dictionary(tmp_path / "trainer_0", state(w), config(name))
    one = imported(path, kind="BLOCK", depth=5)
    assert (one.result.sae_class, one.result.k) == (sae_class, k)
    assert one.metadata["source"]["format"] == "DICTIONARY_LEARNING"
    assert one.metadata["source"]["metadata"]["architecture"] == name
    assert one.metadata["source"]["metadata"]["model_name"] == "EleutherAI/pythia-70m"
    assert found(path).place == "model.layers.5"
    rows = inputs()
    pre = pre_activations(rows, w, subtracts=subtracts)
    assert (pre[:, 0] == 0.5).all()
    latents = activate(pre, w)
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)


@pytest.mark.parametrize("name", ["AutoEncoder", "JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"])
def test_a_dictionary_whose_tensors_say_its_class_needs_no_config_json(name: str, tmp_path: Path) -> None:
    state = DICTIONARIES[name][0](weights())
    described = found(dictionary(tmp_path / "trainer_0", state, None) / "ae.pt")
    assert (described.format, described.architecture) == ("DICTIONARY_LEARNING", name)


def test_a_dictionary_whose_tensors_say_two_classes_needs_a_config_json(tmp_path: Path) -> None:
    path = dictionary(tmp_path / "trainer_0", batch_topk(weights()), None)
    with pytest.raises(NotRepresentable, match="an AutoEncoderTopK or a BatchTopKSAE"):
        found(path)
    write_json(path / "config.json", {"trainer": {"trainer_class": "TopKTrainer"}})
    assert found(path).sae_class == "BiasedTopKSae"


def test_a_batch_topk_without_a_threshold_yet_lets_all_positive_ones_pass(tmp_path: Path) -> None:
    w = weights(2, subtracted=True)
    state = batch_topk(w) | {"threshold": torch.tensor(-1.0)}
    one = imported(dictionary(tmp_path / "trainer_0", state, config("BatchTopKSAE")))
    rows = inputs()
    latents = above(pre_activations(rows, w, subtracts=True), 0)
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)
    assert float(one.sae.sae_engine.threshold) == 0


def test_an_older_dictionary_has_its_k_in_config_json(tmp_path: Path) -> None:
    state = topk(weights())
    del state["k"], state["threshold"]
    assert found(dictionary(tmp_path / "a", state, config("AutoEncoderTopK"))).k == K
    with pytest.raises(NotRepresentable, match="says k"):
        found(dictionary(tmp_path / "b", state, config("AutoEncoderTopK", k=None)))


@pytest.mark.parametrize(
    "k", [torch.tensor(torch.nan), torch.tensor(torch.inf), torch.tensor(0), torch.tensor(2.5)]
)
def test_a_k_that_is_none_is_refused(k: Tensor, tmp_path: Path) -> None:
    with pytest.raises(NotRepresentable, match="says k"):
        found(dictionary(tmp_path / "trainer_0", topk(weights()) | {"k": k}, config("AutoEncoderTopK")))


DICTIONARY_REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "gates without magnitudes": (
        linear(weights(), bias=tensor(weights().decoder_bias)),
        config("GatedAutoEncoder"),
        "lacks decoder_bias, gate_bias",
    ),
    "gates of another size": (
        gated(weights()) | {"r_mag": torch.zeros(N_INPUTS)},
        config("GatedAutoEncoder"),
        r"r_mag has the shape \[16\]",
    ),
    "a module's input": (auto_encoder(weights()), {"buffer": {"io": "in"}}, "buffer.io is 'in'"),
    "no threshold": (
        {name: value for name, value in batch_topk(weights()).items() if name != "threshold"},
        config("BatchTopKSAE"),
        "lacks threshold",
    ),
    "thresholds": (
        batch_topk(weights()) | {"threshold": torch.zeros(N_LATENTS)},
        config("BatchTopKSAE"),
        r"threshold has the shape \[40\]",
    ),
    "a wrong shape": (
        auto_encoder(weights()) | {"decoder.weight": torch.zeros(N_LATENTS, N_INPUTS)},
        config("AutoEncoder"),
        r"decoder.weight has the shape \[40, 16\]",
    ),
    "tensors of another class": (auto_encoder(weights()), config("AutoEncoderTopK"), "lacks b_dec"),
}


@pytest.mark.parametrize("what", DICTIONARY_REFUSALS)
def test_a_dictionary_that_cannot_be_here_is_refused(what: str, tmp_path: Path) -> None:
    state, said, sentence = DICTIONARY_REFUSALS[what]
    with pytest.raises(NotRepresentable, match=sentence):
        found(dictionary(tmp_path / "trainer_0", state, said))


# ---------------------------------------------------------------------------------- Qwen-Scope

REPOSITORY = "SAE-Res-Qwen3-1.7B-Base-W32K-L0_6"


def qwen(directory: Path, w: Weights, layer: int = 12) -> Path:
    # Both matrices are the transposes of SAELens'.
    state = tensors(W_enc=w.encoder, W_dec=w.decoder.T, b_enc=w.encoder_bias, b_dec=w.decoder_bias)
    torch_file(directory / f"layer{layer}.sae.pt", state)
    return directory / f"layer{layer}.sae.pt"


def test_qwen_scope_computes_as_published(tmp_path: Path) -> None:
    w = weights(3)
    path = qwen(tmp_path / REPOSITORY, w)
    one = imported(path, kind="BLOCK", depth=12)
    assert (one.result.sae_class, one.result.k) == ("BiasedTopKSae", 6)
    assert one.metadata["source"]["format"] == "QWEN_SCOPE" and found(path).place == "model.layers.12"
    rows = inputs()
    latents = largest(pre_activations(rows, w), 6)
    assert ((latents != 0).sum(axis=1) < 6).any()
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)


def test_qwen_scopes_k_is_in_config_json_or_in_the_path(tmp_path: Path) -> None:
    path = qwen(tmp_path / "somewhere", weights())
    with pytest.raises(NotRepresentable, match=r"k is said neither by a config.json"):
        found(path)
    write_json(path.parent / "config.json", {"k": 9, "base_model": "Qwen/Qwen3-1.7B-Base"})
    assert found(path).k == 9 and found(path).metadata["model_name"] == "Qwen/Qwen3-1.7B-Base"


def test_matrices_the_other_way_round_are_refused(tmp_path: Path) -> None:
    state = tensors(W_enc=np.zeros((N_INPUTS, N_LATENTS)), W_dec=np.zeros((N_LATENTS, N_INPUTS)))
    state |= tensors(b_enc=np.zeros(N_LATENTS), b_dec=np.zeros(N_INPUTS))
    torch_file(tmp_path / REPOSITORY / "layer1.sae.pt", state)
    with pytest.raises(NotRepresentable, match=r"W_enc has the shape \[16, 40\]; its biases say \[40, 16\]"):
        found(tmp_path / REPOSITORY / "layer1.sae.pt")


# ------------------------------------------------------------- Goodfire, qresearch, OpenAI


def goodfire(w: Weights, dtype: torch.dtype) -> dict[str, Any]:
    return tensors(
        dtype,
        encoder_linear__weight=w.encoder,
        encoder_linear__bias=w.encoder_bias,
        decoder_linear__weight=w.decoder.T,
        decoder_linear__bias=w.decoder_bias,
    )


def qresearch(w: Weights, dtype: torch.dtype) -> dict[str, Any]:
    return linear(w, dtype) | tensors(dtype, decoder__bias=w.decoder_bias)


@pytest.mark.parametrize(
    ("state", "name", "format"),
    [
        (goodfire, "Llama-3.1-8B-Instruct-SAE-l19.pth", "GOODFIRE"),
        (qresearch, "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt", "QRESEARCH"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_linear_layers_compute_as_published(
    dtype: torch.dtype, state: Callable[..., dict[str, Any]], name: str, format: str, tmp_path: Path
) -> None:
    w = weights(4)
    torch_file(tmp_path / "theirs" / name, state(w, dtype))
    one = imported(tmp_path / "theirs" / name, kind="BLOCK", depth=19)
    assert one.result.sae_class == "ReLUSae" and one.metadata["source"]["format"] == format
    assert found(tmp_path / "theirs" / name).place == "model.layers.19"
    rows = inputs()
    latents = above(pre_activations(rows, w), 0)
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)


def openai(w: Weights, activation: Any = "ReLU") -> dict[str, Any]:
    layers = tensors(encoder__weight=w.encoder, latent_bias=w.encoder_bias, decoder__weight=w.decoder.T)
    last = torch.zeros(N_LATENTS, dtype=torch.long)
    state = {"activation": activation, "activation_state_dict": {}, "stats_last_nonzero": last}
    return layers | tensors(pre_bias=w.decoder_bias) | state


def test_openais_relu_computes_as_published(tmp_path: Path) -> None:
    w = weights(5, subtracted=True)
    torch_file(tmp_path / "theirs" / "5.pt", openai(w))
    one = imported(tmp_path / "theirs" / "5.pt")
    assert one.result.sae_class == "ReLUSae" and one.metadata["source"]["format"] == "OPENAI"
    rows = inputs()
    latents = above(pre_activations(rows, w, subtracts=True), 0)
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)


@pytest.mark.parametrize(
    ("activation", "state", "sentence"),
    [
        ("GELU", {}, "'GELU' has no counterpart"),
        (3, {}, "3 has no counterpart"),
        ("TopK", {"k": K, "postact_fn": "Identity"}, "stands 'Identity'"),
        ("TopK", {"k": 0, "postact_fn": "ReLU"}, "k must be a number from 1, not 0"),
        ("TopK", {"postact_fn": "ReLU"}, "k must be a number from 1, not None"),
        ("TopK", {}, "stands None"),
        ("TopK", 3, "stands None"),
    ],
)
def test_openais_others_are_refused(activation: Any, state: Any, sentence: str, tmp_path: Path) -> None:
    torch_file(tmp_path / "theirs" / "5.pt", openai(weights(), activation) | {"activation_state_dict": state})
    with pytest.raises(NotRepresentable, match=sentence):
        found(tmp_path / "theirs" / "5.pt")


@pytest.mark.parametrize(
    ("path", "place", "is_noted"),
    [
        ("resid_post_mlp_v5_32k/autoencoders/8.pt", "blocks.8.hook_resid_post", False),
        ("resid_post_mlp_v5_32k/autoencoders/7.pt", "blocks.7.hook_resid_post", True),
        ("resid_delta_attn/autoencoders/8.pt", "blocks.8.hook_attn_out", True),
        ("resid_delta_mlp_v4/autoencoders/8.pt", "blocks.8.hook_mlp_out", True),
        ("resid_post_attn_v5_128k/autoencoders/8.pt", "blocks.8.hook_resid_mid", True),
        ("mlp_post_act/autoencoders/8.pt", None, False),
        ("resid_post_mlp_v5_32k/8.pt", None, False),
    ],
)
def test_openais_directories_say_the_place(
    path: str, place: str | None, is_noted: bool, tmp_path: Path
) -> None:
    torch_file(tmp_path / path, openai(weights()))
    one = imported(tmp_path / path, kind="BLOCK", depth=8)
    assert found(tmp_path / path).place == one.metadata["source"]["metadata"].get("place") == place
    assert any("names the place" in note for note in one.notes) is is_noted


@pytest.mark.parametrize("k", [K, 35])
def test_openais_topk_normalizes_each_token_as_published(k: int, tmp_path: Path) -> None:
    w = weights(5)
    # As modules give it: an ordered dictionary with an attribute of its own.
    of_activation = torch.nn.ReLU().state_dict()
    of_activation.update({"k": k, "postact_fn": "ReLU"})
    state = openai(w, "TopK") | {"activation_state_dict": of_activation}
    torch_file(tmp_path / "theirs" / "5.pt", state)
    one = imported(tmp_path / "theirs" / "5.pt")
    assert (one.result.sae_class, one.result.k) == ("BiasedTopKSae", k)
    assert one.result.input_normalization == one.metadata["input_normalization"] == "LAYER_NORM"
    assert any("Each token is normalized" in note for note in one.notes)
    rows = inputs()
    given, deviation, mean = layer_normed(rows)
    latents = largest(pre_activations(given, w, subtracts=True), k)
    assert ((latents != 0).sum(axis=1) < k).any()
    reconstructions = (latents @ w.decoder + w.decoder_bias) * deviation + mean
    assert_computes(one.sae, rows, latents, reconstructions)


# ----------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_that_are_no_numbers_are_refused_and_nothing_is_left(value: float, tmp_path: Path) -> None:
    w = weights()
    w.decoder[3, 4] = value
    path = tmp_path / "theirs" / "a-l1.pth"
    torch_file(path, goodfire(w, torch.float32))
    with pytest.raises(TaskError, match=r"decoder_linear.weight has values that are NaN or infinite"):
        imported(path)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "theirs" / "a-l1.pth"
    torch_file(path, goodfire(weights(), torch.float32))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(NotRepresentable, match="no checkpoint as PyTorch has written"):
        found(path)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("is_bare", [True, False])
def test_nothing_of_a_malicious_file_is_executed(is_bare: bool, tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "theirs" / "ae.pt"
    state = auto_encoder(weights()) | {"evil": _Evil(trap)}
    torch_file(path, state)
    if is_bare:
        path.write_bytes(pickle.dumps(state))
    with pytest.raises(NotRepresentable, match=r"no checkpoint as PyTorch|more than tensors"):
        found(path)
    assert not trap.exists()


def test_what_is_in_no_format_is_refused_with_the_nearest(tmp_path: Path) -> None:
    state = goodfire(weights(), torch.float32)
    state["encoder_linear.w"] = state.pop("encoder_linear.weight")
    torch_file(tmp_path / "theirs" / "a-l1.pth", state)
    with pytest.raises(NotRepresentable) as caught:
        found(tmp_path / "theirs" / "a-l1.pth")
    reason = caught.value.reason
    assert "Found: a-l1.pth." in reason and "encoder_linear.w [40, 16]" in reason
    assert "nearest format is Goodfire" in reason and "encoder_linear.weight is missing" in reason
    assert "SAELens, mi_crow, Gemma Scope" in reason


def test_names_of_tensors_are_shortened_in_a_refusal(tmp_path: Path) -> None:
    state = {f"{number}{'x' * 500}\n": torch.zeros(1) for number in range(50)}
    torch_file(tmp_path / "theirs" / "a.pt", state)
    with pytest.raises(NotRepresentable) as caught:
        found(tmp_path / "theirs" / "a.pt")
    assert len(caught.value.reason) < 2000 and "\n" not in caught.value.reason
    assert "and 42 more" in caught.value.reason


def test_a_file_is_named_beside_others_of_its_kind(tmp_path: Path) -> None:
    for layer in range(3):
        qwen(tmp_path / REPOSITORY, weights(), layer)
    assert source_files(tmp_path / REPOSITORY).pick_like(r".+\.pth?") is None
    assert found(tmp_path / REPOSITORY / "layer2.sae.pt").place == "model.layers.2"


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    directory = sparsify(tmp_path / "a" / "sae", weights())
    assert_any_damage_is_read_or_refused(directory / "sae.safetensors", directory)
    assert_any_value_is_read_or_refused(directory / "cfg.json")
    said = config("BatchTopKSAE", trainer_class="BatchTopKTrainer")
    directory = dictionary(tmp_path / "b" / "sae", batch_topk(weights()), said)
    assert_any_damage_is_read_or_refused(directory / "ae.pt", directory)
    assert_any_value_is_read_or_refused(directory / "config.json")
    for name, state in {"g-l1.pth": goodfire(weights(), torch.float32), "5.pt": openai(weights())}.items():
        torch_file(tmp_path / name / "sae" / name, state)
        assert_any_damage_is_read_or_refused(tmp_path / name / "sae" / name, tmp_path / name / "sae")
