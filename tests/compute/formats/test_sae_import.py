"""Importing SAEs: what is read, and that what cannot be taken over exactly is refused and leaves nothing."""

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gql_server.artifacts.provenance import to_json
from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.weights import SaeWeights
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Log, Progress, Stage
from gql_server.protocol.tasks import ImportSae
from tests.compute.conftest import RecordingContext
from tests.saelens.cases import CLASSES, N_INPUTS, N_LATENTS, K, make
from tests.saelens.recorded_files import FILES, RECORDED, made

from mi_crow.mechanistic.sae.sae import Sae

SHAPE = [N_LATENTS, N_INPUTS]


@pytest.fixture
def sae_lens(tmp_path: Path) -> Path:
    """Give a directory of sae-lens's own, of a standard SAE; a test changes it."""
    return made("standard", tmp_path / "theirs")


def weights_of(sae: Sae) -> SaeWeights:
    engine = engine_of(sae)
    assert engine is not None
    return engine.weights()


def task_for(source: Path, **changes: Any) -> ImportSae:
    """Return the task that imports a SAELens directory, or a checkpoint."""
    paths = [source / name for name in FILES] if source.is_dir() else [source]
    task = ImportSae(
        sae_id="sae_1",
        name="imported",
        language_model_id="lm_1",
        layer="m_layers_0",
        kind="BLOCK",
        depth=0,
        n_inputs=N_INPUTS,
        max_latents=1000,
        format="SAE_LENS" if source.is_dir() else "MI_CROW",
        source=f"shared/{source.name}",
        files={path.name: str(path) for path in paths},
        roots=[str(source.parent)],
        sae_dir=str(source.parent / "sae" / "sae_1"),
    )
    return msgspec.structs.replace(task, **changes)


def refusal(source: Path, **changes: Any) -> str:
    """Return why an import is refused, having seen that it left nothing behind."""
    task = task_for(source, **changes)
    with pytest.raises(TaskError) as caught:
        import_sae(task, RecordingContext(), SaeClasses())
    assert not Path(task.sae_dir).exists()
    return caught.value.reason


def set_cfg(source: Path, **changes: Any) -> None:
    cfg = json.loads((source / "cfg.json").read_text())
    (source / "cfg.json").write_text(json.dumps(cfg | changes))


def set_tensors(source: Path, **changes: Tensor | None) -> None:
    path = source / "sae_weights.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def with_value(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed.flatten()[3] = value
    return changed


# ---------------------------------------------------------------------------- SAELens


def test_an_import_tells_where_its_weights_came_from(
    sae_lens: Path, recording_context: RecordingContext
) -> None:
    task = task_for(sae_lens)
    result = import_sae(task, recording_context, SaeClasses())
    assert (result.sae_class, result.n_inputs, result.n_latents) == ("ReLUSae", N_INPUTS, N_LATENTS)
    directory = Path(task.sae_dir)
    assert {path.name for path in directory.iterdir()} == {"sae.pt", "metadata.json"}
    metadata = json.loads((directory / "metadata.json").read_text())
    assert metadata["source"]["path"] == "shared/theirs" and metadata["origin"] == "IMPORTED"
    assert metadata["source"]["metadata"] == {
        "architecture": "standard",
        "dtype": "float32",
        "model_name": "tiny",
        "hook_name": "blocks.0.hook_resid_post",
        "context_size": 64,
        "sae_lens_version": "6.54.12",
        "sae_lens_training_version": "6.54.12",
    }
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sae_lens.iterdir()}
    assert {file["name"]: file["sha256"] for file in metadata["source"]["files"]} == hashes
    assert result.provenance is not None
    assert {file.name: file.sha256 for file in result.provenance.source_files} == hashes
    checkpoint = hashlib.sha256((directory / "sae.pt").read_bytes()).hexdigest()
    assert result.provenance.checkpoint_sha256 == checkpoint
    assert metadata["provenance"] == to_json(result.provenance)
    progress = [event for event in recording_context.events if isinstance(event, Progress)]
    size = sum(path.stat().st_size for path in sae_lens.iterdir())
    assert progress[0] == Progress(0, size) and progress[-1] == Progress(size, size)
    stages = [event for event in recording_context.events if isinstance(event, Stage)]
    assert list(dict.fromkeys(event.name for event in stages)) == [
        "reading the weights",
        "writing the checkpoint",
        "hashing the checkpoint",
    ]
    weights = load_file(sae_lens / "sae_weights.safetensors")
    both = weights["W_enc"].numel() + weights["W_dec"].numel()
    assert [(event.completed, event.total) for event in stages[:3]] == [
        (0, 1),
        (both // 2, both),
        (both, both),
    ]


CFG_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": (
        {"architecture": "matching_pursuit"},
        "architecture 'matching_pursuit' has no counterpart",
    ),
    "an architecture that is no name": ({"architecture": [1]}, "a list has no counterpart"),
    "a transcoder": ({"d_out": 16}, "transcoder"),
    "a transcoder by its metadata": (
        {"metadata": {"sae_lens_version": "6.1.0", "hook_name_out": "blocks.1.hook_mlp_out"}},
        "transcoder",
    ),
    "normalized activations": (
        {"normalize_activations": "covariance_whitening"},
        "normalize_activations is 'covariance_whitening'",
    ),
    "attention heads by a hook that is another": ({"reshape_activations": "hook_z"}, "before they are mixed"),
    "attention heads at another hook": (
        {
            "reshape_activations": "hook_q",
            "metadata": {"sae_lens_version": "6.1.0", "hook_name": "blocks.0.attn.hook_q"},
        },
        "'hook_q' at hook_name 'blocks.0.attn.hook_q'",
    ),
    "one attention head": ({"hook_head_index": 3}, "hook_head_index"),
    "scaling factors": ({"finetuning_scaling_factor": True}, "scaling factors"),
    "an error term": ({"use_error_term": True}, "error term"),
    "another activation function": ({"activation_fn": "tanh-relu"}, "'tanh-relu' does not go"),
    "another width than its tensors": ({"d_in": 17}, "shape [16, 64]; d_in and d_sae say [17, 64]"),
    "more neurons than its tensors": ({"d_sae": 1001}, "d_in and d_sae say [16, 1001]"),
    "no width": ({"d_in": None}, "d_in must be a number from 1, not None"),
    "a width that is no number": ({"d_in": True}, "d_in must be a number from 1, not True"),
    "a negative size": ({"d_sae": -64}, "d_sae must be a number from 1, not -64"),
    "a bias flag that is a number": ({"apply_b_dec_to_input": 0.5}, "must be true or false, not 0.5"),
    "a strange dtype": ({"dtype": "int8"}, "dtype is 'int8'"),
    "metadata that is no object": (
        {"sae_lens_version": "6.0.0", "metadata": [1]},
        "metadata must be an object",
    ),
    "a version that is none": ({"metadata": {"sae_lens_version": "new"}}, "no version: 'new'"),
    "k of a topk that is too large": ({"architecture": "topk", "k": 65}, "k is 65, more than the 64"),
    "no k": ({"architecture": "topk"}, "k must be a number from 1, not None"),
}


