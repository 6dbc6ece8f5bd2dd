"""The catalogue of public SAEs: what it says of each kind is what the readers of its files say."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gql_server.formats.public_saes.catalogue import PublicSae, catalogue
from gql_server.formats.sae_sources.places import Places
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.formats.sae_sources.registry import FORMATS
from tests.compute.formats.published import found, safetensors, torch_file, write_json
from tests.published.weights import tensors

WIDTH, LATENTS = 8, 24
ENCODER, DECODER = np.ones((WIDTH, LATENTS)), np.ones((LATENTS, WIDTH))
BIASES: dict[str, Any] = {"b_enc": np.zeros(LATENTS), "b_dec": np.zeros(WIDTH)}
FOUR: dict[str, Any] = {"W_enc": ENCODER, "W_dec": DECODER} | BIASES
THRESHOLD = np.ones(LATENTS)


def layers_of(sae: PublicSae) -> list[dict[str, Any]]:
    """Return the layers of its language model around the one that it is for."""
    found: list[dict[str, Any]] = [{"name": "m_model_embed_tokens", "kind": "EMBEDDING", "depth": None}]
    behind = ("pre_feedforward_layernorm", "post_feedforward_layernorm")
    has_norms_behind = any(family in sae.language_model for family in ("gemma-2-", "gemma-3-"))
    norms = ("input_layernorm", "post_attention_layernorm", *(behind if has_norms_behind else ()))
    for depth in range(max(0, (sae.depth or 0) - 1), (sae.depth or 0) + 1):
        kinds = {"": "BLOCK", "_self_attn": "ATTENTION", "_mlp": "MLP"}
        kinds |= {f"_{norm}": "NORM" for norm in norms}
        read = ("", "_self_attn_o_proj", f"_{norms[2 if has_norms_behind else 1]}")
        kinds |= {f"{module}.input": "INPUT" for module in read}
        for name, kind in kinds.items():
            found.append({"name": f"m_model_layers_{depth}{name}", "kind": kind, "depth": depth})
    return found


def linear(**more: Any) -> dict[str, Any]:
    weights: dict[str, Any] = {"encoder__weight": ENCODER.T, "decoder__weight": DECODER.T}
    return tensors(**weights, encoder__bias=THRESHOLD, **more)


def sae_lens(sae: PublicSae, path: Path) -> None:
    has_threshold = sae.architecture == "batchtopk"
    config = {
        "architecture": "jumprelu" if has_threshold else sae.architecture,
        "d_in": WIDTH,
        "d_sae": LATENTS,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": sae.normalization or "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": sae.reads},
    }
    write_json(path / "cfg.json", config | ({"k": 4} if sae.architecture == "topk" else {}))
    more: dict[str, Any] = {"threshold": THRESHOLD} if has_threshold else {}
    safetensors(path / "sae_weights.safetensors", tensors(**FOUR, **more))


def gemma_scope(sae: PublicSae, path: Path) -> None:
    path.mkdir(parents=True)
    arrays = {
        name: np.asarray(value, np.float32) for name, value in (FOUR | {"threshold": THRESHOLD}).items()
    }
    np.savez(path / "params.npz", **arrays)


def gemma_scope_2(sae: PublicSae, path: Path) -> None:
    modules = {"hook_resid_post": "output", "attn.hook_z": "self_attn.o_proj.input"}
    hook = sae.reads.split(".", 2)[2]
    behind = "post_feedforward_layernorm.output"
    before = "pre_feedforward_layernorm.output" if sae.writes else modules.get(hook, behind)
    block = f"model.layers.{sae.depth}"
    config: dict[str, Any] = {
        "hf_hook_point_in": f"{block}.{before}",
        "hf_hook_point_out": f"{block}.{behind if sae.writes else before}",
        "width": LATENTS,
        "model_name": sae.language_model,
        "architecture": "jump_relu",
        "l0": 10,
        "affine_connection": "skip" in sae.architecture,
        "type": "transcoder" if sae.writes else "sae",
    }
    write_json(path / "config.json", config)
    values = {name.lower(): value for name, value in FOUR.items()} | {"threshold": THRESHOLD}
    if config["affine_connection"]:
        values["affine_skip_connection"] = np.ones((WIDTH, WIDTH))
    safetensors(path / "params.safetensors", tensors(**values))


def dictionary_learning(sae: PublicSae, path: Path) -> None:
    classes = {"standard": "AutoEncoder", "topk": "AutoEncoderTopK", "batchtopk": "BatchTopKSAE"}
    dict_class = classes.get(sae.architecture, "GatedAutoEncoder")
    trainer = {"dict_class": dict_class, "activation_dim": WIDTH, "dict_size": LATENTS, "layer": sae.depth}
    states: dict[str, dict[str, Any]] = {
        "AutoEncoder": {"bias": np.zeros(WIDTH)},
        "GatedAutoEncoder": {"decoder_bias": np.zeros(WIDTH)}
        | dict.fromkeys(("r_mag", "gate_bias", "mag_bias"), THRESHOLD),
    }
    selecting: dict[str, Any] = {"b_dec": np.zeros(WIDTH), "k": np.array(4), "threshold": np.array(-1.0)}
    state = linear(**states.get(dict_class, selecting))
    if dict_class == "GatedAutoEncoder":
        del state["encoder.bias"]
    torch_file(path / "ae.pt", state)
    write_json(path / "config.json", {"trainer": trainer | {"k": 4}, "buffer": {"io": "out"}})


def qwen_scope(sae: PublicSae, path: Path) -> None:
    torch_file(path, tensors(W_enc=ENCODER.T, W_dec=DECODER.T, **BIASES))


def pair(encoder: str, decoder: str) -> Callable[[PublicSae, Path], None]:
    def write(sae: PublicSae, path: Path) -> None:
        weights: dict[str, Any] = {f"{encoder}__weight": ENCODER.T, f"{decoder}__weight": DECODER.T}
        biases: dict[str, Any] = {f"{encoder}__bias": THRESHOLD, f"{decoder}__bias": np.zeros(WIDTH)}
        torch_file(path, tensors(**weights, **biases))

    return write


def llama_scope(sae: PublicSae, path: Path) -> None:
    hyperparameters = {
        "hook_point_in": sae.reads,
        "hook_point_out": sae.reads,
        "d_model": WIDTH,
        "d_sae": LATENTS,
        "expansion_factor": LATENTS // WIDTH,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.5,
        "top_k": 4,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 3.0, "out": 3.0},
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "sparsity_include_decoder_norm": True,
        "use_glu_encoder": False,
    }
    bias = {"decoder__bias": np.zeros(WIDTH)}
    if sae.release == "llama_scope_r1_distill":
        write_json(path / "config.json", hyperparameters)
        more = {"log_jumprelu_threshold": THRESHOLD}
        safetensors(path / "sae_weights.safetensors", linear(**bias, **more))
    else:
        write_json(path / "hyperparams.json", hyperparameters)
        safetensors(path / "checkpoints/final.safetensors", linear(**bias))


def circuit_tracer(sae: PublicSae, path: Path) -> None:
    if sae.architecture == "transcoder":
        safetensors(path, tensors(**FOUR | {"W_enc": ENCODER.T}))
    else:
        encoder: dict[str, Any] = {"W_enc_0": ENCODER.T, "b_enc_0": THRESHOLD, "b_dec_0": np.zeros(WIDTH)}
        safetensors(path / "W_enc_0.safetensors", tensors(**encoder))
        decoder: dict[str, Any] = {"W_dec_0": np.ones((LATENTS, 2, WIDTH))}
        safetensors(path / "W_dec_0.safetensors", tensors(**decoder))


WRITERS: dict[str, Callable[[PublicSae, Path], None]] = {
    "SAE_LENS": sae_lens,
    "GEMMA_SCOPE": gemma_scope,
    "GEMMA_SCOPE_2": gemma_scope_2,
    "DICTIONARY_LEARNING": dictionary_learning,
    "QWEN_SCOPE": qwen_scope,
    "GOODFIRE": pair("encoder_linear", "decoder_linear"),
    "QRESEARCH": pair("encoder", "decoder"),
    "LLAMA_SCOPE": llama_scope,
    "CIRCUIT_TRACER": circuit_tracer,
}


def kind_of(sae: PublicSae) -> tuple[str, ...]:
    """Return what decides whether an SAE is taken."""
    hooks = (hook.split(".", 2)[-1] for hook in (sae.reads, sae.writes or ""))
    packed = sae.release if sae.release == "llama_scope_r1_distill" else ""
    return (sae.format, sae.architecture, sae.normalization or "", *hooks, packed)


UNSAID = "constant_norm_rescale"
"""What the catalogue knows, and no file says: no reader could refuse that."""
KINDS = {kind_of(sae): sae for sae in catalogue() if sae.format in FORMATS and sae.normalization != UNSAID}


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_a_kind_is_taken_if_its_files_are(kind: tuple[str, ...], tmp_path: Path) -> None:
    sae = KINDS[kind]
    path = tmp_path / sae.repository / sae.path
    WRITERS[sae.format](sae, path)
    if sae.refusal is not None:
        with pytest.raises(NotRepresentable):
            found(path)
        return
    described = found(path)
    assert described.format == sae.format
    places = Places(layers_of(sae))
    gain = described.reads_before_gain
    read, written = places.layer_of(sae.reads, takes_gain=gain), places.layer_of(sae.writes)
    assert read is not None and described.is_transcoder is (written is not None)
    assert described.place is None or places.layer_of(described.place, takes_gain=gain) == read
    assert described.output_place is None or places.layer_of(described.output_place) == written


def test_what_no_file_says_is_refused_by_the_catalogue() -> None:
    unsaid = [sae for sae in catalogue() if sae.normalization == UNSAID]
    assert len(unsaid) == 3 and all("do not say" in str(sae.refusal) for sae in unsaid)


def test_the_whole_catalogue_is_there() -> None:
    saes = catalogue()
    assert len(saes) == 13_857 and len({sae.release for sae in saes}) == 170
    assert [sae.number for sae in saes] == list(range(len(saes)))
    formats = Counter(sae.format for sae in saes)
    assert (
        formats["GEMMA_SCOPE_2"] == 8_784 and formats["GEMMA_SCOPE"] == 2_859 and formats["SAE_LENS"] == 292
    )
    assert len({(sae.release, sae.id) for sae in saes}) == len(saes)
    assert all("/" in sae.language_model for sae in saes)


def test_names_tell_sizes_and_places() -> None:
    found = {(sae.release, sae.id): sae for sae in catalogue()}
    gemma = found["gemma-scope-2-1b-it-mlp", "layer_7_width_1m_l0_small"]
    assert (gemma.width, gemma.depth, gemma.l0) == (2**20, 7, 18)
    assert gemma.reads == "blocks.7.hook_mlp_out"
    bench = found["sae_bench_gemma-2-2b_topk_width-2pow14_date-1109", "blocks.5.hook_resid_post__trainer_5"]
    assert (bench.width, bench.architecture, bench.reads) == (2**14, "topk", "blocks.5.hook_resid_post")
    qwen = found["qwen-scope-3.5-27b-w80k-l50", "layer63"]
    assert (qwen.width, qwen.depth, qwen.path) == (80 * 1024, 63, "layer63.sae.pt")
    scaled = found["gpt2-small-mlp-tm", "blocks.0.hook_mlp_out"]
    assert scaled.input_scale == pytest.approx(1.049317316132615)
    tuned = found["gemma-scope-9b-it-res", "layer_9/width_16k/average_l0_88"]
    assert tuned.language_model == "google/gemma-2-9b-it"
