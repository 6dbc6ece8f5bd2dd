"""Transcoders in each format that has them, against their formulas in float64."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.encoding import n_outputs_of, skipped
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources.refusing import NotRepresentable
from tests.compute.architectures import make_architecture
from tests.compute.conftest import RecordingContext
from tests.compute.formats.published import (
    Imported,
    above,
    assert_computes,
    found,
    imported,
    largest,
    pre_activations,
    safetensors,
    task_for,
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

N_OUTPUTS = 12
HOOKS = {"hook_name": "blocks.3.mlp.hook_in", "hook_name_out": "blocks.3.hook_mlp_out"}
NORM: dict[str, Any] = {
    "layer": "m_layers_3_pre_feedforward_layernorm",
    "kind": "NORM",
    "depth": 3,
    "norms_behind": True,
}
WRITTEN: dict[str, Any] = {
    "output_layer": "m_layers_3_post_feedforward_layernorm",
    "output_kind": "NORM",
    "output_depth": 3,
    "n_outputs": N_INPUTS,
}


def skip_of(n_outputs: int = N_INPUTS) -> Array:
    """Make a skip connection [n_outputs, n_inputs], of no symmetry."""
    return rounded(np.random.default_rng(9).normal(size=(n_outputs, N_INPUTS)))


def narrower(w: Weights) -> tuple[Array, Array]:
    """Return a decoder and its bias of fewer outputs than inputs."""
    return w.decoder[:, :N_OUTPUTS], w.decoder_bias[:N_OUTPUTS]


def assert_transcodes(one: Imported, latents: Array, decoded: Array, skip: Array | None) -> None:
    """Compare latents, what they are decoded to, and what the skip connection makes of the input."""
    rows = inputs()
    assert_computes(one.sae, rows, latents, decoded)
    ours = skipped(one.sae, torch.tensor(rows, dtype=torch.float32))
    assert (ours is None) == (skip is None)
    if ours is not None and skip is not None:
        np.testing.assert_allclose(ours.numpy(), rows @ skip.T, rtol=1e-5, atol=1e-5)
    assert n_outputs_of(one.sae) == decoded.shape[1] == one.metadata["n_outputs"]
    assert one.metadata["output_layer"] != one.metadata["layer"]


def messages(one: Imported) -> list[str]:
    return [event.message for event in one.context.events if hasattr(event, "message")]


# ---------------------------------------------------------------------------------------- SAELens


def sae_lens(directory: Path, named: str, w: Weights, skip: Array | None, **changes: Any) -> Path:
    decoder, bias = narrower(w)
    values: dict[str, Any] = {"W_enc": w.encoder.T, "b_enc": w.encoder_bias, "W_dec": decoder, "b_dec": bias}
    if "jumprelu" in named:
        values["threshold"] = w.threshold
    if skip is not None:
        values["W_skip"] = skip
    safetensors(directory / "sae_weights.safetensors", tensors(**values))
    config = {
        "architecture": named,
        "d_in": N_INPUTS,
        "d_out": N_OUTPUTS,
        "d_sae": N_LATENTS,
        "dtype": "float32",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", **HOOKS},
    }
    write_json(directory / "cfg.json", config | changes)
    return directory


@pytest.mark.parametrize("has_skip", [True, False])
@pytest.mark.parametrize("jumps", [True, False])
def test_saelens_transcoders_compute_as_published(jumps: bool, has_skip: bool, tmp_path: Path) -> None:
    w, skip = weights(11), skip_of(N_OUTPUTS) if has_skip else None
    name = f"{'jumprelu_' if jumps else ''}{'skip_' if has_skip else ''}transcoder"
    path = sae_lens(tmp_path / "sae", name, w, skip)
    one = imported(path, **NORM | WRITTEN | {"n_outputs": N_OUTPUTS})
    assert one.result.sae_class == ("JumpReLUSae" if jumps else "ReLUSae")
    latents = above(pre_activations(inputs(), w), w.threshold if jumps else 0)
    decoder, bias = narrower(w)
    assert_transcodes(one, latents, latents @ decoder + bias, skip)
    assert (found(path).place, found(path).output_place) == (HOOKS["hook_name"], HOOKS["hook_name_out"])
    assert not any("another place" in message for message in messages(one))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"apply_b_dec_to_input": True}, "SAELens' transcoders lack"),
        ({"d_out": None}, "d_out must be a number"),
        ({"d_out": 13}, r"W_dec has the shape \[40, 12\]"),
        ({"architecture": "standard"}, "the architecture is 'standard': of transcoders"),
        ({"architecture": "jumprelu_transcoder"}, "lacks threshold"),
        ({"architecture": "transcoder"}, "do not have: 'W_skip'"),
        ({"metadata": {"sae_lens_version": "6.1.0", "hook_head_index_out": 3}}, "one attention head"),
        ({"metadata": {"sae_lens_version": "6.1.0", "hook_head_index_out": 1}}, "hook_head_index"),
    ],
)
def test_saelens_transcoders_that_are_not_whole_are_refused(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = sae_lens(tmp_path / "sae", "skip_transcoder", weights(), skip_of(N_OUTPUTS), **change)
    with pytest.raises(NotRepresentable, match=sentence):
        found(path)


# ---------------------------------------------------------------------------------- Gemma Scope 2

GEMMA = {
    "hf_hook_point_in": "model.layers.3.pre_feedforward_layernorm.output",
    "hf_hook_point_out": "model.layers.3.post_feedforward_layernorm.output",
    "architecture": "jump_relu",
    "affine_connection": True,
    "type": "transcoder",
}


def gemma_scope_2(directory: Path, config: dict[str, Any] | None, w: Weights, skip: Array | None) -> Path:
    values: dict[str, Any] = {
        "w_enc": w.encoder.T,
        "b_enc": w.encoder_bias,
        "w_dec": w.decoder,
        "b_dec": w.decoder_bias,
        "threshold": w.threshold,
    }
    if skip is not None:
        values["affine_skip_connection"] = skip.T
    safetensors(directory / "params.safetensors", tensors(torch.bfloat16, **values))
    if config is not None:
        write_json(directory / "config.json", config)
    return directory


@pytest.mark.parametrize("has_skip", [True, False])
@pytest.mark.parametrize("has_config", [True, False])
def test_gemma_scope_2s_transcoders_compute_as_published(
    has_config: bool, has_skip: bool, tmp_path: Path
) -> None:
    w, skip = weights(12), skip_of() if has_skip else None
    w = Weights(w.encoder, w.encoder_bias, w.decoder, w.decoder_bias, rounded(w.threshold))
    config = GEMMA | {"affine_connection": has_skip} if has_config else None
    path = gemma_scope_2(tmp_path / "transcoder_all/layer_3_width_16k_l0_big_affine", config, w, skip)
    one = imported(path, **NORM | WRITTEN)
    latents = above(pre_activations(inputs(), w), w.threshold)
    assert_transcodes(one, latents, latents @ w.decoder + w.decoder_bias, skip)
    described = found(path)
    assert described.is_transcoder and described.place == GEMMA["hf_hook_point_in"]
    assert described.output_place == GEMMA["hf_hook_point_out"]
    assert not any("another place" in message for message in messages(one))


def test_other_layers_than_those_that_a_source_names_are_told_of(tmp_path: Path) -> None:
    path = gemma_scope_2(tmp_path / "sae", GEMMA, weights(), skip_of())
    one = imported(path, **NORM | WRITTEN | {"layer": "m_layers_3_mlp", "kind": "MLP", "output_depth": 4})
    told = [message for message in messages(one) if "another place" in message]
    assert len(told) == 2 and "m_layers_3_mlp" in told[0] and WRITTEN["output_layer"] in told[1]


def test_a_transcoder_needs_an_output_layer_of_its_width_and_an_sae_has_none(tmp_path: Path) -> None:
    path = gemma_scope_2(tmp_path / "sae", GEMMA, weights(), skip_of())
    with pytest.raises(TaskError, match=r"which writes .* name the output layer"):
        imported(path, **NORM)
    with pytest.raises(TaskError, match="writes 16 numbers per token; the output layer's are 17"):
        imported(path, **NORM | WRITTEN | {"n_outputs": 17})
    plain = dict.fromkeys(("hf_hook_point_in", "hf_hook_point_out"), GEMMA["hf_hook_point_out"])
    other = gemma_scope_2(
        tmp_path / "other", {**GEMMA, **plain, "type": "sae", "affine_connection": False}, weights(), None
    )
    with pytest.raises(TaskError, match="leave the output layer out"):
        imported(other, **NORM | WRITTEN)


def test_a_skip_connection_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    skip = skip_of()
    skip[3, 2] = np.nan
    path = gemma_scope_2(tmp_path / "sae", GEMMA, weights(), skip)
    with pytest.raises(TaskError, match="affine_skip_connection has values that are NaN"):
        imported(path, **NORM | WRITTEN)


def test_a_skip_connection_must_be_said_and_be_a_transcoders(tmp_path: Path) -> None:
    unsaid = gemma_scope_2(tmp_path / "a", GEMMA | {"affine_connection": False}, weights(), skip_of())
    with pytest.raises(NotRepresentable, match="do not have: 'affine_skip_connection'"):
        found(unsaid)
    missing = gemma_scope_2(tmp_path / "b", GEMMA, weights(), None)
    with pytest.raises(NotRepresentable, match="lacks affine_skip_connection"):
        found(missing)


# ------------------------------------------------------------------- sparsify, dictionary_learning


@pytest.mark.parametrize(("transcodes", "has_skip"), [(True, True), (True, False), (False, True)])
def test_sparsifys_transcoders_compute_as_published(transcodes: bool, has_skip: bool, tmp_path: Path) -> None:
    # The older ones, which do not say that they transcode, subtract the decoder's bias.
    w = weights(13, subtracted=not transcodes)
    skip = skip_of() if has_skip else None
    values: dict[str, Any] = {
        "encoder__weight": w.encoder,
        "encoder__bias": w.encoder_bias,
        "W_dec": w.decoder,
        "b_dec": w.decoder_bias,
    }
    if skip is not None:
        values["W_skip"] = skip
    path = tmp_path / "layers.3.mlp"
    safetensors(path / "sae.safetensors", tensors(**values))
    config = {"num_latents": N_LATENTS, "k": 35, "d_in": N_INPUTS, "skip_connection": has_skip}
    write_json(path / "cfg.json", config | ({"transcode": True} if transcodes else {}))
    layers = {"layer": "m_layers_3_post_attention_layernorm", "kind": "NORM", "depth": 3}
    written = {"output_layer": "m_layers_3_mlp", "output_kind": "MLP", "output_depth": 3}
    one = imported(path, norms_behind=False, **layers, **written)
    latents = largest(pre_activations(inputs(), w, subtracts=not transcodes), 35)
    assert_transcodes(one, latents, latents @ w.decoder + w.decoder_bias, skip)
    assert (found(path).place, found(path).output_place) == ("layers.3.mlp.input", "layers.3.mlp")
    assert not any("another place" in message for message in messages(one))


@pytest.mark.parametrize("io", ["in_and_out", "in->out"])
def test_dictionary_learnings_transcoders_compute_as_published(io: str, tmp_path: Path) -> None:
    w = weights(14, subtracted=True)
    state: dict[str, Tensor] = tensors(
        encoder__weight=w.encoder,
        encoder__bias=w.encoder_bias,
        decoder__weight=w.decoder.T,
        bias=w.decoder_bias,
    )
    torch_file(tmp_path / "trainer_0" / "ae.pt", state)
    trainer = {"dict_class": "AutoEncoder", "layer": 3, "submodule_name": "mlp"}
    write_json(tmp_path / "trainer_0" / "config.json", {"trainer": trainer, "buffer": {"io": io}})
    one = imported(tmp_path / "trainer_0", **NORM | WRITTEN)
    latents = above(pre_activations(inputs(), w, subtracts=True), 0)
    assert_transcodes(one, latents, latents @ w.decoder + w.decoder_bias, None)
    # Which module that is, its names do not tell for every model.
    assert found(tmp_path / "trainer_0").output_place is None


# --------------------------------------------------------------------- Llama Scope, llamascopium


def test_llama_scopes_transcoders_scale_in_and_out_by_norms_of_their_own(tmp_path: Path) -> None:
    w = weights(15, scale=2)
    values = tensors(
        encoder__weight=w.encoder,
        encoder__bias=w.encoder_bias,
        decoder__weight=w.decoder.T,
        decoder__bias=w.decoder_bias,
    )
    path = tmp_path / "L3TC"
    safetensors(path / "checkpoints" / "final.safetensors", values)
    config = {
        "hook_point_in": HOOKS["hook_name"],
        "hook_point_out": HOOKS["hook_name_out"],
        "d_model": N_INPUTS,
        "act_fn": "relu",
        "dataset_average_activation_norm": {"in": 2.0, "out": 8.0},
        "apply_decoder_bias_to_pre_encoder": False,
        "sparsity_include_decoder_norm": False,
    }
    write_json(path / "hyperparams.json", config)
    one = imported(path, **NORM | WRITTEN)
    s_in, s_out = 4 / 2.0, 4 / 8.0
    latents = above(inputs() @ w.encoder.T + w.encoder_bias / s_in, 0)
    assert_transcodes(one, latents, latents @ (w.decoder * s_in / s_out) + w.decoder_bias / s_out, None)


def test_llamascopiums_transcoders_scale_in_and_out_by_norms_of_their_own(tmp_path: Path) -> None:
    w = weights(16, scale=2)
    values = tensors(W_E=w.encoder.T, b_E=w.encoder_bias, W_D=w.decoder, b_D=w.decoder_bias)
    for name, norm in (("hook_name", 2.0), ("hook_name_out", 8.0)):
        values[f"dataset_average_activation_norm.{HOOKS[name]}"] = torch.tensor(norm)
    path = tmp_path / "layer3_transcoder_8x_k128"
    safetensors(path / "sae_weights.safetensors", values)
    config = {
        "sae_type": "sae",
        "hook_point_in": HOOKS["hook_name"],
        "hook_point_out": HOOKS["hook_name_out"],
        "d_model": N_INPUTS,
        "expansion_factor": 2.5,
        "act_fn": "relu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "use_decoder_bias": True,
    }
    write_json(path / "config.json", config)
    one = imported(path, **NORM | WRITTEN)
    latents = above(2 * inputs() @ w.encoder.T + w.encoder_bias, 0)
    assert_transcodes(one, latents, (latents @ w.decoder + w.decoder_bias) / (4 / 8.0), None)


# --------------------------------------------------------------------------------- circuit-tracer


@pytest.mark.parametrize("has_skip", [True, False])
@pytest.mark.parametrize("jumps", [True, False])
def test_circuit_tracers_transcoders_compute_as_published(
    jumps: bool, has_skip: bool, tmp_path: Path
) -> None:
    w, skip = weights(17), skip_of() if has_skip else None
    values: dict[str, Any] = {
        "W_enc": w.encoder,
        "b_enc": w.encoder_bias,
        "W_dec": w.decoder,
        "b_dec": w.decoder_bias,
    }
    values |= {"activation_function.threshold": w.threshold} if jumps else {}
    values |= {} if skip is None else {"W_skip": skip}
    path = tmp_path / "qwen3-4b-transcoders" / "layer_3.safetensors"
    safetensors(path, {name: tensor(value) for name, value in values.items()})
    layers = {"layer": "m_layers_3_post_attention_layernorm", "kind": "NORM", "depth": 3}
    written = {"output_layer": "m_layers_3_mlp", "output_kind": "MLP", "output_depth": 3}
    one = imported(path, norms_behind=False, **layers, **written)
    assert one.metadata["source"]["format"] == "CIRCUIT_TRACER"
    latents = above(pre_activations(inputs(), w), w.threshold if jumps else 0)
    assert_transcodes(one, latents, latents @ w.decoder + w.decoder_bias, skip)
    assert found(path).output_place == "blocks.3.hook_mlp_out"
    assert not any("another place" in message for message in messages(one))

    values["activation_function.threshold"] = -w.threshold
    other = tmp_path / "elsewhere" / "layer_3.safetensors"
    safetensors(other, {name: tensor(value) for name, value in values.items()})
    assert found(other).is_transcoder and found(other).output_place is None
    with pytest.raises(TaskError, match="Thresholds are below 0"):
        imported(other, norms_behind=False, **layers, **written)


def test_one_of_several_layers_of_circuit_tracers_must_be_named(tmp_path: Path) -> None:
    for layer in (0, 1):
        safetensors(tmp_path / f"layer_{layer}.safetensors", tensors(W_enc=np.zeros((2, 3))))
    with pytest.raises(NotRepresentable, match="in no format that is known"):
        found(tmp_path)
    with pytest.raises(NotRepresentable, match="lacks W_dec, b_dec, b_enc"):
        found(tmp_path / "layer_1.safetensors")


# ------------------------------------------------------------------------- before a norm's gain


@pytest.mark.parametrize("name", ["Gemma2ForCausalLM", "GPT2LMHeadModel"])
def test_a_value_before_a_norms_gain_is_read_from_what_the_norm_puts_out(
    name: str, tiny_model_dir: Path, language_models: LanguageModels, tmp_path: Path
) -> None:
    source = make_architecture(name, tiny_model_dir, tmp_path / "model", "FLOAT32")
    lm = language_models.get(source)
    ending = "_0_pre_feedforward_layernorm" if name.startswith("Gemma") else "_0_ln_2"
    layer = next(one for one in lm.layers.name_to_layer if one.endswith(ending))
    norm = lm.layers.name_to_layer[layer]
    choose = np.random.default_rng(3)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.tensor(choose.uniform(0.3, 1.5, size=parameter.shape)))
    width = lm.model.config.hidden_size
    w = {
        "W_enc": choose.normal(size=(width, 24)),
        "b_enc": choose.normal(size=24),
        "W_dec": choose.normal(size=(24, width)),
        "b_dec": choose.normal(size=width),
        "W_skip": choose.normal(size=(width, width)),
    }
    w = {key: rounded(value) for key, value in w.items()}
    path = tmp_path / "theirs"
    safetensors(path / "sae_weights.safetensors", {key: tensor(value) for key, value in w.items()})
    hooks = {"hook_name": "blocks.0.ln2.hook_normalized", "hook_name_out": "blocks.0.hook_mlp_out"}
    config = {"architecture": "skip_transcoder", "d_in": width, "d_out": width, "d_sae": 24}
    write_json(path / "cfg.json", config | {"metadata": {"sae_lens_version": "6.54.12", **hooks}})
    task = task_for(
        path, layer=layer, kind="NORM", depth=0, n_inputs=width, output_layer="m_mlp", language_model=source
    )
    context, classes = RecordingContext(), SaeClasses()
    result = import_sae(task, context, classes, language_models)
    sae = classes.get(result.sae_class).load(Path(task.sae_dir) / "sae.pt")

    given = torch.tensor(choose.normal(size=(20, width)) * 3, dtype=torch.float32)
    x = given.double().numpy()
    if not name.startswith("Gemma"):
        x = x - x.mean(axis=1, keepdims=True)
    epsilon = getattr(norm, "eps", None) or 1e-6
    normalized = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + epsilon)
    latents = np.maximum(normalized @ w["W_enc"] + w["b_enc"], 0)
    expected = latents @ w["W_dec"] + w["b_dec"] + normalized @ w["W_skip"].T
    with torch.no_grad():
        put_out = norm(given)
        ours = sae.encode(put_out)
        skip = skipped(sae, put_out)
        assert skip is not None
        np.testing.assert_allclose(ours.numpy(), latents, rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose((sae.decode(ours) + skip).numpy(), expected, rtol=1e-5, atol=1e-4)
    told = [event.message for event in context.events if hasattr(event, "message")]
    assert any("went into its encoder" in message for message in told)
    other = next(one for one in lm.layers.name_to_layer if one.endswith("_0_mlp"))
    with pytest.raises(TaskError, match="is no norm"):
        import_sae(msgspec.structs.replace(task, layer=other), context, classes, language_models)


def test_gemma_scopes_transcoders_read_before_the_gain(tmp_path: Path) -> None:
    w = weights()
    path = tmp_path / "gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_7"
    path.mkdir(parents=True)
    arrays = {"W_enc": w.encoder.T, "b_enc": w.encoder_bias, "W_dec": w.decoder, "b_dec": w.decoder_bias}
    np.savez(
        path / "params.npz",
        threshold=w.threshold.astype("f4"),
        **{key: value.astype("f4") for key, value in arrays.items()},
    )
    described = found(path)
    assert described.reads_before_gain and described.place == "blocks.3.ln2.hook_normalized"
    assert described.output_place == "model.layers.3.post_feedforward_layernorm.output"
    with pytest.raises(TaskError, match="the language model is not known"):
        imported(path, **NORM | WRITTEN)
