"""A language model's layers: what they are, in which order they run, and which of them can be captured."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gql_server.compute import upstream  # noqa: F401  (before mi_crow)
from gql_server.compute.context import TaskError
from gql_server.compute.messages.results import LayerDescription

from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel

_TRACE_SHAPE = (2, 3)
_ATTENTION = re.compile(r"^(self_)?(attn|attention)$|^linear_attn$")
_MLP = re.compile(r"^(mlp|ffn|feed_forward|block_sparse_moe)$")


@dataclass(frozen=True)
class TracedLayer:
    """What a layer did in a forward pass."""

    order: int
    """Its place among the layers by when its last output came."""
    width: int
    """The last dimension of its output [n_texts, n_positions, width]."""


def trace(lm: LanguageModel) -> dict[str, TracedLayer]:
    """Run a few tokens through the model; return the layers that give a tensor [n_texts, n_positions, width].

    The order is seen and not read off the modules: they are listed in the order in which they were made,
    which puts Llama's norms after the attention that they come before.
    """
    seen: dict[str, TracedLayer] = {}

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            seen.pop(name, None)
            width = _width(output)
            if width is not None:
                seen[name] = TracedLayer(len(order), width)
            order.append(name)

        return hook

    order: list[str] = []
    handles = [
        layer.register_forward_hook(hook_for(name), prepend=True)
        for name, layer in lm.layers.name_to_layer.items()
    ]
    try:
        with torch.inference_mode():
            lm.model(
                input_ids=torch.zeros(_TRACE_SHAPE, dtype=torch.long, device=lm.context.device),
                use_cache=False,
            )
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _width(output: Any) -> int | None:
    tensor = extract_tensor_from_output(output)
    if (
        tensor is None
        or not tensor.is_floating_point()
        or tensor.ndim != 3
        or tensor.shape[:2] != _TRACE_SHAPE
    ):
        return None
    return int(tensor.shape[-1])


def depth_order(lm: LanguageModel, layers: list[str]) -> list[str]:
    """Return the layers in the order in which they finish, the deepest last: a block after what is in it.

    Raises TaskError INVALID with the path ("layers", index) for one that is unknown or cannot be captured.
    """
    traced = trace(lm)
    for index, layer in enumerate(layers):
        if layer not in lm.layers.name_to_layer:
            raise TaskError(f"The language model has no layer {layer!r}.", "INVALID", ("layers", str(index)))
        if layer not in traced:
            reason = f"The layer {layer!r} does not give one vector per token, so it cannot be captured."
            raise TaskError(reason, "INVALID", ("layers", str(index)))
    return sorted(layers, key=lambda layer: traced[layer].order)


def describe_layers(lm: LanguageModel) -> list[LayerDescription]:
    """Describe the layers that give one vector per token, outermost first, else in the model's order."""
    traced = trace(lm)
    paths = {id(module): path for path, module in lm.model.named_modules()}
    head = lm.model.get_output_embeddings()
    descriptions = []
    for name, module in lm.layers.name_to_layer.items():
        if name in traced:
            block, inner = _place(lm.model, paths[id(module)])
            kind = "HEAD" if module is head else _kind(module, paths[id(module)], block, inner)
            width = traced[name].width
            descriptions.append(LayerDescription(name, kind, block, type(module).__name__, width))
    return descriptions


def _place(model: nn.Module, path: str) -> tuple[int | None, int]:
    """Return the block that a module belongs to, and how many levels below it: 0 for the block itself."""
    parts = path.split(".")
    module = model
    for depth, part in enumerate(parts):
        if isinstance(module, nn.ModuleList):
            return int(part), len(parts) - depth - 1
        module = getattr(module, part)
    return None, 0


def _kind(module: nn.Module, path: str, block: int | None, inner: int) -> str:
    """Tell a LayerKind by structure first, then by class, then by the names that models use."""
    name, class_name = path.rsplit(".", 1)[-1], type(module).__name__
    if block is not None and inner == 0:
        return "BLOCK"
    if "norm" in class_name.lower():
        return "NORM"
    if isinstance(module, nn.Embedding):
        return "EMBEDDING"
    if block is not None and (_ATTENTION.match(name) or class_name.endswith("Attention")):
        return "ATTENTION"
    if block is not None and (_MLP.match(name) or class_name.lower().endswith("mlp")):
        return "MLP"
    return "OTHER"
