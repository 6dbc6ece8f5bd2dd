"""Exports for dictionary_learning and sparsify: by their formulas in float64, and read here again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from gql_server.compute.formats.tensor_writing import write_safetensors
from gql_server.compute.saes.affine_saes import AffineSae
from gql_server.compute.worker.context import CancelRequested, TaskError
from tests.compute.formats.published import imported, largest
from tests.published.weights import Array
from tests.saelens.cases import CLASSES, N_INPUTS, ExportFormat, K, export, make, unpack

from mi_crow.mechanistic.sae.sae import Sae

ROWS = np.random.default_rng(7).normal(size=(40, N_INPUTS)).astype(np.float32).astype(np.float64)


def sae_of(name: str, *, subtracts: bool) -> Sae:
    """Return make()'s, with a decoder bias, that subtracts it from its inputs or not."""
    sae = make(name)
    if isinstance(sae, AffineSae):
        sae.sae_engine.subtracts_bias = subtracts
    return sae


def exported(name: str, format: ExportFormat, directory: Path, sae: Sae) -> Path:
    """Export and unpack an SAE."""
    export(name, directory / "x.zip", format, sae)
    return unpack(directory / "x.zip", directory / "theirs")


def dictionary(directory: Path) -> tuple[str, Array, Array]:
    """Return the library's class, and its latents and reconstructions of ROWS."""
    trainer = json.loads((directory / "config.json").read_text())["trainer"]
    state = torch.load(directory / "ae.pt", weights_only=True)
    w = {name: tensor.double().numpy() for name, tensor in state.items()}
    name = trainer["dict_class"]
    if name == "JumpReluAutoEncoder":
        pre = ROWS @ w["W_enc"] + w["b_enc"]
        latents = np.where(pre > w["threshold"], np.maximum(pre, 0), 0)
        return name, latents, latents @ w["W_dec"] + w["b_dec"]
    if name == "GatedAutoEncoder":
        z = (ROWS - w["decoder_bias"]) @ w["encoder.weight"].T
        latents = np.maximum(np.exp(w["r_mag"]) * z + w["mag_bias"], 0) * (z + w["gate_bias"] > 0)
        return name, latents, latents @ w["decoder.weight"].T + w["decoder_bias"]
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(name, "b_dec")
    given = ROWS if name == "AutoEncoderNew" else ROWS - w[bias]
    pre = given @ w["encoder.weight"].T + w["encoder.bias"]
    if name == "AutoEncoderTopK":
        assert trainer["k"] == w["k"] == K and w["threshold"] == -1 and state["k"].dtype == torch.int32
        latents = largest(pre, K)
    elif name == "BatchTopKSAE":
        assert trainer["k"] == w["k"] == K and w["threshold"].shape == ()
        latents = np.where(pre > w["threshold"], np.maximum(pre, 0), 0)
    else:
        latents = np.maximum(pre, 0)
    return name, latents, latents @ w["decoder.weight"].T + w[bias]


