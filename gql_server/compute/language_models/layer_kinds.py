"""What part of a language model each layer is: block, attention, mixer, MLP, norm, embedding, head."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from gql_server.compute.language_models.layer_trace import TracedLayer

_NORM = re.compile(r"norm(alization)?(\d*p?|gated)?$", re.IGNORECASE)
_ATTENTION_NAME = re.compile(r"^(self_|linear_|rel_)?(attn|attention)$")
_ATTENTION_CLASS = re.compile(r"(Attention\d*|MLA|DeltaNet)$")
_MIXER_NAME = re.compile(r"^(mixer|mamba|temporal_block)$")
_MIXER_CLASS = re.compile(r"(Mixer|MambaLayer|ShortConv|RecurrentBlock|LSTMLayer)$")
_MLP_NAME = re.compile(r"^(mlps?|ffn|feed_forward|ff|block_sparse_moe|moe)$")
_MLP_CLASS = re.compile(r"(mlp|ffn|feedforward|moe|sparsemoeblock)$", re.IGNORECASE)
_PARTS = ("ATTENTION", "MIXER", "MLP")
_WHOLE = (*_PARTS, "NORM")
"""What is inside one of these is part of it."""


@dataclass(frozen=True)
class Place:
    """Where a module is."""

    block: int | None
    """The number of its block; None outside the blocks."""
    levels: int = 0
    """How many levels below the block it is: 0 for the block itself."""


def place_of(model: nn.Module, path: str) -> Place:
    """Return where a module is, given its path.

    A model's blocks are the members of an outermost ModuleList. A list of single layers, such as Gemma 3n's
    projections between its streams, is none of blocks unless it has a layer for each block, as in XLM.
    """
    parts = path.split(".")
    module = model
    for depth, part in enumerate(parts):
        if isinstance(module, nn.ModuleList):
            if not _has_parts(module) and len(module) != _n_blocks(model):
                return Place(None)
            return Place(int(part), len(parts) - depth - 1)
        module = getattr(module, part)
    return Place(None)


def _has_parts(modules: nn.ModuleList) -> bool:
    return any(True for module in modules for _ in module.children())


def _n_blocks(model: nn.Module) -> int | None:
    limit = getattr(getattr(model.config, "get_text_config", lambda: None)(), "num_hidden_layers", None)
    return limit if isinstance(limit, int) else None


class LayerKinds:
    """Tells the LayerKind of the API of each layer of a traced model."""

    def __init__(self, model: nn.Module, head: nn.Module | None, traced: Mapping[str, TracedLayer]) -> None:
        """Take the output layer, and by their paths the layers that can be captured."""
        self._head, self._traced = head, traced
        self._modules = dict(model.named_modules())
        self.places = {path: place_of(model, path) for path in traced}
        own = {path: self._own_kind(path) for path in traced}
        # Of an attention in another one, as in BERT and GPT-Neo, the outer is what the block calls.
        self._kinds = {
            path: "OTHER" if kind in _PARTS and _is_inside(path, own) else kind for path, kind in own.items()
        }
        self._kinds |= dict.fromkeys(self._second_linears(), "MLP")
        if "BLOCK" not in self._kinds.values():
            self._kinds |= dict.fromkeys(self._last_of_blocks(), "BLOCK")

    def __getitem__(self, path: str) -> str:
        """Return a layer's kind, given its path."""
        return self._kinds[path]

    def _own_kind(self, path: str) -> str:
        """Tell a kind by structure, class and name, whatever is around the module."""
        module, place = self._modules[path], self.places[path]
        if module is self._head:
            return "HEAD"
        if isinstance(module, nn.Embedding):
            return "EMBEDDING"
        if _is_norm(module):
            return "NORM"
        if place.block is None:
            return "OTHER"
        kind = _part(path, type(module).__name__)
        is_block = place.levels == 0 and next(module.children(), None) is not None
        return "BLOCK" if kind is None and is_block else kind or "OTHER"

    def _second_linears(self) -> Iterator[str]:
        """Give the second linear layer of blocks whose MLP is no module of its own, such as OPT's fc2."""
        linears: dict[str, list[str]] = {path: [] for path, kind in self._kinds.items() if kind == "BLOCK"}
        for path, kind in self._kinds.items():
            block = self._block_of(path)
            if kind == "MLP":
                linears.pop(block, None)
            elif self._is_linear(path) and block in linears and not _is_inside(path, self._kinds):
                linears[block].append(path)
        for block, inside in linears.items():
            inside.sort(key=lambda path: self._traced[path].order)
            width = self._traced[block].width
            yield from [path for path in inside[1:] if self._traced[path].width == width][:1]

    def _last_of_blocks(self) -> Iterable[str]:
        """Return what ends each block of a model that lists its blocks' parts side by side, as XLM does."""
        last: dict[int, str] = {}
        for path in sorted(self._traced, key=lambda path: self._traced[path].order):
            place = self.places[path]
            if place.block is not None and place.levels == 0:
                last[place.block] = path
        return last.values()

    def _is_linear(self, path: str) -> bool:
        return isinstance(self._modules[path], nn.Linear)

    def _block_of(self, path: str) -> str:
        parts = path.split(".")
        return ".".join(parts[: len(parts) - self.places[path].levels])


def _is_norm(module: nn.Module) -> bool:
    """Whether it is a norm, and not something that has more in it, such as DBRX' norm_attn_norm."""
    inner = (type(child).__name__ for child in module.modules())
    return bool(_NORM.search(type(module).__name__)) and not any(map(_ATTENTION_CLASS.search, inner))


def _is_inside(path: str, kinds: Mapping[str, str]) -> bool:
    """Whether a module is inside one that is a part of a block by itself."""
    parts = path.split(".")
    return any(kinds.get(".".join(parts[:n])) in _WHOLE for n in range(1, len(parts)))


def _part(path: str, class_name: str) -> str | None:
    """Tell what a module inside a block is; by its class first, as a mixer may be called anything."""
    # Of a list in a block, such as self_attn.0, the list's name says it.
    name = next((part for part in reversed(path.split(".")) if not part.isdigit()), "")
    by_class = (("ATTENTION", _ATTENTION_CLASS), ("MIXER", _MIXER_CLASS), ("MLP", _MLP_CLASS))
    by_name = (("ATTENTION", _ATTENTION_NAME), ("MIXER", _MIXER_NAME), ("MLP", _MLP_NAME))
    for kind, pattern in by_class:
        if pattern.search(class_name):
            return kind
    return next((kind for kind, pattern in by_name if pattern.match(name)), None)
