"""Gemma Scope and Gemma Scope 2: JumpReLU SAEs, told by paths and config.json, exactly as published."""

import json
import zipfile
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
    pre_activations,
    safetensors,
    task_for,
    write_json,
)
from tests.published.weights import N_INPUTS, N_LATENTS, Weights, inputs, tensors, weights

RES = "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"


def expected(w: Weights) -> tuple[Any, Any, Any]:
    """Return inputs, latents and reconstructions: relu(pre) where pre is above, nothing subtracted."""
    rows = inputs()
    pre = pre_activations(rows, w)
    assert (pre[:, 0] == w.threshold[0]).all()
    latents = above(pre, w.threshold)
    return rows, latents, latents @ w.decoder + w.decoder_bias


def arrays(w: Weights) -> dict[str, Any]:
    values = {
        "W_enc": w.encoder.T,
        "b_enc": w.encoder_bias,
        "W_dec": w.decoder,
        "b_dec": w.decoder_bias,
        "threshold": w.threshold,
    }
    return {name: np.asarray(value, dtype=np.float32) for name, value in values.items()}


def npz(directory: Path, **found: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / "params.npz", **found)
    return directory


@pytest.mark.parametrize("named", ["", "params.npz"])
def test_gemma_scope_computes_as_published(named: str, tmp_path: Path) -> None:
    w = weights()
    path = npz(tmp_path / RES, **arrays(w)) / named
    one = imported(path)
    assert (one.result.sae_class, one.result.n_latents, one.result.k) == ("JumpReLUSae", N_LATENTS, None)
    assert_computes(one.sae, *expected(w))
    source = one.metadata["source"]
    assert source["format"] == "GEMMA_SCOPE" and source["metadata"]["l0"] == "71"
    assert source["metadata"]["model_name"] == "google/gemma-2-2b"
    assert one.result.provenance is not None and one.result.provenance.source_format == "GEMMA_SCOPE"


def test_arrays_in_either_order_and_spelling_are_read(tmp_path: Path) -> None:
    w = weights()
    values = {name.lower(): value for name, value in arrays(w).items()}
    assert np.isfortran(values["w_enc"]) or values["w_enc"].flags["F_CONTIGUOUS"]
    values["w_dec"] = np.asfortranarray(values["w_dec"])
    assert_computes(imported(npz(tmp_path / RES, **values)).sae, *expected(w))


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (RES, "model.layers.20.output"),
        ("gemma-scope-9b-it-res/layer_9/width_16k/average_l0_14", "model.layers.9.output"),
        (
            "models--google--gemma-scope-2b-pt-mlp/snapshots/abc/layer_3/width_16k/average_l0_71",
            "model.layers.3.post_feedforward_layernorm.output",
        ),
        (
            "gemma-scope-2b-pt-att/layer_3/width_16k/average_l0_71",
            "model.layers.3.self_attn.o_proj.input",
        ),
        ("somewhere", None),
    ],
)
def test_gemma_scopes_path_says_the_place(path: str, place: str | None, tmp_path: Path) -> None:
    assert found(npz(tmp_path / path, **arrays(weights()))).place == place


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "for embeddings"),
    ],
)
def test_gemma_scopes_other_places_are_refused(path: str, sentence: str, tmp_path: Path) -> None:
    directory = npz(tmp_path / path, **arrays(weights()))
    with pytest.raises(NotRepresentable, match=sentence):
        found(directory)