@pytest.mark.parametrize("what", CFG_REFUSALS)
def test_a_cfg_json_that_says_something_else_is_refused(what: str, sae_lens: Path) -> None:
    changes, sentence = CFG_REFUSALS[what]
    set_cfg(sae_lens, **changes)
    assert sentence in refusal(sae_lens)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"d_in": ' + b"1" * 10_000 + b"}", "is not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}" + b" " * 1024 * 1024, "the limit is 1,048,576"),
    ],
)
def test_a_cfg_json_that_is_none_is_refused(content: bytes, sentence: str, sae_lens: Path) -> None:
    (sae_lens / "cfg.json").write_bytes(content)
    assert sentence in refusal(sae_lens)


WEIGHTS = load_file(RECORDED / "made" / "standard" / "sae_weights.safetensors")
WEIGHTS_REFUSALS: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "wrong shape": (
        {"W_enc": torch.zeros(SHAPE)},
        "W_enc has the shape [64, 16]; d_in and d_sae say [16, 64]",
    ),
    "one value too few": ({"b_dec": torch.zeros(15)}, "b_dec has the shape [15]"),
    "NaN": ({"W_dec": with_value(WEIGHTS["W_dec"], torch.nan)}, "W_dec has values that are NaN or infinite"),
    "infinity": ({"b_enc": with_value(WEIGHTS["b_enc"], torch.inf)}, "b_enc has values that are NaN or"),
    "a tensor missing": ({"b_enc": None}, "lacks b_enc"),
    "a tensor of jumprelu": ({"threshold": torch.zeros(64)}, "do not have: 'threshold'"),
    "whole numbers": ({"b_enc": torch.zeros(64, dtype=torch.int32)}, "values of the type int32"),
    "more precision": (
        {"b_dec": torch.full((16,), 0.1, dtype=torch.float64)},
        "round to the float32 of cfg.json",
    ),
    "scaling factors": ({"scaling_factor": torch.full((64,), 2.0)}, "scaling factors (scaling_factor)"),
}


@pytest.mark.parametrize("what", WEIGHTS_REFUSALS)
def test_weights_that_are_not_those_of_the_cfg_json_are_refused(what: str, sae_lens: Path) -> None:
    changes, sentence = WEIGHTS_REFUSALS[what]
    set_tensors(sae_lens, **changes)
    assert sentence in refusal(sae_lens)


def test_weights_that_sae_lens_would_round_are_refused(sae_lens: Path) -> None:
    set_cfg(sae_lens, dtype="float16")
    assert "is float32, which SAELens would round to the float16" in refusal(sae_lens)


