"""Llama Scope (He et al. 2024) and its R1-Distill: hyperparams.json or config.json beside the weights.

As Language-Model-SAEs computes it. With s = sqrt(d_model) / the average norm of activations, in and out:
b_enc / s_in, b_dec / s_out and W_dec s_in / s_out make an SAE of raw activations; with
``sparsity_include_decoder_norm`` the lengths of the decoder's rows go into the encoder; then
a = z H(z - threshold) for z = x W_enc + b_enc. The threshold is that of latents after both steps. SAELens
folds s_in into the encoder and the threshold instead: its latents are s_in times these.
"""

import math
from typing import Any

from gql_server.formats.sae_sources.description import (
    SaeDescription,
    Sizes,
    Threshold,
    UnitRows,
    WeightsPlan,
    metadata_of,
    narrow_dtype,
    scaled,
)
from gql_server.formats.sae_sources.gemma_scope_2 import check_places
from gql_server.formats.sae_sources.places import is_before_gain
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import SourceFiles, flag, positive, text, whole_number
from gql_server.formats.sae_sources.tensor_files import TensorFile

HYPERPARAMETERS, CONFIG = "hyperparams.json", "config.json"
WEIGHTS = ("sae_weights.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors")
"""In the order in which the library looks for them."""
NORM = "dataset_average_activation_norm"
LOG_THRESHOLD = "log_jumprelu_threshold"
_TENSORS = {"encoder.weight", "encoder.bias", "decoder.weight"}


def matches(files: SourceFiles) -> bool:
    """Whether there are hyperparams.json, or config.json and weights with the names of these."""
    weights = files.pick(*WEIGHTS)
    if HYPERPARAMETERS in files.names:
        return weights is not None
    return CONFIG in files.names and weights is not None and files.tensors(weights).tensors.keys() >= _TENSORS


def describe(files: SourceFiles) -> SaeDescription:
    """Describe an SAE. NotRepresentable says why it cannot be taken over."""
    config = HYPERPARAMETERS if HYPERPARAMETERS in files.names else CONFIG
    weights = files.pick(*WEIGHTS)
    assert weights is not None
    cfg, file = files.json(config), files.tensors(weights)
    check_glu(config, cfg)
    hook_in, hook_out = hooks(cfg)
    n_latents = file.size("encoder.bias")
    sizes = Sizes(whole_number(config, cfg, "d_model"), n_latents, "d_model and encoder.bias")
    activation, k, threshold = _activation(config, cfg, file, sizes)
    s_in, s_out = scales(files, config, weights, hook_in, hook_out)
    plan = _plan(config, cfg, file, sizes, s_in, s_out, threshold)
    return SaeDescription(
        format="LLAMA_SCOPE",
        architecture=activation,
        sae_class={"relu": "ReLUSae", "jumprelu": "JumpReLUSae", "topk": "BiasedTopKSae"}[activation],
        n_inputs=sizes.n_inputs,
        n_latents=n_latents,
        k=k,
        files=(config, weights),
        weights=plan,
        place=hook_in,
        is_transcoder=hook_in != hook_out,
        output_place=hook_out if hook_in != hook_out else None,
        computed_in=narrow_dtype(plan),
        notes=_notes(s_in, s_out, plan),
        metadata=metadata_of(
            activation, plan, place=hook_in, model_name=text(cfg, "model_name"), norm_in=s_in, norm_out=s_out
        ),
    )


def hooks(cfg: dict[str, Any]) -> tuple[str, str]:
    """Return the places that it reads and writes. NotRepresentable where they are no outputs."""
    place = text(cfg, "hook_point_in") or text(cfg, "hook_point") or ""
    output = text(cfg, "hook_point_out") or place
    # A transcoder's encoder can take the norm's gain in.
    check_places(output, *([] if place != output and is_before_gain(place) else [place]))
    return place, output


def check_glu(config: str, cfg: dict[str, Any]) -> None:
    """Raise NotRepresentable where the encoder has a gate."""
    if flag(config, cfg, "use_glu_encoder", default=False):
        raise NotRepresentable("Its encoder has a gate (use_glu_encoder), which no class here has.")


