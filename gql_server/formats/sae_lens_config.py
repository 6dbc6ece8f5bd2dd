"""SAELens' cfg.json: what it says of an SAE, and why an SAE cannot stand here exactly as it is there.

The rules are those of sae-lens 6 (``SAE.load_from_disk``): a file that names no ``sae_lens_version``, or one
before 6, is read as that reads it (``handle_pre_6_0_config``). docs/import-export.md lists them for people.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from gql_server.formats.input_normalizations import IN_SAE_LENS, InputNormalization
from gql_server.formats.sae_classes import IMPORTED_AS
from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.source_files import flag, whole_number

CFG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
DTYPES = ("float16", "bfloat16", "float32", "float64")
KEPT_METADATA = (
    "model_name",
    "hook_name",
    "hook_name_out",
    "hf_hook_name",
    "dataset_path",
    "context_size",
    "prepend_bos",
    "model_class_name",
    "neuronpedia_id",
    "sae_lens_version",
    "sae_lens_training_version",
)
"""What is kept of a file's metadata, where it is a plain value."""
SCALED = "expected_average_only_in"
"""normalize_activations where inputs are multiplied by one factor, which cfg.json leaves out."""
TEXT_METADATA = ("prepend_bos", "context_size")
"""What is kept of how the training's texts were run through the model; sae-lens reads such texts again."""
MODEL_ARGUMENTS = "model_from_pretrained_kwargs"
"""In the metadata: what sae-lens loads the language model with."""
_PROCESSING = (
    "fold_ln",
    "center_writing_weights",
    "center_unembed",
    "fold_value_biases",
    "refactor_factored_attn_matrices",
)
"""Arguments with which TransformerLens changes a model's weights."""
_MAX_KEPT_CHARACTERS = 300
_OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
TRANSCODERS = {
    "transcoder": ("standard", False),
    "skip_transcoder": ("standard", True),
    "jumprelu_transcoder": ("jumprelu", False),
    "jumprelu_skip_transcoder": ("jumprelu", True),
}
"""What SAELens calls transcoders: which SAE's latents they have, and whether there is a skip connection."""
_TRANSCODER_KEYS = ("d_out", "hook_name_out", "hook_layer_out", "hook_head_index_out", "hf_hook_name_out")
_VERSION = re.compile(r"(\d{1,6})(\.|$)")


@dataclass(frozen=True)
class SaeLensConfig:
    """What a cfg.json says, checked."""

    architecture: str
    """A key of IMPORTED_AS or of TRANSCODERS."""
    n_inputs: int
    n_latents: int
    k: int | None
    """For topk alone."""
    dtype: str
    """One of DTYPES: what sae-lens computes in."""
    subtracts_bias: bool
    """apply_b_dec_to_input."""
    input_normalization: InputNormalization
    """normalize_activations."""
    rescales: bool
    """rescale_acts_by_decoder_norm; of topk alone."""
    scaled_by: str | None
    """The option, where inputs are multiplied by a factor that is not told."""
    says_unprocessed: bool
    """Whether it says that the language model's weights were left as they are."""
    metadata: dict[str, Any]
    """The plain values among KEPT_METADATA, and MODEL_ARGUMENTS."""
    n_outputs: int | None = None
    """d_out; of transcoders alone."""

    @property
    def latents(self) -> str:
        """The architecture, a key of IMPORTED_AS, whose latents it has."""
        return TRANSCODERS.get(self.architecture, (self.architecture, False))[0]

    @property
    def has_skip(self) -> bool:
        """Whether it is a transcoder with a skip connection."""
        return TRANSCODERS.get(self.architecture, ("", False))[1]

    @property
    def prepends_bos(self) -> bool | None:
        """Whether its texts began with a BOS; None where that is not said."""
        said = self.metadata.get("prepend_bos")
        return None if said is None else bool(said)

    @property
    def says_centered(self) -> bool:
        """Whether it says that what the language model writes was centered."""
        arguments = self.metadata.get(MODEL_ARGUMENTS)
        return (
            not self.says_unprocessed
            and isinstance(arguments, dict)
            and arguments.get("center_writing_weights") is True
        )

    @property
    def notes_on_processing(self) -> list[str]:
        """What there is to say of the language model that it was trained on."""
        if self.says_unprocessed:
            return []
        arguments = self.metadata.get(MODEL_ARGUMENTS)
        said = "none" if arguments is None else json.dumps(arguments)
        return [
            "Its cfg.json does not say that it was trained on a model with unprocessed weights"
            f" ({MODEL_ARGUMENTS}: {said}): its inputs may not be what this server's model gives."
        ]