def test_weights_of_double_precision_are_taken_where_nothing_of_them_is_lost(sae_lens: Path) -> None:
    set_cfg(sae_lens, dtype="float64")
    set_tensors(sae_lens, b_dec=WEIGHTS["b_dec"].double())
    task = task_for(sae_lens)
    import_sae(task, RecordingContext(), SaeClasses())
    loaded = torch.load(Path(task.sae_dir) / "sae.pt", weights_only=True)
    assert torch.equal(loaded["state_dict"]["decoder_bias"], WEIGHTS["b_dec"])


def test_weights_of_double_precision_that_would_be_rounded_are_refused(sae_lens: Path) -> None:
    set_cfg(sae_lens, dtype="float64")
    set_tensors(sae_lens, b_dec=torch.full((16,), 0.1, dtype=torch.float64))
    assert "more precise than the float32" in refusal(sae_lens)


def test_scaling_factors_of_ones_are_left_out_as_sae_lens_does(sae_lens: Path) -> None:
    set_tensors(sae_lens, scaling_factor=torch.ones(64))
    assert import_sae(task_for(sae_lens), RecordingContext(), SaeClasses()).sae_class == "ReLUSae"


def test_rows_of_zeros_by_whose_length_is_divided_are_refused(tmp_path: Path) -> None:
    source = made("topk_with_rescaling", tmp_path / "theirs")
    weights = load_file(source / "sae_weights.safetensors")["W_dec"]
    weights[7] = 0
    set_tensors(source, W_dec=weights)
    assert "(W_dec) are zero" in refusal(source)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_rows_whose_length_sae_lens_cannot_compute_are_refused_for_that(
    factor: float, tmp_path: Path
) -> None:
    source = made("topk_with_rescaling", tmp_path / "theirs")
    weights = load_file(source / "sae_weights.safetensors")["W_dec"] * factor
    theirs = weights.norm(dim=1)
    assert bool((weights != 0).any(dim=1).all()) and bool(((theirs == 0) | (theirs == torch.inf)).all())
    set_tensors(source, W_dec=weights)
    reason = refusal(source)
    assert "so short or so long that SAELens, which computes their lengths in float32" in reason
    assert "zero" not in reason


@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e12])
def test_rows_of_any_length_that_sae_lens_can_compute_become_unit(factor: float, tmp_path: Path) -> None:
    source = made("topk_with_rescaling", tmp_path / "theirs")
    tensors = load_file(source / "sae_weights.safetensors")
    set_cfg(source, dtype="float64")  # In which even the squares of the shortest are no zeros.
    set_tensors(source, W_dec=tensors["W_dec"] * factor)
    task = task_for(source)
    import_sae(task, RecordingContext(), SaeClasses())
    ours = weights_of(SaeClasses().get("BiasedTopKSae").load(Path(task.sae_dir) / "sae.pt"))
    rows = (tensors["W_dec"] * factor).double().numpy()
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ours.decoder_weight.numpy(), rows / lengths, rtol=1e-6)
    encoder = tensors["W_enc"].double().numpy().T * lengths
    np.testing.assert_allclose(ours.encoder_weight.numpy(), encoder, rtol=1e-6)


def test_rows_so_long_that_the_encoder_becomes_infinite_are_refused(tmp_path: Path) -> None:
    source = made("topk_with_rescaling", tmp_path / "theirs")
    tensors = load_file(source / "sae_weights.safetensors")
    set_tensors(source, W_dec=tensors["W_dec"] * 1e15, W_enc=tensors["W_enc"] * 1e30)
    assert "NaN or infinite" in refusal(source)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: pickle.dumps({"W_enc": 1}),
        lambda content: content + b"x",
    ],
)
def test_a_damaged_file_of_weights_is_refused(damage: Callable[[bytes], bytes], sae_lens: Path) -> None:
    path = sae_lens / "sae_weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert "sae_weights.safetensors is damaged, or no safetensors file" in refusal(sae_lens)


def test_a_type_that_safetensors_does_not_know_is_told_of_in_a_sentence(sae_lens: Path) -> None:
    path = sae_lens / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F99"', 1))
    reason = refusal(sae_lens)
    assert "types that safetensors knows" in reason and "expected" not in reason and reason.endswith(".")


def test_a_file_of_weights_that_is_larger_than_its_tensors_is_not_even_copied(sae_lens: Path) -> None:
    with (sae_lens / "sae_weights.safetensors").open("r+b") as file:
        file.truncate(10**12)  # Sparse: no disk has it.
    assert "does not describe tensors" in refusal(sae_lens)


def test_a_checkpoint_that_is_larger_than_any_of_its_sizes_is_not_even_copied(tmp_path: Path) -> None:
    path = checkpoint("L1Sae", tmp_path)
    content = path.read_bytes()
    with path.open("wb") as file:
        file.seek(10**12)  # Sparse, and before a ZIP file anything may stand.
        file.write(content)
    assert "has 1,000,000,0" in (reason := refusal(path)) and "the limit is" in reason