def scales(files: SourceFiles, config: str, weights: str, hook_in: str, hook_out: str) -> tuple[float, float]:
    """Return by what activations are multiplied, in and out. NotRepresentable where that is not known."""
    cfg = files.json(config)
    norm = cfg.get("norm_activation", "dataset-wise")
    if norm == "inference":  # In the weights already.
        return 1.0, 1.0
    if norm != "dataset-wise":
        raise NotRepresentable(
            f"norm_activation is {shown(norm)}: it divides by the norm of each token or batch, which cannot"
            " go into the weights."
        )
    root = math.sqrt(whole_number(config, cfg, "d_model"))
    return tuple(  # type: ignore[return-value]
        root / _norm(files, config, weights, keys) for keys in (("in", hook_in), ("out", hook_out))
    )


def _norm(files: SourceFiles, config: str, weights: str, keys: tuple[str, str]) -> float:
    said = files.json(config).get(NORM)
    if isinstance(said, dict):
        found = next((key for key in keys if key in said), keys[0])
        return positive(f"{config}: {NORM}", said, found)
    tensor = f"{NORM}.{keys[1]}"
    if tensor not in files.tensors(weights).tensors:
        raise NotRepresentable(
            f"norm_activation is dataset-wise, but neither {config} has {NORM}, nor {weights} {tensor}."
        )
    value = files.scalar(weights, tensor)
    if not 0 < value < math.inf:
        raise NotRepresentable(f"The tensor {tensor} must be a number above 0, not {value}.")
    return value


def _activation(
    config: str, cfg: dict[str, Any], file: TensorFile, sizes: Sizes
) -> tuple[str, int | None, Threshold | None]:
    activation = cfg.get("act_fn", "relu")
    if activation not in ("relu", "jumprelu", "topk"):
        raise NotRepresentable(
            f"The activation function {shown(activation)} has no counterpart here: relu, jumprelu and topk"
            " can be imported."
        )
    if LOG_THRESHOLD in file.tensors:
        return "jumprelu", None, Threshold(sizes.latents(file, LOG_THRESHOLD), is_logarithm=True)
    said = cfg.get("jump_relu_threshold")
    # The library runs a topk that has a threshold as jumprelu.
    if activation == "jumprelu" or (activation == "topk" and isinstance(said, int | float) and said > 0):
        return "jumprelu", None, Threshold(value=positive(config, cfg, "jump_relu_threshold"))
    return activation, whole_number(config, cfg, "top_k") if activation == "topk" else None, None


def _plan(
    config: str,
    cfg: dict[str, Any],
    file: TensorFile,
    sizes: Sizes,
    s_in: float,
    s_out: float,
    threshold: Threshold | None,
) -> WeightsPlan:
    has_bias = flag(config, cfg, "use_decoder_bias", default="decoder.bias" in file.tensors)
    wanted = _TENSORS | ({"decoder.bias"} if has_bias else set())
    others = {name for name in file.tensors if name == LOG_THRESHOLD or name.startswith(f"{NORM}.")}
    file.check_names(wanted, others, "Llama Scope")
    includes_norm = flag(config, cfg, "sparsity_include_decoder_norm", default=True)
    subtracts = flag(
        # The library's default has changed between the two layouts.
        config,
        cfg,
        "apply_decoder_bias_to_pre_encoder",
        default=config == HYPERPARAMETERS,
    )
    hook_in, hook_out = hooks(cfg)
    if subtracts and hook_in != hook_out:
        raise NotRepresentable(
            "It subtracts its decoder's bias (apply_decoder_bias_to_pre_encoder), which is of another place"
            " than its inputs."
        )
    return WeightsPlan(
        file=file.name,
        encoder_weight=sizes.matrix(file, "encoder.weight"),
        encoder_bias=scaled(sizes.latents(file, "encoder.bias"), 1 / s_in),
        decoder_weight=scaled(sizes.matrix(file, "decoder.weight", by_input=True), s_in / s_out),
        decoder_bias=scaled(sizes.inputs(file, "decoder.bias"), 1 / s_out) if has_bias else None,
        subtracts_bias=subtracts,
        threshold=threshold,
        unit_rows=(
            UnitRows("sparsity_include_decoder_norm", "Language-Model-SAEs", "float32")
            if includes_norm
            else None
        ),
    )


def _notes(s_in: float, s_out: float, plan: WeightsPlan) -> list[str]:
    notes = []
    if (s_in, s_out) != (1.0, 1.0):
        notes.append(
            "The average norms of its activations went into its biases and decoder (dataset-wise:"
            f" {s_in:.6g} in, {s_out:.6g} out), so that raw activations go in and come out."
        )
    if plan.unit_rows is not None:
        notes.append(plan.unit_rows.note)
    return notes