def changed(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in (arrays(weights()) | values).items() if value is not None}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a wrong shape": ({"W_enc": np.zeros((N_LATENTS, N_INPUTS), "f4")}, "its biases say"),
    "no threshold": ({"threshold": None}, "lacks threshold"),
    "an array too many": ({"W_skip": np.zeros(3, "f4")}, "that JumpReLU SAEs do not have: 'W_skip'"),
    "whole numbers": ({"b_dec": np.zeros(N_INPUTS, "i4")}, "values of the type int32"),
    "complex numbers": ({"b_dec": np.zeros(N_INPUTS, "c8")}, "none of plain numbers"),
    "another byte order": ({"b_dec": np.zeros(N_INPUTS, ">f4")}, "none of plain numbers"),
    "objects": ({"b_dec": np.array([{}] * N_INPUTS, dtype=object)}, "one of objects would be a pickle"),
    "a matrix for a bias": ({"b_dec": np.zeros((N_INPUTS, 1), "f4")}, "must have a vector b_dec"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_arrays_that_are_not_an_saes_are_refused(what: str, tmp_path: Path) -> None:
    values, sentence = REFUSED[what]
    directory = npz(tmp_path / RES, **changed(**values))
    with pytest.raises(NotRepresentable, match=sentence):
        found(directory)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused_and_nothing_is_left(value: float, tmp_path: Path) -> None:
    w = arrays(weights())
    w["W_dec"][3, 4] = value
    directory = npz(tmp_path / RES, **w)
    with pytest.raises(TaskError, match="W_dec has values that are NaN or infinite"):
        imported(directory)
    assert not (directory.parent / "imported").exists()


def test_packed_arrays_are_refused_unread(tmp_path: Path) -> None:
    directory = tmp_path / RES
    directory.mkdir(parents=True)
    # A bomb: 100 MB of zeros in 100 kB.
    with zipfile.ZipFile(directory / "params.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in arrays(weights()):
            archive.writestr(f"{name}.npy", b"\0" * 20_000_000)
    with pytest.raises(NotRepresentable, match="savez_compressed is not read"):
        found(directory)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(kept: float, tmp_path: Path) -> None:
    path = npz(tmp_path / RES, **arrays(weights())) / "params.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(NotRepresentable, match="damaged, or no file of arrays"):
        found(path)


def test_a_file_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    w = arrays(weights())
    path = npz(tmp_path / RES, **w) / "params.npz"
    content = bytearray(path.read_bytes())
    content[content.index(w["b_enc"].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(TaskError, match=r"params.npz is damaged, in 'b_enc.npy'"):
        imported(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n",
        b"{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (16,), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-16,), }\n",
        b"(" * 4000,
    ],
)
def test_headers_of_arrays_that_numpy_does_not_write_are_refused(header: bytes, tmp_path: Path) -> None:
    path = npz(tmp_path / RES, **arrays(weights())) / "params.npz"
    entry = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("b_dec.npy", entry)
    with pytest.raises(NotRepresentable, match=r"not as long as its shape|none of plain numbers"):
        found(path)


# ------------------------------------------------------------------------------- Gemma Scope 2

CONFIG = {
    "hf_hook_point_in": "model.layers.17.output",
    "hf_hook_point_out": "model.layers.17.output",
    "width": N_LATENTS,
    "model_name": "google/gemma-3-4b-pt",
    "architecture": "jump_relu",
    "l0": 60,
    "affine_connection": False,
    "type": "sae",
}


def gemma_scope_2(
    directory: Path, config: dict[str, Any] | None, w: Weights, dtype: torch.dtype = torch.float32
) -> Path:
    values = {name.lower(): value for name, value in arrays(w).items()}
    safetensors(directory / "params.safetensors", tensors(dtype, **values))
    if config is not None:
        write_json(directory / "config.json", config)
    return directory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", [CONFIG, None])
def test_gemma_scope_2_computes_as_published(
    config: dict[str, Any] | None, dtype: torch.dtype, tmp_path: Path
) -> None:
    w = weights(2)
    path = gemma_scope_2(tmp_path / "resid_post/layer_17_width_16k_l0_medium", config, w, dtype)
    one = imported(path, kind="BLOCK", depth=17)
    assert (one.result.sae_class, one.metadata["source"]["format"]) == ("JumpReLUSae", "GEMMA_SCOPE_2")
    assert_computes(one.sae, *expected(w))
    assert found(path).place == "model.layers.17.output"
    notes = [event.message for event in one.context.events if hasattr(event, "message")]
    assert not any("another place" in note for note in notes)
    assert any("in bfloat16" in note for note in notes) is (dtype == torch.bfloat16)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"type": "clt"}, "a 'clt'"),
        ({"type": "crosscoder"}, "a 'crosscoder'"),
        ({"affine_connection": True}, "an affine connection"),
        ({"architecture": "topk"}, "architecture is 'topk'"),
        ({"hf_hook_point_out": "model.layers.18.output"}, "as a transcoder does"),
    ],
)
def test_what_gemma_scope_2_has_beside_saes_of_outputs_is_refused(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = gemma_scope_2(tmp_path / "sae", CONFIG | change, weights())
    with pytest.raises(NotRepresentable, match=sentence):
        found(path)


@pytest.mark.parametrize("says_so", [True, False])
def test_gemma_scope_2s_attention_heads_are_taken_at_what_the_projection_reads(
    says_so: bool, tmp_path: Path
) -> None:
    w, place = weights(3), "model.layers.17.self_attn.o_proj.input"
    config = CONFIG | dict.fromkeys(("hf_hook_point_in", "hf_hook_point_out"), place) if says_so else None
    path = gemma_scope_2(tmp_path / "attn_out_all/layer_17_width_16k_l0_big", config, w)
    layer = "gemma3forcausallm_model_layers_17_self_attn_o_proj.input"
    one = imported(path, kind="INPUT", depth=17, layer=layer)
    assert_computes(one.sae, *expected(w))
    assert found(path).place == place
    notes = [event.message for event in one.context.events if hasattr(event, "message")]
    assert not any("another place" in note for note in notes)
    elsewhere = imported(path, kind="INPUT", depth=17, layer=layer.replace("o_proj", "out"))
    assert any("another place" in getattr(event, "message", "") for event in elsewhere.context.events)


@pytest.mark.parametrize("l0", ["1e999", "-1e999", "true", '"60"', "[1]", "1" + "0" * 4000])
def test_an_l0_that_no_file_of_json_takes_is_left_out(l0: str, tmp_path: Path) -> None:
    path = gemma_scope_2(tmp_path / "sae", None, weights())
    (path / "config.json").write_text(json.dumps(CONFIG).replace('"l0": 60', f'"l0": {l0}'))
    assert "l0" not in imported(path).metadata["source"]["metadata"]


def test_a_path_tells_what_no_config_json_does(tmp_path: Path) -> None:
    path = gemma_scope_2(tmp_path / "crosscoder" / "layer_17_width_16k_l0_big", None, weights())
    with pytest.raises(NotRepresentable, match="a 'crosscoder'"):
        found(path)


def test_files_of_several_layers_are_refused(tmp_path: Path) -> None:
    safetensors(tmp_path / "clt" / "params_layer_0.safetensors", tensors(w_enc=np.zeros((2, 3))))
    with pytest.raises(NotRepresentable, match="cross-layer transcoder or a crosscoder"):
        found(tmp_path / "clt")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"{}" + b" " * 2**20])
