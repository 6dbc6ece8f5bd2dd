"""Places of a language model, by the names of TransformerLens' hooks and of Hugging Face's modules.

Which hook is which module: circuit_tracer/utils/tl_nnsight_mapping.py, and TransformerLens' blocks, whose
hook_attn_out and hook_mlp_out are behind the norm where a model has one there (Gemma 2 and 3). What a module
reads is a layer whose name ends with ``.input``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_HOOK = re.compile(r"blocks\.(\d{1,6})\.(?:hook_)?([a-z0-9_.]{1,40})")
_MODULE = re.compile(
    r"(?:(?:model|transformer|gpt_neox|language_model|decoder)\.){0,3}(?:layers|h|blocks)\.(\d{1,6})"
    r"(?:\.((?!(?:output|input)$)[a-z0-9_.]{1,60}?))?(?:\.(output|input))?"
)
_EMBEDDING = re.compile(r"hook_embed|(?:[a-z_]+\.){0,3}(?:embed_tokens|wte|embed_in)(?:\.output)?")
_EMBEDDING_LAYER = re.compile(r".*_(?:embed_tokens|wte|embed_in|word_embeddings)")
_MODULES = {
    "self_attn": "ATTENTION",
    "attn": "ATTENTION",
    "attention": "ATTENTION",
    "mlp": "MLP",
}
NORMS_BEHIND = {"ATTENTION": "post_attention_layernorm", "MLP": "post_feedforward_layernorm"}
"""The norm that is behind a part of a block, in models that have post_feedforward_layernorm."""
_SUFFIX = ".input"
_HOOKS = ("resid_post", "resid_mid", "attn_out", "mlp_out")
_HOOKS_INSIDE = ("attn.hook_z", "mlp.hook_post")

NORMS_BEFORE_MLP = ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2", "ffn_norm")
"""What the norm before an MLP is called; where there are norms behind as well, the first alone."""


@dataclass(frozen=True)
class Place:
    """Where activations are taken: the output or the input of a module, unless ``inside`` says what else."""

    kind: str | None
    """LayerKind of the API."""
    depth: int | None
    norm: str | None = None
    """The module's name, of a norm."""
    module: str | None = None
    """The module's name in its block, its parts joined by underscores, where the name has one."""
    reads: str | None = None
    """Of what a module reads: the LayerKind of that module, or of what it is the last part of."""
    is_behind_norm: bool = False
    """Whether it is what the norm behind the module puts out, in models that have one there."""
    is_before_mlp: bool = False
    """Whether it is what the norm before the MLP puts out, whatever that is called: the MLP's input."""
    inside: str | None = None
    """In words, what it is instead of what a module reads or puts out."""


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


def is_before_gain(name: str | None) -> bool:
    """Whether a name is that of the value that the norm before an MLP has before its gain."""
    return name is not None and name.startswith("blocks.") and name.endswith(".ln2.hook_normalized")


def _hook(block: int, hook: str) -> Place | None:
    return {
        "resid_pre": Place("BLOCK", block - 1) if block else Place("INPUT", 0, reads="BLOCK"),
        "resid_mid": Place("INPUT", block, reads="NORM"),
        "resid_post": Place("BLOCK", block),
        "attn_out": Place("ATTENTION", block, is_behind_norm=True),
        "mlp_out": Place("MLP", block, is_behind_norm=True),
        "attn.hook_z": Place("INPUT", block, reads="ATTENTION"),
        "mlp_in": Place("NORM", block, is_before_mlp=True),
        "mlp.hook_in": Place("NORM", block, is_before_mlp=True),
        "mlp.hook_post": Place("INPUT", block, reads="MLP"),
        "ln1.hook_normalized": Place(None, block, inside="a norm's value before its gain"),
        "ln2.hook_normalized": Place(
            "NORM", block, is_before_mlp=True, inside="a norm's value before its gain"
        ),
    }.get(hook)


def _module(block: int, path: str | None, side: str | None) -> Place | None:
    module = path.replace(".", "_") if path else None
    if side == "input":
        if module is None:
            return _hook(block, "resid_pre")
        if path == "mlp":
            return _hook(block, "mlp_in")
        return Place("INPUT", block, module=module)
    if module is None:
        return Place("BLOCK", block)
    if module in _MODULES:
        return Place(_MODULES[module], block, module=module)
    return Place("NORM", block, norm=path, module=module) if module.endswith("norm") else None


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
    if place.reads == "BLOCK" and kind == "EMBEDDING":
        # In most models nothing happens between the two.
        return False
    if (place.kind is None) or place.depth != depth:
        return True
    if place.is_before_mlp:
        names = ("pre_feedforward_layernorm",) if norms_behind else NORMS_BEFORE_MLP
        return kind != "NORM" or not any(layer.endswith(f"_{name}") for name in names)
    if place.is_behind_norm and norms_behind is not False:
        behind = kind == "NORM" and layer.endswith(f"_{NORMS_BEHIND[str(place.kind)]}")
        return not behind and (norms_behind is True or kind != place.kind)
    if kind == "INPUT" and place.module is not None:
        return not layer.endswith(f"_{place.module}{_SUFFIX}")
    return kind != place.kind or (place.norm is not None and not layer.endswith(f"_{place.norm}"))


