"""Llama Scope, its R1-Distill and llamascopium: norms of datasets and of decoder rows, folded exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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
    norm_rescaled,
    safetensors,
    write_json,
)
from tests.published.weights import N_INPUTS, N_LATENTS, Array, Weights, inputs, tensors, weights

HOOK = "blocks.8.hook_resid_post"
HYPERPARAMETERS: dict[str, Any] = {
    "hook_point_in": HOOK,
    "hook_point_out": HOOK,
    "d_model": N_INPUTS,
    "d_sae": N_LATENTS,
    "act_fn": "jumprelu",
    "jump_relu_threshold": 0.5,
    "top_k": 5,
    "norm_activation": "dataset-wise",
    "dataset_average_activation_norm": {"in": 2.0, "out": 4.0},
    "use_decoder_bias": True,
    "apply_decoder_bias_to_pre_encoder": False,
    "sparsity_include_decoder_norm": True,
    "use_glu_encoder": False,
}
S_IN, S_OUT = 2.0, 1.0
"""sqrt(16) / 2 and sqrt(16) / 4."""


def official(w: Weights) -> tuple[Array, Array, Array, Array]:
    """Return encoder, its bias, decoder and its bias after the library's standardization and unit norms."""
    bias, decoder = w.encoder_bias / S_IN, w.decoder * (S_IN / S_OUT)
    lengths = np.sqrt((decoder**2).sum(axis=1))
    return w.encoder * lengths[:, None], bias * lengths, decoder / lengths[:, None], w.decoder_bias / S_OUT


def llama_scope(directory: Path, w: Weights, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    values = {
        "encoder__weight": w.encoder,
        "encoder__bias": w.encoder_bias,
        "decoder__weight": w.decoder.T,
        "decoder__bias": w.decoder_bias,
    }
    safetensors(directory / "checkpoints" / "final.safetensors", tensors(dtype, **values))
    write_json(directory / "hyperparams.json", HYPERPARAMETERS | changes)
    return directory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["jumprelu", "topk"])
def test_llama_scope_computes_as_its_library_does(
    activation: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    # Row 0 of the decoder has length 2 after the first step.
    w = weights(3, scale=2)
    # A topk that has a threshold is run as jumprelu.
    one = imported(llama_scope(tmp_path / "L8R", w, dtype, act_fn=activation), kind="BLOCK", depth=8)
    assert one.result.sae_class == "JumpReLUSae" and one.metadata["source"]["format"] == "LLAMA_SCOPE"
    encoder, encoder_bias, decoder, decoder_bias = official(w)
    rows = inputs()
    pre = rows @ encoder.T + encoder_bias
    assert (pre[:, 0] == 0.5).all()
    latents = above(pre, 0.5)
    assert_computes(one.sae, rows, latents, latents @ decoder + decoder_bias)
    said = [event.message for event in one.context.events if hasattr(event, "message")]
    assert any("average norms" in note and "2 in, 1 out" in note for note in said)
    assert any("lengths of the decoder's rows" in note for note in said)
    assert not any("another place" in note for note in said)


@pytest.mark.parametrize("said", [True, None])
def test_llama_scope_without_norms_and_with_its_bias_subtracted(said: bool | None, tmp_path: Path) -> None:
    w = weights(4, subtracted=True)
    changes: dict[str, Any] = {
        "norm_activation": "inference",
        "sparsity_include_decoder_norm": False,
        "apply_decoder_bias_to_pre_encoder": said,
    }
    path = llama_scope(tmp_path / "sae", w, **changes)
    if said is None:  # Which is the default of that library.
        content = {**HYPERPARAMETERS, **changes}
        del content["apply_decoder_bias_to_pre_encoder"]
        write_json(path / "hyperparams.json", content)
    one = imported(path)
    rows = inputs()
    pre = (rows - w.decoder_bias) @ w.encoder.T + w.encoder_bias
    assert (pre[:, 0] == 0.5).all()
    latents = above(pre, 0.5)
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)


@pytest.mark.parametrize("k", [3, 35])
def test_a_topk_of_llama_scope_without_a_threshold_keeps_the_largest(k: int, tmp_path: Path) -> None:
    w = weights(5, scale=2)
    one = imported(llama_scope(tmp_path / "sae", w, act_fn="topk", jump_relu_threshold=0.0, top_k=k))
    assert (one.result.sae_class, one.result.k) == ("BiasedTopKSae", k)
    encoder, encoder_bias, decoder, decoder_bias = official(w)
    rows = inputs()
    latents = largest(rows @ encoder.T + encoder_bias, k)
    assert ((latents != 0).sum(axis=1) < k).any()
    assert_computes(one.sae, rows, latents, latents @ decoder + decoder_bias)