def test_what_does_not_fit_the_layer_or_the_server_is_refused(sae_lens: Path) -> None:
    assert "width 16; the layer's are 17 wide" in refusal(sae_lens, n_inputs=17)
    assert "64 neurons; this server takes 63" in refusal(sae_lens, max_latents=63)


def test_a_link_in_the_place_of_a_file_is_not_followed(sae_lens: Path, tmp_path: Path) -> None:
    path = sae_lens / "sae_weights.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "is not a plain file any more" in refusal(sae_lens)


def test_a_link_in_the_place_of_a_directory_is_not_followed(sae_lens: Path, tmp_path: Path) -> None:
    task = task_for(sae_lens)
    outside = tmp_path / "elsewhere"
    sae_lens.rename(outside)
    sae_lens.symlink_to(outside)
    with pytest.raises(TaskError, match=r"cfg.json is not a plain file any more, or a directory above it"):
        import_sae(task, RecordingContext(), SaeClasses())


def test_directories_that_are_exchanged_while_files_are_read_change_nothing(
    sae_lens: Path, tmp_path: Path, recording_context: RecordingContext
) -> None:
    other = made("topk_of_version_5", tmp_path / "outside")
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sae_lens.iterdir()}

    def exchange() -> None:
        if not sae_lens.is_symlink():
            sae_lens.rename(tmp_path / "moved")
            sae_lens.symlink_to(other)

    recording_context.on_check = exchange  # type: ignore[method-assign]
    result = import_sae(task_for(sae_lens), recording_context, SaeClasses())
    assert sae_lens.is_symlink() and result.sae_class == "ReLUSae" and result.provenance is not None
    assert {file.name: file.sha256 for file in result.provenance.source_files} == hashes


def test_files_under_no_model_directory_are_not_read(sae_lens: Path, tmp_path: Path) -> None:
    assert "cfg.json is not there any more" in refusal(sae_lens, roots=[str(tmp_path / "models")])
    assert "cfg.json is not there any more" in refusal(sae_lens, roots=[])


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(sae_lens: Path) -> None:
    path = sae_lens / "sae_weights.safetensors"
    path.unlink()
    os.mkfifo(path)
    assert "is not a plain file any more" in refusal(sae_lens)


def test_a_cancellation_leaves_nothing(sae_lens: Path, recording_context: RecordingContext) -> None:
    def cancel() -> None:
        raise CancelRequested

    recording_context.on_check = cancel  # type: ignore[method-assign]
    with pytest.raises(CancelRequested):
        import_sae(task_for(sae_lens), recording_context, SaeClasses())
    assert not Path(task_for(sae_lens).sae_dir).exists()


def test_what_a_killed_attempt_has_left_is_cleared_away(sae_lens: Path) -> None:
    task = task_for(sae_lens)
    left = Path(task.sae_dir) / ".partial-killed"
    left.mkdir(parents=True)
    (left / "source_0").write_bytes(b"x")
    import_sae(task, RecordingContext(), SaeClasses())
    assert not left.exists()


@pytest.mark.parametrize(
    ("trained_with", "writes", "told"),
    [
        (True, False, ["with a BOS before them (prepend_bos: true)", "addBos to true"]),
        (False, True, ["without a BOS before them (prepend_bos: false)", "addBos to false"]),
        (True, True, ["with a BOS before them, and one is written", "the same"]),
        (False, False, ["without a BOS before them, and none is written", "the same"]),
        (None, False, ["does not say", "none is written"]),
        (None, True, ["does not say", "one is written"]),
        (True, None, None),
    ],
)
def test_what_texts_begin_with_in_the_training_and_here_is_told_and_kept(
    trained_with: bool | None, writes: bool | None, told: list[str] | None, sae_lens: Path
) -> None:
    set_cfg(sae_lens, metadata={"sae_lens_version": "6.0.0", "prepend_bos": trained_with})
    context = RecordingContext()
    kept = import_sae(task_for(sae_lens, writes_bos=writes), context, SaeClasses()).provenance
    assert kept is not None and (kept.source_prepends_bos, kept.writes_bos) == (trained_with, writes)
    notes = [event.message for event in context.events if isinstance(event, Log) and "BOS" in event.message]
    assert len(notes) == (told is not None) and all(part in notes[0] for part in told or ())


