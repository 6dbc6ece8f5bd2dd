"""Factors and means of an SAE's inputs, folded into its weights: against NumPy and transformers."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources.input_processing import centers
from gql_server.protocol.events import Log
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
    write_json,
)
from tests.published.weights import N_INPUTS, N_LATENTS, Array, Weights, inputs, tensors, weights
from tests.saelens.cases import make

K = 6
HOOK = "blocks.0.hook_resid_post"
CENTERED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


def sae_lens(directory: Path, w: Weights, architecture: str, **changes: Any) -> Path:
    """Write an SAE as SAELens does, with other entries of cfg.json and of its metadata."""
    metadata = {"sae_lens_version": "6.54.12", "hook_name": HOOK, **changes.pop("metadata", {})}
    cfg = {"architecture": architecture, "d_in": N_INPUTS, "d_sae": N_LATENTS, "dtype": "float32"}
    cfg |= {"k": K} if architecture == "topk" else {}
    write_json(directory / "cfg.json", cfg | {"metadata": metadata} | changes)
    arrays: dict[str, Any] = {
        "W_enc": w.encoder.T,
        "b_enc": w.encoder_bias,
        "W_dec": w.decoder,
        "b_dec": w.decoder_bias,
    }
    arrays |= {"threshold": w.threshold} if architecture == "jumprelu" else {}
    safetensors(directory / "sae_weights.safetensors", tensors(**arrays))
    return directory


def latents_of(architecture: str, rows: Array, w: Weights) -> Array:
    """Return what the architecture gives for inputs that were processed already, b_dec subtracted."""
    pre = pre_activations(rows, w, subtracts=True)
    if architecture == "topk":
        return largest(pre, K)
    return above(pre, w.threshold if architecture == "jumprelu" else 0.0)


def told(one: Imported) -> list[str]:
    return [event.message for event in one.context.events if isinstance(event, Log)]


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
@pytest.mark.parametrize("scale", [4.0, 0.125])
def test_a_factor_of_the_inputs_goes_into_the_weights(
    architecture: str, scale: float, tmp_path: Path
) -> None:
    w = weights(subtracted=True)
    path = sae_lens(tmp_path / "sae", w, architecture, normalize_activations="expected_average_only_in")
    one = imported(path, input_scale=scale)
    rows = inputs()
    latents = latents_of(architecture, scale * rows, w)
    assert_computes(one.sae, rows, latents, (latents @ w.decoder + w.decoder_bias) / scale)
    assert one.result.provenance is not None and one.result.provenance.input_scale == scale
    assert any(f"The factor {scale:g} of its inputs" in line and "nothing" not in line for line in told(one))


def test_a_factor_goes_with_lengths_of_rows_as_sae_lens_folds_both(tmp_path: Path) -> None:
    w, scale = weights(subtracted=True), 4.0
    options = {"normalize_activations": "expected_average_only_in", "rescale_acts_by_decoder_norm": True}
    one = imported(sae_lens(tmp_path / "sae", w, "topk", **options), input_scale=scale)
    # sae-lens folds first: W_enc s, W_dec / s, b_dec / s. Then rows have lengths of their own.
    theirs = replace(
        w, encoder=scale * w.encoder, decoder=w.decoder / scale, decoder_bias=w.decoder_bias / scale
    )
    lengths = np.linalg.norm(theirs.decoder, axis=1)
    rows = inputs()
    latents = largest(pre_activations(rows, theirs, subtracts=True) * lengths, K)
    assert_computes(one.sae, rows, latents, (latents / lengths) @ theirs.decoder + theirs.decoder_bias)


def test_a_factor_that_no_file_asks_for_is_folded_and_told_of(tmp_path: Path) -> None:
    w = weights(subtracted=True)
    one = imported(sae_lens(tmp_path / "sae", w, "standard"), input_scale=2.0)
    latents = latents_of("standard", 2 * inputs(), w)
    assert_computes(one.sae, inputs(), latents, (latents @ w.decoder + w.decoder_bias) / 2)
    assert any("Its source says nothing of such a factor." in line for line in told(one))


@pytest.mark.parametrize("old", [False, True])
def test_without_its_factor_an_sae_is_refused_by_a_sentence_that_names_the_argument(
    old: bool, tmp_path: Path
) -> None:
    option: dict[str, Any] = {"normalize_activations": "expected_average_only_in"}
    if old:  # As sae-lens 2 had it.
        option = {"normalize_activations": True, "metadata": {"sae_lens_version": "2.0.0"}}
    path = sae_lens(tmp_path / "sae", weights(), "standard", **option)
    with pytest.raises(TaskError, match=r"expected_average_only_in': .* Give it as inputScale"):
        imported(path)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("change", [{"input_scale": 2.0}, {"center_inputs": True}])
def test_a_checkpoint_of_a_class_here_has_neither(change: dict[str, Any], tmp_path: Path) -> None:
    path = SaeClasses().get("ReLUSae").save(make("ReLUSae"), tmp_path)
    with pytest.raises(TaskError, match="takes its inputs as they are"):
        import_sae(task_for(path, **change), RecordingContext(), SaeClasses())


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_a_mean_of_the_inputs_goes_into_the_encoder(
    architecture: str, subtracts: bool, tmp_path: Path
) -> None:
    w, rows = weights(subtracted=subtracts), inputs()
    path = sae_lens(tmp_path / "sae", w, architecture, apply_b_dec_to_input=subtracts, metadata=CENTERED)
    one = imported(path, has_layer_norms=True, input_scale=2.0)
    assert abs(w.decoder_bias.mean()) > 0.1
    centered = 2 * (rows - rows.mean(axis=1, keepdims=True))
    pre = pre_activations(centered, w, subtracts=subtracts)
    threshold = w.threshold if architecture == "jumprelu" else 0.0
    latents = largest(pre, K) if architecture == "topk" else above(pre, threshold)
    assert_computes(one.sae, rows, latents, (latents @ w.decoder + w.decoder_bias) / 2)
    assert one.result.provenance is not None and one.result.provenance.inputs_centered
    assert any("takes each token's mean out" in line for line in told(one))
    assert not any("unprocessed weights" in line for line in told(one))


@pytest.mark.parametrize(
    ("says", "place", "kind", "layer_norms", "asked", "expected"),
    [
        (True, HOOK, "BLOCK", True, None, True),
        (True, "blocks.0.hook_mlp_out", "MLP", True, None, True),
        (True, "blocks.0.hook_attn_out", "ATTENTION", True, None, True),
        (False, HOOK, "BLOCK", True, None, False),
        (True, HOOK, "BLOCK", None, None, False),
        (True, "blocks.0.attn.hook_z", "ATTENTION", True, None, False),
        (True, None, "BLOCK", True, None, False),
        (True, HOOK, "NORM", True, None, False),
        (True, HOOK, "BLOCK", True, False, False),
        (False, None, "NORM", None, True, True),
    ],
)
def test_inputs_are_centered_where_that_is_exact_or_asked_for(
    says: bool,
    place: str | None,
    kind: str,
    layer_norms: bool | None,
    asked: bool | None,
    expected: bool,
    tmp_path: Path,
) -> None:
    described = found(sae_lens(tmp_path / "sae", weights(), "standard", metadata=CENTERED if says else {}))
    assert described.says_centered is says
    assert centers(replace(described, place=place), asked, kind, layer_norms) is expected


def test_an_sae_whose_mean_is_left_in_is_told_of_as_before(tmp_path: Path) -> None:
    path = sae_lens(tmp_path / "sae", weights(subtracted=True), "standard", metadata=CENTERED)
    one = imported(path, has_layer_norms=None)
    latents = latents_of("standard", inputs(), weights(subtracted=True))
    w = weights(subtracted=True)
    assert_computes(one.sae, inputs(), latents, latents @ w.decoder + w.decoder_bias)
    assert any("unprocessed weights" in line for line in told(one))
    assert one.result.provenance is not None and not one.result.provenance.inputs_centered


@pytest.mark.parametrize(
    ("hook", "module"), [("resid_post", "h.1"), ("attn_out", "h.1.attn"), ("mlp_out", "h.1.mlp")]
)
def test_it_computes_on_the_model_as_it_is_what_it_did_on_the_processed_one(
    hook: str, module: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "n_embd": N_INPUTS,
        "n_layer": 2,
        "n_head": 2,
        "vocab_size": 50,
        "n_positions": 32,
    }
    model = GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.3)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    processed = copy.deepcopy(model)
    processed.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        # TransformerLens' center_writing_weights: all that is added to the residual stream.
        body = processed.transformer
        written = [body.wte.weight, body.wpe.weight]
        for block in body.h:
            written += [part.weight for part in (block.attn.c_proj, block.mlp.c_proj)]
            written += [part.bias for part in (block.attn.c_proj, block.mlp.c_proj)]
        for parameter in written:
            parameter -= parameter.mean(dim=-1, keepdim=True)
    rows, theirs = (activations(one, module) for one in (model, processed))
    assert np.abs(rows - theirs).max() > 0.1
    w = weights(subtracted=True)
    path = sae_lens(
        tmp_path / "sae", w, "jumprelu", metadata=CENTERED | {"hook_name": f"blocks.1.hook_{hook}"}
    )
    kind = {"resid_post": "BLOCK", "attn_out": "ATTENTION", "mlp_out": "MLP"}[hook]
    one = imported(path, has_layer_norms=True, kind=kind, depth=1)
    latents = latents_of("jumprelu", theirs, w)
    assert_computes(one.sae, rows, latents, latents @ w.decoder + w.decoder_bias)


def activations(model: GPT2LMHeadModel, module: str) -> Array:
    """Return what a module puts out on some tokens [n_tokens, n_inputs]."""
    seen: list[Any] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    handle = model.transformer.get_submodule(module).register_forward_hook(keep)
    with torch.no_grad():
        model(torch.arange(30)[None])
    handle.remove()
    found: Array = seen[0].reshape(-1, N_INPUTS).double().numpy()
    return found