class Places:
    """The places of one language model: which layer a name means, and which hook a layer is."""

    def __init__(self, layers: Iterable[Mapping[str, Any]]) -> None:
        """Take a language model's layers as its row describes them: name, kind, depth."""
        self._by_depth: dict[int | None, list[Mapping[str, Any]]] = {}
        for layer in layers:
            self._by_depth.setdefault(layer["depth"], []).append(layer)
        names = (layer["name"] for here in self._by_depth.values() for layer in here)
        self.norms_behind = any(name.endswith(f"_{NORMS_BEHIND['MLP']}") for name in names)
        """Whether there are norms behind attention and MLP, as in Gemma 2; not only before them."""

    def layer_of(self, name: str | None, *, takes_gain: bool = False) -> str | None:
        """Return the layer that a name of TransformerLens or Hugging Face means; None where it is none.

        None also where several may be meant. Where a norm's gain is taken in (``takes_gain``), the value
        before it is what the norm puts out.
        """
        place = place_of(name)
        if place is None or (place.inside is not None and not takes_gain):
            return None
        if str(name).endswith(".hook_mlp_in") and not self.norms_behind:
            # TransformerLens' own is before the norm; what SAELens calls so of Gemma 3 is behind it.
            return None
        return self._layer_at(place)

    def hooks(self) -> dict[str, str]:
        """Return the names that TransformerLens has for layers, by the layers' names.

        Its activations are those of the layers where it leaves a model's weights as they are.
        """
        found: dict[str, str] = {}
        for depth in self._by_depth:
            if depth is None:
                continue
            names = [f"blocks.{depth}.hook_{hook}" for hook in ("resid_pre", *_HOOKS)[depth > 0 :]]
            for name in (*names, *(f"blocks.{depth}.{hook}" for hook in _HOOKS_INSIDE)):
                layer = self.layer_of(name)
                if layer is not None:
                    found.setdefault(layer, name)
        return found

    def _layer_at(self, place: Place) -> str | None:
        depth = place.depth
        if place.kind == "EMBEDDING":
            return self._only(None, lambda name: _EMBEDDING_LAYER.fullmatch(name) is not None, "EMBEDDING")
        if place.is_before_mlp:
            between = self._read_by(depth, "NORM")
            return between and between.removesuffix(_SUFFIX)
        if place.reads is not None:
            return self._read_by(depth, place.reads)
        if place.is_behind_norm and self.norms_behind:
            behind = f"_{depth}_{NORMS_BEHIND[str(place.kind)]}"
            return self._only(depth, lambda name: name.endswith(behind), "NORM")
        if place.module is not None:
            ending = f"_{depth}_{place.module}" + (_SUFFIX if place.kind == "INPUT" else "")
            return self._only(depth, lambda name: name.endswith(ending))
        return self._only(depth, lambda name: True, place.kind)

    def _read_by(self, depth: int | None, kind: str) -> str | None:
        """Return what a module of a kind reads, or the last part of one."""
        readers = [layer["name"] for layer in self._by_depth.get(depth, []) if layer["kind"] == kind]
        exactly = {f"{reader}{_SUFFIX}" for reader in readers}
        if kind in ("NORM", "BLOCK"):
            return self._only(depth, lambda name: name in exactly, "INPUT")
        inside = tuple(f"{reader}_" for reader in readers)

        def is_its_own(name: str) -> bool:
            # An expert that all tokens go through is a part of a mixture's MLP, and not all of it.
            return name in exactly or (name.startswith(inside) and "expert" not in name)

        return self._only(depth, is_its_own, "INPUT")

    def _only(self, depth: int | None, fits: Callable[[str], bool], kind: str | None = None) -> str | None:
        """Return the one layer that fits; None where there is none, or several."""
        found = [
            layer["name"]
            for layer in self._by_depth.get(depth, [])
            if kind in (None, layer["kind"]) and fits(layer["name"])
        ]
        return found[0] if len(found) == 1 else None