@pytest.mark.parametrize(
    ("kind", "depth", "hook", "differs"),
    [
        ("BLOCK", 0, "blocks.0.hook_resid_post", False),
        ("BLOCK", 0, "blocks.1.hook_resid_pre", False),
        ("INPUT", 0, "blocks.0.hook_resid_pre", False),
        ("EMBEDDING", None, "blocks.0.hook_resid_pre", False),
        ("INPUT", 1, "blocks.1.attn.hook_z", False),
        ("ATTENTION", 1, "blocks.1.attn.hook_z", True),
        ("INPUT", 0, "blocks.1.attn.hook_z", True),
        ("INPUT", 1, "blocks.1.hook_resid_mid", False),
        ("BLOCK", 1, "model.layers.1.output", False),
        ("BLOCK", 0, "model.layers.1.output", True),
        ("BLOCK", 1, "blocks.0.hook_resid_post", True),
        ("MLP", 0, "blocks.0.hook_resid_post", True),
        ("MLP", 3, "blocks.3.hook_mlp_out", True),
        ("ATTENTION", 3, "blocks.3.hook_attn_out", True),
        ("BLOCK", 3, "blocks.3.hook_mlp_out", True),
        ("BLOCK", 0, "model.layers.7", True),
        ("BLOCK", 7, "model.layers.7", False),
        ("BLOCK", 7, "a place of nobody's", False),
        ("BLOCK", 0, None, False),
    ],
)
def test_a_hook_that_may_be_at_another_place_is_told_of(
    kind: str, depth: int, hook: str | None, differs: bool, sae_lens: Path
) -> None:
    set_cfg(sae_lens, metadata={"sae_lens_version": "6.0.0", "hook_name": hook})
    context = RecordingContext()
    import_sae(task_for(sae_lens, kind=kind, depth=depth), context, SaeClasses())
    notes = [log.message for log in logs(context) if "names the place" in log.message]
    assert len(notes) == differs and all(str(hook) in note for note in notes)


@pytest.mark.parametrize(("named", "is_told"), [("m_o_proj.input", False), ("m_down_proj.input", True)])
def test_attention_heads_are_taken_and_the_layer_that_they_are_is_told(
    named: str, is_told: bool, sae_lens: Path
) -> None:
    metadata = {"sae_lens_version": "6.0.0", "hook_name": "blocks.1.attn.hook_z"}
    set_cfg(sae_lens, reshape_activations="hook_z", metadata=metadata)
    context = RecordingContext()
    task = task_for(sae_lens, kind="INPUT", depth=1, layer="m_o_proj.input", named_layer=named)
    assert import_sae(task, context, SaeClasses()).n_inputs == N_INPUTS
    notes = [log.message for log in logs(context) if "names the place" in log.message]
    assert len(notes) == is_told and all(f"is the layer {named} of" in note for note in notes)


GEMMA = "gemma2_model_layers_3_"


@pytest.mark.parametrize(
    ("kind", "layer", "norms_behind", "hook", "told"),
    [
        ("MLP", "m_mlp", False, "blocks.3.hook_mlp_out", None),
        ("MLP", "m_mlp", None, "blocks.3.hook_mlp_out", "such as Gemma 2"),
        ("NORM", "llama_layers_3_post_attention_layernorm", False, "blocks.3.hook_attn_out", "another place"),
        ("MLP", f"{GEMMA}mlp", True, "blocks.3.hook_mlp_out", "post_feedforward_layernorm puts out"),
        ("NORM", f"{GEMMA}post_feedforward_layernorm", True, "blocks.3.hook_mlp_out", None),
        ("NORM", f"{GEMMA}post_feedforward_layernorm", None, "blocks.3.hook_mlp_out", "such as Gemma 2"),
        ("NORM", f"{GEMMA}pre_feedforward_layernorm", True, "blocks.3.hook_mlp_out", "another place"),
        ("NORM", f"{GEMMA}post_attention_layernorm", True, "blocks.3.hook_attn_out", None),
        ("NORM", f"{GEMMA}post_feedforward_layernorm", True, "blocks.3.hook_attn_out", "another place"),
        ("ATTENTION", f"{GEMMA}self_attn", True, "model.layers.3.self_attn.output", None),
        ("NORM", f"{GEMMA}post_feedforward_layernorm", True, "model.layers.2.mlp", "another place"),
    ],
)
def test_in_models_with_norms_behind_attention_and_mlp_hooks_of_transformer_lens_are_those_norms(
    kind: str, layer: str, norms_behind: bool | None, hook: str, told: str | None, sae_lens: Path
) -> None:
    set_cfg(sae_lens, metadata={"sae_lens_version": "6.0.0", "hook_name": hook})
    context = RecordingContext()
    task = task_for(sae_lens, kind=kind, depth=3, layer=layer, norms_behind=norms_behind)
    import_sae(task, context, SaeClasses())
    notes = [log.message for log in logs(context) if hook in log.message]
    assert len(notes) == (told is not None) and all(str(told) in note for note in notes)