def test_r1_distill_has_a_logarithm_of_each_threshold(tmp_path: Path) -> None:
    w = weights(6, scale=2, at=1.0)
    logarithms = np.float32(np.log(w.threshold))
    values = tensors(
        encoder__weight=w.encoder,
        encoder__bias=w.encoder_bias,
        decoder__weight=w.decoder.T,
        decoder__bias=w.decoder_bias,
        log_jumprelu_threshold=logarithms,
    )
    safetensors(tmp_path / "L8R" / "sae_weights.safetensors", values)
    config = {key: HYPERPARAMETERS[key] for key in ("hook_point_in", "hook_point_out", "d_model", "act_fn")}
    norms = {"dataset_average_activation_norm": {HOOK: 2.0}}
    write_json(tmp_path / "L8R" / "config.json", config | norms | {"expansion_factor": 2.5})
    one = imported(tmp_path / "L8R")
    assert one.metadata["source"]["format"] == "LLAMA_SCOPE"
    bias, decoder = w.encoder_bias / 2, w.decoder
    lengths = np.sqrt((decoder**2).sum(axis=1))
    rows = inputs()
    pre = (rows @ w.encoder.T + bias) * lengths
    latents = above(pre, np.exp(logarithms.astype(np.float64)))
    assert_computes(one.sae, rows, latents, latents @ (decoder / lengths[:, None]) + w.decoder_bias / 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"hook_point_out": "blocks.8.hook_mlp_out", "apply_decoder_bias_to_pre_encoder": True},
            "subtracts its decoder's bias",
        ),
        ({"use_glu_encoder": True}, "has a gate"),
        ({"norm_activation": "token-wise"}, "norm of each token"),
        ({"dataset_average_activation_norm": {"in": 0, "out": 1}}, "in must be a number above 0"),
        ({"dataset_average_activation_norm": None}, "neither hyperparams.json"),
        ({"jump_relu_threshold": None}, "jump_relu_threshold must be a number above 0"),
        ({"act_fn": "batchtopk"}, "'batchtopk' has no counterpart"),
        ({"d_model": 17}, "d_model and encoder.bias say"),
        ({"use_decoder_bias": 1}, "true or false"),
        ({"hook_point_in": "blocks.8.ln2.hook_normalized", "hook_point_out": None}, "a norm's value before"),
    ],
)
def test_what_llama_scope_cannot_be_here_is_refused(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(NotRepresentable, match=sentence):
        found(llama_scope(tmp_path / "sae", weights(), **change))


def test_a_decoder_row_of_zeros_is_refused(tmp_path: Path) -> None:
    w = weights()
    w.decoder[7] = 0
    with pytest.raises(TaskError, match=r"zero, by whose length sparsity_include_decoder_norm divides"):
        imported(llama_scope(tmp_path / "sae", w))


# ------------------------------------------------------------------------------- llamascopium

CONFIG: dict[str, Any] = {
    "sae_type": "sae",
    "hook_point_in": HOOK,
    "hook_point_out": HOOK,
    "d_model": N_INPUTS,
    "expansion_factor": 2.5,
    "top_k": 5,
    "norm_activation": "dataset-wise",
    "sparsity_include_decoder_norm": True,
    "use_decoder_bias": True,
}
LOG_THRESHOLD = "activation_function__log_jumprelu_threshold"


def llamascopium(directory: Path, w: Weights, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    config = CONFIG | changes
    values: dict[str, Any] = {
        "W_E": w.encoder.T,
        "b_E": w.encoder_bias,
        "W_D": w.decoder,
        "b_D": w.decoder_bias,
    }
    if config["act_fn"] == "jumprelu":
        values[LOG_THRESHOLD] = np.float32(np.log(w.threshold))
    written = tensors(dtype, **values)
    written[f"dataset_average_activation_norm.{HOOK}"] = torch.tensor(2.0)
    safetensors(directory / "sae_weights.safetensors", written)
    write_json(directory / "config.json", config)
    return directory


def scores(w: Weights, rows: Array, includes_norm: bool) -> tuple[Array, Array, Array]:
    """Return pre-activations, the lengths of decoder rows that they are compared by, and their products."""
    pre = 2 * rows @ w.encoder.T + w.encoder_bias
    lengths = np.sqrt((w.decoder**2).sum(axis=1)) if includes_norm else np.ones(N_LATENTS)
    return pre, lengths, pre * lengths


@pytest.mark.parametrize("includes_norm", [True, False])
@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_llamascopium_computes_as_its_library_does(
    activation: str, includes_norm: bool, tmp_path: Path
) -> None:
    w = weights(7, scale=2, at=1.0)
    path = llamascopium(tmp_path / "sae", w, act_fn=activation, sparsity_include_decoder_norm=includes_norm)
    one = imported(path)
    assert one.metadata["source"]["format"] == "LLAMASCOPIUM"
    assert one.result.sae_class == {"relu": "ReLUSae", "jumprelu": "JumpReLUSae"}[activation]
    rows = inputs()
    pre, _, compared = scores(w, rows, includes_norm)
    thresholds = np.exp(np.float64(np.float32(np.log(w.threshold)))) if activation == "jumprelu" else 0
    if activation == "jumprelu":
        assert (compared[:, 0] == np.broadcast_to(thresholds, N_LATENTS)[0]).all()
    latents = np.where(compared > thresholds, pre, 0)
    assert_computes(one.sae, rows, latents, (latents @ w.decoder + w.decoder_bias) / 2)


@pytest.mark.parametrize("k", [4, 35])
@pytest.mark.parametrize("includes_norm", [True, False])
def test_a_topk_of_llamascopium_selects_the_same_latents(includes_norm: bool, k: int, tmp_path: Path) -> None:
    w = weights(8)
    path = llamascopium(
        tmp_path / "sae", w, act_fn="topk", top_k=k, sparsity_include_decoder_norm=includes_norm
    )
    one = imported(path)
    rows = inputs()
    _, lengths, compared = scores(w, rows, includes_norm)
    theirs = largest(compared, k) / lengths
    assert ((theirs != 0).sum(axis=1) < k).any()
    reconstructions = (theirs @ w.decoder + w.decoder_bias) / 2
    # Where lengths are included, the rows here are unit, and latents as long as what they add.
    ours = theirs * lengths / 2 if includes_norm else theirs
    assert_computes(one.sae, rows, ours, reconstructions)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sae_type": "lorsa"}, "only an sae can be imported"),
        ({"act_fn": "batchtopk"}, "depends on the other tokens of a batch"),
        ({"act_fn": "layertopk"}, "'layertopk' has no counterpart"),
        ({"norm_activation": "batch-wise"}, "norm of each token or batch"),
        ({"use_glu_encoder": True}, "has a gate"),
        ({"hook_point_in": "blocks.3.hook_mlp_out", "hook_point_out": None}, "neither config.json"),
        ({"expansion_factor": 2.6}, "d_model and expansion_factor say"),
        ({"use_decoder_bias": False}, "do not have: 'b_D'"),
    ],
)
def test_what_llamascopium_has_beside_those_is_refused(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = llamascopium(tmp_path / "sae", weights(), **({"act_fn": "relu"} | change))
    with pytest.raises(NotRepresentable, match=sentence):
        found(path)


def test_a_norm_of_a_dataset_is_read_only_where_it_is_said_to_be_one(tmp_path: Path) -> None:
    # What the file has for it is memory that was never written.
    w = weights(9)
    path = llamascopium(tmp_path / "sae", w, act_fn="relu", norm_activation="inference")
    rows = inputs()
    latents = above(rows @ w.encoder.T + w.encoder_bias, 0)
    assert_computes(imported(path).sae, rows, latents, latents @ w.decoder + w.decoder_bias)


@pytest.mark.parametrize("includes_norm", [True, False])
@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
def test_token_wise_norms_are_each_tokens_own(activation: str, includes_norm: bool, tmp_path: Path) -> None:
    w = weights(9)
    path = llamascopium(
        tmp_path / "sae",
        w,
        act_fn=activation,
        top_k=4,
        norm_activation="token-wise",
        sparsity_include_decoder_norm=includes_norm,
    )
    one = imported(path)
    assert one.result.input_normalization == "RMS_NORM"
    rows = inputs() + 1
    given, size, _ = norm_rescaled(rows)
    pre = given @ w.encoder.T + w.encoder_bias
    lengths = np.linalg.norm(w.decoder, axis=1) if includes_norm else np.ones(N_LATENTS)
    if activation == "topk":
        theirs = largest(pre * lengths, 4) / lengths
    else:
        thresholds = np.exp(np.float64(np.float32(np.log(w.threshold)))) if activation == "jumprelu" else 0
        theirs = np.where(pre * lengths > thresholds, pre, 0)
    reconstructions = (theirs @ w.decoder + w.decoder_bias) * size
    ours = theirs * lengths if activation == "topk" else theirs
    assert_computes(one.sae, rows, ours, reconstructions)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_norm_that_is_none_is_refused(value: float, tmp_path: Path) -> None:
    path = llamascopium(tmp_path / "sae", weights(), act_fn="relu")
    written = tensors(W_E=np.zeros((N_INPUTS, N_LATENTS)))
    written[f"dataset_average_activation_norm.{HOOK}"] = torch.tensor(value)
    safetensors(path / "sae_weights.safetensors", written)
    with pytest.raises(NotRepresentable, match="must be a number above 0"):
        found(path)


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    directory = llama_scope(tmp_path / "a" / "sae", weights())
    assert_any_damage_is_read_or_refused(directory / "checkpoints" / "final.safetensors", directory)
    assert_any_value_is_read_or_refused(directory / "hyperparams.json")
    directory = llamascopium(tmp_path / "b" / "sae", weights(), act_fn="jumprelu")
    assert_any_damage_is_read_or_refused(directory / "sae_weights.safetensors", directory)
    assert_any_value_is_read_or_refused(directory / "config.json")
