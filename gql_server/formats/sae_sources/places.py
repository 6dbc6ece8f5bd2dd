"""Places of a language model, by the names of TransformerLens' hooks and of Hugging Face's modules.

Which hook is which module: circuit_tracer/utils/tl_nnsight_mapping.py, and TransformerLens' blocks, whose
hook_attn_out and hook_mlp_out are behind the norm where a model has one there (Gemma 2 and 3).
"""

import re
from dataclasses import dataclass

_HOOK = re.compile(r"blocks\.(\d{1,6})\.(?:hook_)?([a-z0-9_.]{1,40})")
_MODULE = re.compile(
    r"(?:(?:model|transformer|gpt_neox|language_model|decoder)\.){0,3}(?:layers|h|blocks)\.(\d{1,6})"
    r"(?:\.([a-z0-9_.]{1,60}?))?(?:\.(output|input))?"
)
_EMBEDDING = re.compile(r"hook_embed|(?:[a-z_]+\.){0,3}(?:embed_tokens|wte|embed_in)(?:\.output)?")
_INPUTS = {
    "resid_mid": "between attention and MLP",
    "attn.hook_z": "the attention heads before they are mixed (hook_z), the input of the output projection",
    "mlp_in": "the input of the MLP",
    "mlp.hook_in": "the input of the MLP",
    "ln2.hook_normalized": "a norm's value before its gain",
}
_MODULES = {
    "self_attn": "ATTENTION",
    "attn": "ATTENTION",
    "attention": "ATTENTION",
    "mlp": "MLP",
}
NORMS_BEHIND = {"ATTENTION": "post_attention_layernorm", "MLP": "post_feedforward_layernorm"}
"""The norm that is behind a part of a block, in models that have post_feedforward_layernorm."""


@dataclass(frozen=True)
class Place:
    """Where activations are taken: the output of a module, unless ``inside`` says what else."""

    kind: str | None
    """LayerKind of the API."""
    depth: int | None
    norm: str | None = None
    """The module's name, of a norm."""
    is_behind_norm: bool = False
    """Whether it is what the norm behind the module puts out, in models that have one there."""
    inside: str | None = None
    """In words, what it is instead of a module's output."""


def place_of(name: str | None) -> Place | None:
    """Return the place that a name means; None where it is not known."""
    if not name:
        return None
    if _EMBEDDING.fullmatch(name):
        return Place("EMBEDDING", None)
    if found := _HOOK.fullmatch(name):
        return _hook(int(found[1]), found[2])
    if found := _MODULE.fullmatch(name):
        return _module(int(found[1]), found[2], found[3])
    return None


def _hook(block: int, hook: str) -> Place | None:
    if hook in _INPUTS:
        return Place(None, block, inside=_INPUTS[hook])
    return {
        "resid_post": Place("BLOCK", block),
        "resid_pre": Place("BLOCK", block - 1) if block else Place("EMBEDDING", None),
        "attn_out": Place("ATTENTION", block, is_behind_norm=True),
        "mlp_out": Place("MLP", block, is_behind_norm=True),
    }.get(hook)


def _module(block: int, module: str | None, side: str | None) -> Place | None:
    if side == "input":
        return Place(None, block, inside=f"the input of {module or 'a block'}")
    if module is None:
        return Place("BLOCK", block)
    if module in _MODULES:
        return Place(_MODULES[module], block)
    return Place("NORM", block, norm=module) if module.endswith("norm") else None


def is_elsewhere(place: Place, kind: str, depth: int | None, layer: str, norms_behind: bool | None) -> bool:
    """Whether a place is known to be another one than a layer.

    Args:
        place: Where somebody else's SAE was trained.
        kind: The layer's LayerKind.
        depth: The number of its block.
        layer: Its name, which ends with that of its module.
        norms_behind: Whether the model has norms behind attention and MLP; None where that is not known.
    """
    if place.kind == "EMBEDDING":
        return kind != "EMBEDDING"
    if (place.kind is None) or place.depth != depth:
        return True
    if place.is_behind_norm and norms_behind is not False:
        behind = kind == "NORM" and layer.endswith(f"_{NORMS_BEHIND[str(place.kind)]}")
        return not behind and (norms_behind is True or kind != place.kind)
    return kind != place.kind or (place.norm is not None and not layer.endswith(f"_{place.norm}"))