@pytest.mark.parametrize(
    ("said", "is_told"),
    [
        ({}, True),
        ({"model_from_pretrained_kwargs": None}, True),
        ({"model_from_pretrained_kwargs": {}}, False),
        ({"model_from_pretrained_kwargs": {"center_writing_weights": False}}, False),
        ({"model_from_pretrained_kwargs": {"center_writing_weights": True}}, True),
        ({"model_from_pretrained_kwargs": {"fold_ln": True, "center_writing_weights": False}}, True),
        ({"model_class_name": "AutoModelForCausalLM"}, False),
    ],
)
def test_an_sae_that_may_be_for_processed_weights_is_told_of(
    said: dict[str, Any], is_told: bool, sae_lens: Path
) -> None:
    set_cfg(sae_lens, metadata={"sae_lens_version": "6.0.0", **said})
    assert processing_told_of(sae_lens) is is_told
    kept = json.loads((sae_lens.parent / "sae" / "sae_1" / "metadata.json").read_text())["source"]["metadata"]
    assert {name: kept[name] for name in said if name in kept} == {
        name: value for name, value in said.items() if value is not None
    }


@pytest.mark.parametrize(
    ("arguments", "is_told"),
    [(None, True), ({}, True), ({"center_writing_weights": False}, False)],
)
def test_before_version_6_weights_were_processed_where_nothing_else_is_said(
    arguments: dict[str, Any] | None, is_told: bool, tmp_path: Path
) -> None:
    source = made("topk_of_version_5", tmp_path / "theirs")
    set_cfg(source, model_from_pretrained_kwargs=arguments)
    assert processing_told_of(source) is is_told


def processing_told_of(source: Path) -> bool:
    context = RecordingContext()
    import_sae(task_for(source), context, SaeClasses())
    return any("unprocessed weights" in log.message for log in logs(context))


@pytest.mark.parametrize(
    "arguments", [{"dtype": "\ud800", "n": [1]}, {"a": "x" * 400}, {"\ud800": float("inf")}]
)
def test_arguments_that_no_file_takes_are_left_out(arguments: dict[str, Any], sae_lens: Path) -> None:
    text = json.dumps({"sae_lens_version": "6.0.0", "model_from_pretrained_kwargs": arguments})
    cfg = json.loads((sae_lens / "cfg.json").read_text())
    del cfg["metadata"]
    (sae_lens / "cfg.json").write_text(
        json.dumps(cfg)[:-1] + ', "metadata": ' + text.replace("Infinity", "1e999") + "}"
    )
    task = task_for(sae_lens)
    import_sae(task, RecordingContext(), SaeClasses())
    kept = json.loads((Path(task.sae_dir) / "metadata.json").read_text())["source"]["metadata"]
    assert kept.get("model_from_pretrained_kwargs") in (None, {}, {"dtype": "?"})


def test_a_width_that_is_not_known_is_told_of(sae_lens: Path, recording_context: RecordingContext) -> None:
    import_sae(task_for(sae_lens, n_inputs=None), recording_context, SaeClasses())
    assert any("width is not known" in event.message for event in logs(recording_context))


def logs(context: RecordingContext) -> list[Log]:
    return [event for event in context.events if isinstance(event, Log)]


# ------------------------------------------------------------------ mi_crow checkpoints


def checkpoint(name: str, directory: Path) -> Path:
    """Save an SAE of a class by its own save(); returns the file."""
    make(name).save("theirs", directory)
    return directory / "theirs.pt"


def changed(path: Path, change: Callable[[Any], Any]) -> Path:
    """Save what a checkpoint holds again, changed."""
    content = torch.load(path, weights_only=True)
    other = change(content)
    torch.save(content if other is None else other, path)
    return path


@pytest.mark.parametrize("name", CLASSES)
def test_a_checkpoint_of_each_class_is_taken_over_exactly(name: str, tmp_path: Path) -> None:
    task = task_for(checkpoint(name, tmp_path))
    result = import_sae(task, RecordingContext(), SaeClasses())
    k = K if name in ("TopKSae", "BiasedTopKSae", "BatchTopKSae") else None
    assert (result.sae_class, result.n_inputs, result.n_latents, result.k) == (name, N_INPUTS, N_LATENTS, k)
    theirs, ours = make(name), SaeClasses().get(name).load(Path(task.sae_dir) / "sae.pt")
    inputs = torch.randn(20, N_INPUTS, generator=torch.Generator().manual_seed(1)) + 2
    with torch.no_grad():
        assert torch.equal(ours.encode(inputs), theirs.encode(inputs))
        # mi_crow's dictionary is normalized again at each loading.
        torch.testing.assert_close(ours.forward(inputs), theirs.forward(inputs), rtol=1e-6, atol=1e-5)
    assert weights_of(ours).subtracts_bias == weights_of(theirs).subtracts_bias
    assert ours.context.lm_layer_signature in ("m_layers_0", None)


def test_no_unpickler_sees_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint("TopKSae", tmp_path)

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("it was unpickled")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, forbidden)
    assert import_sae(task_for(path), RecordingContext(), SaeClasses()).sae_class == "TopKSae"


