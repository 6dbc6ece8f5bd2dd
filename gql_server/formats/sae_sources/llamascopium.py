"""llamascopium (Llama Scope 2): config.json with sae_type, and sae_weights.safetensors.

As llamascopium 2 computes it, with s = sqrt(d_model) / the average norm of activations (dataset-wise), in and
out: z = s_in x W_E + b_E; with ``sparsity_include_decoder_norm`` the activation function gets z times the
length of its row of W_D, and what comes out is divided by it; x_hat = (a W_D + b_D) / s_out. Nothing is
subtracted before. With ``token-wise`` norms s is sqrt(d_model) / each token's own norm.
"""

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
from gql_server.formats.sae_sources.llama_scope import CONFIG, NORM, WEIGHTS, check_glu, hooks, scales
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import SourceFiles, flag, positive, text, whole_number
from gql_server.formats.sae_sources.tensor_files import TensorFile

LOG_THRESHOLD = "activation_function.log_jumprelu_threshold"
_CLASSES = {"relu": "ReLUSae", "jumprelu": "JumpReLUSae", "topk": "BiasedTopKSae"}


def matches(files: SourceFiles) -> bool:
    """Whether there is a config.json with a type."""
    if CONFIG not in files.names or files.pick(*WEIGHTS) is None:
        return False
    return "sae_type" in files.json(CONFIG)


def describe(files: SourceFiles) -> SaeDescription:
    """Describe an SAE. NotRepresentable says why it cannot be taken over."""
    weights = files.pick(*WEIGHTS)
    assert weights is not None
    cfg, file = files.json(CONFIG), files.tensors(weights)
    activation = _checked(cfg)
    hook_in, hook_out = hooks(cfg)
    d_model = whole_number(CONFIG, cfg, "d_model")
    n_latents = int(d_model * positive(CONFIG, cfg, "expansion_factor"))
    sizes = Sizes(d_model, n_latents, "d_model and expansion_factor")
    by_token = cfg.get("norm_activation") == "token-wise"
    s_in, s_out = (1.0, 1.0) if by_token else scales(files, CONFIG, weights, hook_in, hook_out)
    plan = _plan(cfg, file, sizes, activation, s_in, s_out)
    return SaeDescription(
        format="LLAMASCOPIUM",
        architecture=activation,
        sae_class=_CLASSES[activation],
        n_inputs=d_model,
        n_latents=n_latents,
        k=whole_number(CONFIG, cfg, "top_k") if activation == "topk" else None,
        files=(CONFIG, weights),
        weights=plan,
        input_normalization="RMS_NORM" if by_token else "NONE",
        place=hook_in,
        is_transcoder=hook_in != hook_out,
        output_place=hook_out if hook_in != hook_out else None,
        computed_in=narrow_dtype(plan),
        notes=_notes(plan, s_in, s_out),
        metadata=metadata_of(
            activation, plan, place=hook_in, model_name=text(cfg, "model_name"), norm_in=s_in, norm_out=s_out
        ),
    )


def _checked(cfg: dict[str, Any]) -> str:
    """Return the activation function of an SAE that has one of those here."""
    if cfg["sae_type"] != "sae":
        raise NotRepresentable(f"sae_type is {shown(cfg['sae_type'])}: only an sae can be imported.")
    check_glu(CONFIG, cfg)
    activation = str(cfg.get("act_fn", "relu")).lower()
    if activation == "batchtopk":
        raise NotRepresentable(
            "The activation function is batchtopk, which depends on the other tokens of a batch and has no"
            " threshold: convert it to jumprelu with llamascopium, and import that."
        )
    if activation not in _CLASSES:
        raise NotRepresentable(
            f"The activation function {shown(activation)} has no counterpart here: {', '.join(_CLASSES)}"
            " can be imported."
        )
    return activation


def _plan(
    cfg: dict[str, Any], file: TensorFile, sizes: Sizes, activation: str, s_in: float, s_out: float
) -> WeightsPlan:
    has_bias = flag(CONFIG, cfg, "use_decoder_bias", default=True)
    includes_norm = flag(CONFIG, cfg, "sparsity_include_decoder_norm", default=True)
    wanted = {"W_E", "b_E", "W_D"} | ({"b_D"} if has_bias else set())
    wanted |= {LOG_THRESHOLD} if activation == "jumprelu" else set()
    file.check_names(wanted, {name for name in file.tensors if name.startswith(f"{NORM}.")}, activation)
    threshold = None
    if activation == "jumprelu":
        part = sizes.latents(file, LOG_THRESHOLD)
        threshold = Threshold(part, is_logarithm=True, is_of_unit_rows=includes_norm)
    return WeightsPlan(
        file=file.name,
        encoder_weight=scaled(sizes.matrix(file, "W_E", by_input=True), s_in),
        encoder_bias=sizes.latents(file, "b_E"),
        decoder_weight=scaled(sizes.matrix(file, "W_D"), 1 / s_out),
        decoder_bias=scaled(sizes.inputs(file, "b_D"), 1 / s_out) if has_bias else None,
        subtracts_bias=False,
        threshold=threshold,
        unit_rows=(
            UnitRows("sparsity_include_decoder_norm", "llamascopium", "float32")
            if includes_norm and activation == "topk"
            else None
        ),
    )


def _notes(plan: WeightsPlan, s_in: float, s_out: float) -> list[str]:
    notes = []
    if (s_in, s_out) != (1.0, 1.0):
        notes.append(
            f"The average norms of its activations went into its weights (dataset-wise: {s_in:.6g} in,"
            f" {s_out:.6g} out), so that raw activations go in and come out."
        )
    if plan.unit_rows is not None:
        notes.append(
            "The lengths of the decoder's rows went into the encoder (sparsity_include_decoder_norm), so that"
            " the largest latents are those that llamascopium selects: each is that of llamascopium times the"
            " length that its row has here before."
        )
    elif plan.threshold is not None and plan.threshold.is_of_unit_rows:
        notes.append(
            "Thresholds were divided by the lengths of the decoder's rows (sparsity_include_decoder_norm)."
        )
    return notes