def read(cfg: dict[str, Any]) -> SaeLensConfig:
    """Return what a cfg.json says. NotRepresentable says what is wrong with it."""
    old = _is_old(cfg)
    if old:
        cfg = _modernized(cfg)
    metadata = cfg.get("metadata", {})
    if not isinstance(metadata, dict):
        raise NotRepresentable(f"{CFG_FILE}: metadata must be an object.")
    architecture = _architecture(cfg, metadata)
    _check_computation(cfg, metadata)
    n_latents = whole_number(CFG_FILE, cfg, "d_sae")
    is_transcoder = architecture in TRANSCODERS
    config = SaeLensConfig(
        architecture=architecture,
        n_inputs=whole_number(CFG_FILE, cfg, "d_in"),
        n_latents=n_latents,
        k=whole_number(CFG_FILE, cfg, "k") if architecture == "topk" else None,
        dtype=_dtype(cfg),
        subtracts_bias=flag(CFG_FILE, cfg, "apply_b_dec_to_input", default=not is_transcoder),
        input_normalization=_normalization(cfg),
        rescales=architecture == "topk"
        and flag(CFG_FILE, cfg, "rescale_acts_by_decoder_norm", default=False),
        scaled_by=(
            f"normalize_activations is {shown(SCALED)}"
            if cfg.get("normalize_activations") == SCALED
            else None
        ),
        says_unprocessed=_says_unprocessed(metadata, old=old),
        metadata=_kept(metadata),
        n_outputs=whole_number(CFG_FILE, cfg, "d_out") if is_transcoder else None,
    )
    if is_transcoder and config.subtracts_bias:
        raise NotRepresentable(f"{CFG_FILE}: apply_b_dec_to_input is true, which SAELens' transcoders lack.")
    if config.k is not None and config.k > n_latents:
        raise NotRepresentable(f"{CFG_FILE}: k is {config.k}, more than the {n_latents} of d_sae.")
    return config


def _is_old(cfg: dict[str, Any]) -> bool:
    metadata = cfg.get("metadata")
    version = cfg.get("sae_lens_version")
    if not version and isinstance(metadata, dict):
        version = metadata.get("sae_lens_version")
    if not version:
        return True
    found = _VERSION.match(str(version))
    if found is None:
        raise NotRepresentable(f"{CFG_FILE}: sae_lens_version is no version: {shown(version)}.")
    return int(found[1]) < 6