class _Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def evil_zip(path: Path, trap: Path, protocol: int) -> Path:
    """Write a ZIP file such as torch.save's, whose pickle makes a directory."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("theirs/data.pkl", pickle.dumps(_Evil(trap), protocol=protocol))
        archive.writestr("theirs/version", "3")
        archive.writestr("theirs/byteorder", "little")
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_of_a_malicious_checkpoint_is_executed(protocol: int, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = evil_zip(tmp_path / "theirs.pt", trap, protocol)
    assert "holds more than tensors" in refusal(path)
    assert not trap.exists()
    pickle.loads(zipfile.ZipFile(path).read("theirs/data.pkl"))
    assert trap.exists(), "the trap would not have caught anything"


def test_nothing_of_a_malicious_checkpoint_beside_good_tensors_is_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = checkpoint("TopKSae", tmp_path)
    content = torch.load(path, weights_only=True) | {"epoch": _Evil(trap)}
    torch.save(content, path)
    assert "it refers to 'posix mkdir'" in refusal(path)
    assert not trap.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_is_refused_unread(protocol: int, tmp_path: Path) -> None:
    path, trap = tmp_path / "theirs.pt", tmp_path / "trap"
    path.write_bytes(pickle.dumps(_Evil(trap), protocol=protocol))
    assert "no checkpoint as PyTorch has written" in refusal(path)
    assert not trap.exists()


def test_a_script_of_torch_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("theirs/data.pkl", "theirs/constants.pkl"):
            archive.writestr(name, pickle.dumps({}, protocol=2))
    assert "no file of tensors" in refusal(path)


def test_what_torch_would_unpickle_but_no_sae_has_is_refused(tmp_path: Path) -> None:
    # torch allows bytearray, and with it a file of a few bytes that asks for a terabyte.
    path = tmp_path / "theirs.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "theirs/data.pkl", b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."
        )
    assert "it refers to 'builtins bytearray'" in refusal(path)


def test_a_packed_file_is_refused(tmp_path: Path) -> None:
    source, path = checkpoint("L1Sae", tmp_path), tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(source) as stored,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert "packed in a way" in refusal(path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_checkpoint_that_was_cut_off_is_refused(kept: float, tmp_path: Path) -> None:
    path = checkpoint("TopKSae", tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "no checkpoint as PyTorch has written" in refusal(path)


def test_a_checkpoint_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = checkpoint("TopKSae", tmp_path)
    content = bytearray(path.read_bytes())
    weights = make("TopKSae").sae_engine.state_dict()["dictionary._weights"].numpy().tobytes()
    content[content.index(weights[:64])] ^= 1
    path.write_bytes(bytes(content))
    assert "The checkpoint is damaged, in" in refusal(path)


def state_of(content: Any) -> Any:
    return content["sae_state_dict"]


def set_item(*keys: str, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


WEIGHT, META, STATE = "encoder.final_block.0.weight", "mi_crow_metadata", "sae_state_dict"
CHECKPOINT_REFUSALS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "wrong shape": ("TopKSae", set_item(STATE, WEIGHT, value=torch.zeros(SHAPE[::-1])), "shape [16, 64]"),
    "NaN": ("TopKSae", set_item(STATE, WEIGHT, value=torch.full(SHAPE, torch.nan)), "NaN or infinite"),
    "half precision": (
        "TopKSae",
        set_item(STATE, WEIGHT, value=torch.zeros(SHAPE, dtype=torch.float16)),
        "is float16, not float32",
    ),
    "a value repeated without memory": (
        "TopKSae",
        set_item(STATE, WEIGHT, value=torch.zeros(1).expand(SHAPE)),
        "do not lie in its file one after another",
    ),
    "no tensor": ("TopKSae", set_item(STATE, WEIGHT, value=1.0), "no plain tensor"),
    "no tensors": ("L1Sae", set_item(STATE, value="none"), "no dictionary of tensors"),
    "a list": ("L1Sae", set_item("epoch", value=[1]), "holds more than tensors and plain values"),
    "a tensor too many": ("L1Sae", set_item(STATE, "x", value=torch.zeros(1)), "are not those of L1Sae"),
    "an infinite dictionary": (
        "L1Sae",
        set_item(STATE, "dictionary.multiplier", value=torch.tensor(100.0)),
        "exponential is infinite",
    ),
    "another width": ("L1Sae", set_item(META, "n_inputs", value=17), "width 17; the layer's are 16 wide"),
    "sizes that the tensors lack": ("L1Sae", set_item(META, "n_latents", value=65), "its sizes say [65, 16]"),
    "too many neurons": (
        "L1Sae",
        set_item(META, "n_latents", value=1001),
        "1,001 neurons; this server takes 1,000",
    ),
    "a size that is none": (
        "L1Sae",
        set_item(META, "n_latents", value="64"),
        "n_latents must be a number from 1 to 16777216, not str",
    ),
    "k that is too large": (
        "TopKSae",
        set_item(META, "k", value=65),
        "k must be a number from 1 to 64, not 65",
    ),
    "k that is none": ("TopKSae", set_item(META, "k", value=None), "k must be a number from 1 to 64"),
    "no metadata": ("TopKSae", set_item(META, value=None), "no dictionary"),
    "edits of another size": (
        "TopKSae",
        set_item(META, "concepts_state", "bias", value=torch.zeros(3)),
        "The tensor bias has the shape [3]",
    ),
    "something else": ("TopKSae", lambda content: {"model": 1}, "no checkpoint of an SAE"),
    "no dictionary": ("TopKSae", lambda content: torch.zeros(3), "no checkpoint of an SAE"),
    "a class of nobody": ("ReLUSae", set_item("sae_class", value="EvilSae"), "of another class than"),
    "a bias flag that is none": ("ReLUSae", set_item("subtracts_bias", value=1), "neither true nor false"),
    "a class without its k": ("BatchTopKSae", set_item("k", value=None), "does not go with its class"),
    "a class with a k": ("ReLUSae", set_item("k", value=3), "does not go with its class"),
    "tensors of another class": ("ReLUSae", set_item("sae_class", value="JumpReLUSae"), "are not those of"),
    "infinite thresholds": (
        "JumpReLUSae",
        set_item("state_dict", "threshold", value=torch.full((64,), torch.inf)),
        "threshold has values",
    ),
}


@pytest.mark.parametrize("what", CHECKPOINT_REFUSALS)
def test_a_checkpoint_with_something_wrong_in_it_is_refused(what: str, tmp_path: Path) -> None:
    name, change, sentence = CHECKPOINT_REFUSALS[what]
    assert sentence in refusal(changed(checkpoint(name, tmp_path), change))


def test_the_trainers_own_file_is_refused_because_it_may_lack_a_k(tmp_path: Path) -> None:
    content = torch.load(checkpoint("TopKSae", tmp_path), weights_only=True)
    del content["mi_crow_metadata"]["k"]
    torch.save(content, tmp_path / "model.pt")
    assert "leaves out the k" in refusal((tmp_path / "model.pt").rename(tmp_path / "renamed.pt"))


def test_a_checkpoint_that_names_no_k_is_an_l1_saes_and_the_log_says_so(
    tmp_path: Path, recording_context: RecordingContext
) -> None:
    import_sae(task_for(checkpoint("L1Sae", tmp_path)), recording_context, SaeClasses())
    assert "names no k" in logs(recording_context)[0].message


def test_edits_in_a_checkpoint_are_left_out_and_the_log_says_so(
    tmp_path: Path, recording_context: RecordingContext
) -> None:
    sae = make("TopKSae")
    sae.concepts.bias.data.zero_()
    sae.concepts.multiplication.data[7] = 0
    sae.save("theirs", tmp_path)
    task = task_for(tmp_path / "theirs.pt")
    import_sae(task, recording_context, SaeClasses())
    assert "edits (multiplication, bias) of 1 of its" in logs(recording_context)[0].message
    kept = torch.load(Path(task.sae_dir) / "sae.pt", weights_only=True)["mi_crow_metadata"]["concepts_state"]
    assert bool((kept["multiplication"] == 1).all()) and bool((kept["bias"] == 0).all())


def test_mi_crows_bias_of_ones_is_none(tmp_path: Path, recording_context: RecordingContext) -> None:
    from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae

    TopKSae(n_latents=N_LATENTS, n_inputs=N_INPUTS).save("theirs", tmp_path)
    import_sae(task_for(tmp_path / "theirs.pt"), recording_context, SaeClasses())
    assert not any("edits" in event.message for event in logs(recording_context))


def test_a_file_that_was_made_for_another_server_opens_with_mi_crow_again(tmp_path: Path) -> None:
    from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae

    task = task_for(checkpoint("TopKSae", tmp_path))
    import_sae(task, RecordingContext(), SaeClasses())
    opened = TopKSae.load(Path(task.sae_dir) / "sae.pt")
    assert opened.context.lm_layer_signature == "m_layers_0" and opened.sae_engine.top_k == K


def test_a_stream_of_random_bytes_is_refused(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    good = checkpoint("TopKSae", tmp_path).read_bytes()
    for place in torch.randint(len(good), (40,), generator=generator).tolist():
        damaged = io.BytesIO(good)
        damaged.seek(place)
        damaged.write(b"\xa5\x5a\xff")
        path = tmp_path / "damaged.pt"
        path.write_bytes(damaged.getvalue())
        task = task_for(path)
        try:
            import_sae(task, RecordingContext(), SaeClasses())
        except TaskError:
            assert not Path(task.sae_dir).exists()
        else:  # Where nothing reads the bytes, such as in the padding between tensors.
            (Path(task.sae_dir) / "sae.pt").unlink()
            (Path(task.sae_dir) / "metadata.json").unlink()