def test_a_config_json_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    path = gemma_scope_2(tmp_path / "sae", None, weights())
    (path / "config.json").write_bytes(content)
    with pytest.raises(NotRepresentable, match=r"config.json is (not|larger)"):
        found(path)


HEADERS: dict[str, Any] = {
    "data beyond the file": {"b_dec": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}},
    "tensors over one another": {
        name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("b_dec", "b_enc")
    },
    "a negative size": {"b_dec": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
    "a size of text": {"b_dec": {"dtype": "F32", "shape": ["4"], "data_offsets": [0, 16]}},
    "a size beyond all memory": {"b_dec": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 16]}},
    "no object": {"b_dec": 3},
    "a list": [],
}


@pytest.mark.parametrize("what", HEADERS)
def test_headers_that_do_not_fit_their_file_are_refused(what: str, tmp_path: Path) -> None:
    header = json.dumps(HEADERS[what]).encode()
    path = tmp_path / "params.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    with pytest.raises(NotRepresentable, match="does not describe tensors"):
        found(tmp_path)


def test_weights_that_change_before_the_job_reads_them_are_refused(tmp_path: Path) -> None:
    path = gemma_scope_2(tmp_path / "sae", CONFIG, weights())
    task = task_for(path)
    write_json(path / "config.json", CONFIG | {"type": "crosscoder"})
    with pytest.raises(NotRepresentable):
        found(path)
    from gql_server.compute.formats.sae_import import import_sae
    from gql_server.compute.saes.classes import SaeClasses
    from tests.compute.conftest import RecordingContext

    with pytest.raises(TaskError, match="'crosscoder'"):
        import_sae(task, RecordingContext(), SaeClasses())
    assert not Path(task.sae_dir).exists()


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    npz_directory = npz(tmp_path / "a" / RES, **arrays(weights()))
    assert_any_damage_is_read_or_refused(npz_directory / "params.npz", npz_directory)
    directory = gemma_scope_2(tmp_path / "b" / "sae", CONFIG, weights())
    assert_any_damage_is_read_or_refused(directory / "params.safetensors", directory)
    assert_any_value_is_read_or_refused(directory / "config.json")