def sparsify(directory: Path) -> tuple[Array, Array]:
    """Return the library's latents and reconstructions of ROWS."""
    cfg = json.loads((directory / "cfg.json").read_text())
    w = {name: one.astype(np.float64) for name, one in load_file(directory / "sae.safetensors").items()}
    assert (cfg["d_in"], cfg["num_latents"]) == w["encoder.weight"].shape[::-1]
    assert not (cfg["transcode"] or cfg["skip_connection"]) and cfg["activation"] == "topk"
    pre = np.maximum((ROWS - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"], 0)
    latents = largest(pre, cfg["k"])
    return latents, latents @ w["W_dec"] + w["b_dec"]


def assert_same(sae: Sae, latents: Array, reconstructions: Array) -> None:
    """Compare an SAE with a formula: to 1e-5, and no active neuron different."""
    with torch.no_grad():
        ours = sae.encode(torch.tensor(ROWS, dtype=torch.float32))
        decoded = sae.decode(ours)
    assert np.array_equal(ours.numpy() != 0, latents != 0) and latents.any()
    np.testing.assert_allclose(ours.numpy(), latents, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(decoded.numpy(), reconstructions, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("name", CLASSES)
def test_dictionary_learning_computes_what_is_computed_here(
    name: str, subtracts: bool, tmp_path: Path
) -> None:
    sae = sae_of(name, subtracts=subtracts)
    directory = exported(name, "DICTIONARY_LEARNING", tmp_path, sae)
    dict_class, latents, reconstructions = dictionary(directory)
    relu = "AutoEncoder" if subtracts and name == "ReLUSae" else "AutoEncoderNew"
    assert dict_class == {
        "TopKSae": "AutoEncoderTopK",
        "BiasedTopKSae": "AutoEncoderTopK",
        "BatchTopKSae": "BatchTopKSAE",
        "JumpReLUSae": "JumpReluAutoEncoder",
        "GatedSae": "GatedAutoEncoder",
    }.get(name, relu)
    assert_same(sae, latents, reconstructions)
    back = imported(directory, kind="BLOCK", depth=0)
    assert back.metadata["source"]["format"] == "DICTIONARY_LEARNING"
    assert_same(back.sae, latents, reconstructions)
    if name == "BatchTopKSae":
        assert (back.result.sae_class, back.result.k) == (name, K)


def test_its_config_says_the_model_and_the_block(tmp_path: Path) -> None:
    directory = exported("ReLUSae", "DICTIONARY_LEARNING", tmp_path, make("ReLUSae"))
    config = json.loads((directory / "config.json").read_text())
    trainer = config["trainer"]
    assert (trainer["lm_name"], trainer["layer"]) == ("tiny", 0)
    assert trainer["submodule_name"] == "resid_post_layer_0"
    assert config["buffer"] == {"d_submodule": N_INPUTS, "io": "out", "ctx_len": 64}


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("name", ["TopKSae", "BiasedTopKSae"])
def test_sparsify_computes_what_is_computed_here(name: str, subtracts: bool, tmp_path: Path) -> None:
    sae = sae_of(name, subtracts=subtracts)
    directory = exported(name, "SPARSIFY", tmp_path, sae)
    assert_same(sae, *sparsify(directory))
    back = imported(directory, kind="BLOCK", depth=0)
    assert (back.result.sae_class, back.result.k) == ("BiasedTopKSae", K)
    assert_same(back.sae, *sparsify(directory))
    assert json.loads((directory / "gql_server.json").read_text())["hook_name"] == "blocks.0.hook_resid_post"


def test_what_a_format_cannot_say_is_refused_with_those_that_can(tmp_path: Path) -> None:
    sentence = "sparsify has no architecture for the class JumpReLUSae; export it for SAELens or dictionary_"
    with pytest.raises(TaskError, match=sentence):
        export("JumpReLUSae", tmp_path / "exports" / "x.zip", "SPARSIFY")
    assert not (tmp_path / "exports").exists()


@pytest.mark.parametrize("format", ["DICTIONARY_LEARNING", "SPARSIFY"])
def test_the_same_sae_gives_the_same_file(format: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export("BiasedTopKSae", tmp_path / name / "x.zip", format)
    first, second = ((tmp_path / name / "x.zip").read_bytes() for name in ("a", "b"))
    assert first == second


def test_tensors_are_written_as_safetensors_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gql_server.compute.formats.tensor_writing.CHUNK_BYTES", 100)
    tensors = {
        "wide": torch.randn(7, 50),
        "turned": torch.randn(9, 13).T,
        "a": torch.randn(3),
        "one": torch.tensor(2.5),
    }
    write_safetensors(tmp_path / "ours", tensors, lambda: None)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_writing_tensors_ends_between_two_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gql_server.compute.formats.tensor_writing.CHUNK_BYTES", 400)
    seen: list[int] = []

    def check() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise CancelRequested

    with pytest.raises(CancelRequested):
        write_safetensors(tmp_path / "x", {"a": torch.randn(100, 10)}, check)
    # Two parts of ten rows have been written, if buffered; the third has not.
    assert (tmp_path / "x").stat().st_size < 100 * 10 * 4