def _modernized(old: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration of before version 6 as one of version 6."""
    cfg = {_OLD_NAMES.get(name, name): value for name, value in old.items()}
    cfg.setdefault("architecture", "standard")
    hook_name = cfg.get("hook_name")
    is_z = isinstance(hook_name, str) and "hook_z" in hook_name
    cfg.setdefault("reshape_activations", "hook_z" if is_z else "none")
    arguments = cfg.get("activation_fn_kwargs")
    k = arguments.get("k") if isinstance(arguments, dict) else None
    if cfg.get("activation_fn") == "topk" and k is not None:
        cfg |= {"architecture": "topk", "k": k}
    normalize = cfg.get("normalize_activations")
    if isinstance(normalize, bool):
        cfg["normalize_activations"] = "expected_average_only_in" if normalize else "none"
    return cfg | {
        "metadata": {
            name: cfg[name] for name in (*KEPT_METADATA, MODEL_ARGUMENTS, "hook_head_index") if name in cfg
        }
    }


def _architecture(cfg: dict[str, Any], metadata: dict[str, Any]) -> str:
    architecture = cfg.get("architecture")
    if isinstance(architecture, str) and architecture in TRANSCODERS:
        return architecture
    if any(source.get(name) is not None for source in (cfg, metadata) for name in _TRANSCODER_KEYS):
        raise NotRepresentable(
            f"It writes another place than it reads, but the architecture is {shown(architecture)}: of"
            f" transcoders {', '.join(TRANSCODERS)} can be imported."
        )
    if not isinstance(architecture, str) or architecture not in IMPORTED_AS:
        known = ", ".join([*IMPORTED_AS, *TRANSCODERS])
        raise NotRepresentable(
            f"The architecture {shown(architecture)} has no counterpart here: {known} can be imported."
        )
    return architecture


def _check_computation(cfg: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Refuse what sae-lens computes beside the architecture itself."""
    reshape = cfg.get("reshape_activations")
    hook = str(metadata.get("hook_name"))
    if reshape not in (None, "none") and not (reshape == "hook_z" and hook.endswith(".hook_z")):
        raise NotRepresentable(
            f"reshape_activations is {shown(reshape)} at hook_name {shown(hook)}: of attention heads, those"
            " can be imported that are taken before they are mixed (hook_z)."
        )
    heads = ("hook_head_index", "hook_head_index_out")
    if any(source.get(name) is not None for source in (cfg, metadata) for name in heads):
        raise NotRepresentable(
            "It is for one attention head (hook_head_index), which no layer here puts out."
        )
    fitting = (None, "", "relu", *(("topk",) if cfg["architecture"] == "topk" else ()))
    if cfg.get("activation_fn") not in fitting:
        raise NotRepresentable(
            f"The activation function {shown(cfg['activation_fn'])} does not go with the architecture"
            f" {cfg['architecture']} here."
        )
    for name, what in (("finetuning_scaling_factor", "scaling factors"), ("use_error_term", "an error term")):
        if cfg.get(name):
            raise NotRepresentable(f"It has {what} ({name}), which have no place in an SAE here.")


def _normalization(cfg: dict[str, Any]) -> InputNormalization:
    said = cfg.get("normalize_activations")
    said = "none" if said in (None, SCALED) else said
    found = next((name for name, theirs in IN_SAE_LENS.items() if theirs == said), None)
    if found is None:
        raise NotRepresentable(
            f"normalize_activations is {shown(said)}: fold the normalization into the weights with SAELens,"
            " so that it is none, and import that."
        )
    return found


def _dtype(cfg: dict[str, Any]) -> str:
    dtype = str(cfg.get("dtype", "float32")).removeprefix("torch.")
    if dtype not in DTYPES:
        raise NotRepresentable(f"{CFG_FILE}: dtype is {shown(dtype)}; it can be {', '.join(DTYPES)}.")
    return dtype


def _says_unprocessed(metadata: dict[str, Any], *, old: bool) -> bool:
    """Say so of a file's metadata.

    sae-lens 6 loads models with TransformerLens' from_pretrained_no_processing, older versions with its
    from_pretrained, which centers what is written into the residual stream where nothing else is said.
    """
    if metadata.get("model_class_name") == "AutoModelForCausalLM":
        return True
    arguments = metadata.get(MODEL_ARGUMENTS)
    if not isinstance(arguments, dict) or any(arguments.get(name) for name in _PROCESSING):
        return False
    return not old or arguments.get("center_writing_weights") is False


def _kept(metadata: dict[str, Any]) -> dict[str, Any]:
    kept = {name: _plain(metadata[name]) for name in KEPT_METADATA if _is_plain(metadata.get(name))}
    arguments = metadata.get(MODEL_ARGUMENTS)
    if isinstance(arguments, dict) and len(str(arguments)) <= _MAX_KEPT_CHARACTERS:
        plain = {_plain(name): _plain(value) for name, value in arguments.items() if _is_plain(value)}
        kept[MODEL_ARGUMENTS] = plain
    return kept


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int) and len(str(value)) <= _MAX_KEPT_CHARACTERS


def _plain(value: Any) -> Any:
    # JSON can spell half a character, which no file or database takes.
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
