"""What modules read, as layers of a language model: places that no module's output is.

Such as what an attention's output projection reads, the heads side by side (TransformerLens' hook_z), or the
residual stream between attention and MLP (hook_resid_mid).
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.language_models.layer_kinds import LayerKinds
from gql_server.compute.language_models.layer_trace import TracedLayer, trace

from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel

SUFFIX = ".input"
"""Follows the name of the module that reads; mi_crow's own names of layers have no dots."""
_PARTS = ("ATTENTION", "MIXER", "MLP")


class ModuleInput(nn.Module):
    """Stands in the way of what a module reads: its output is what the module gets as its input.

    So that whatever is done at a layer's output, be it reading or changing, can be done here with the same
    hooks. It is in the way only while it has forward hooks, and costs nothing else. It is no part of the
    model, and the model does not keep it.

    Of what a norm before a part of a block reads, which goes on beside the part as the residual stream, a
    change is made in place: so it is the stream that is changed, as at TransformerLens' hook_resid_mid, and
    not the part's view of it alone.
    """

    def __init__(self, reader: nn.Module, *, is_stream: bool = False) -> None:
        """Take the module that reads, and whether what it reads is also used after it."""
        super().__init__()
        self._is_stream = is_stream
        # In a tuple, or it would be taken for a module inside this one.
        self._of = (reader,)
        self._handle: RemovableHandle | None = None

    @property
    def reader(self) -> nn.Module:
        """Return the module that reads."""
        return self._of[0]

    def forward(self, vectors: Tensor) -> Tensor:
        """Return what has come."""
        return vectors

    def register_forward_hook(self, hook: Callable[..., Any], **options: Any) -> RemovableHandle:
        """Add a hook as to any module."""
        if self._handle is None:
            itself = weakref.ref(self)

            def pass_through(
                module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
            ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
                stand_in = itself()
                return None if stand_in is None else stand_in._pass(args, kwargs)

            self._handle = self.reader.register_forward_pre_hook(pass_through, with_kwargs=True)
        return super().register_forward_hook(hook, **options)

    def leave(self) -> None:
        """Let the module read what it is given, past this."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _pass(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return the arguments with what the hooks make of the vectors; None where they leave them."""
        if not self._forward_hooks:
            self.leave()
            return None
        key = _where(args, kwargs)
        if key is None:
            return None
        before = args[key] if isinstance(key, int) else kwargs[key]
        after = self(before)
        if after is before:
            return None
        if self._is_stream:
            before.copy_(after)
            return None
        if isinstance(key, int):
            return (*args[:key], after, *args[key + 1 :]), kwargs
        return args, kwargs | {key: after}


def _where(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str | None:
    """Return the first argument that holds vectors: its place, or its name."""
    given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    vectors = (key for key, value in given if isinstance(value, Tensor) and value.is_floating_point())
    return next(vectors, None)


def add_inputs(lm: LanguageModel) -> None:
    """Give a language model's layers the inputs of modules, each after the module that reads it.

    They are those of the output projections of attention, MLP and what else mixes positions; of norms, where
    no module puts out what they read; and of the first block. Those that are no vectors, one per token, are
    left out, as trace() sees it.

    Raises TaskError CONFLICT where no text goes through the model.
    """
    name_of = {id(module): name for name, module in lm.layers.name_to_layer.items()}
    readers = {id(module): is_stream for module, is_stream in _readers(lm) if id(module) in name_of}
    layers: dict[str, nn.Module] = {}
    for name, module in lm.layers.name_to_layer.items():
        layers[name] = module
        # A module that is in two places has two names, of which one is the layer's.
        if id(module) in readers and name_of[id(module)] == name:
            layers[name + SUFFIX] = ModuleInput(module, is_stream=readers[id(module)])
    lm.layers.name_to_layer.clear()
    lm.layers.name_to_layer.update(layers)
    traced = trace(lm).layers
    for name, module in layers.items():
        if isinstance(module, ModuleInput) and name not in traced:
            module.leave()
            del lm.layers.name_to_layer[name]


class _Pass:
    """What a pass of a few tokens showed: which module read what, and when."""

    def __init__(self) -> None:
        self.layers: dict[str, TracedLayer] = {}
        """By path; those whose output has three dimensions."""
        self.new: set[str] = set()
        """Paths of modules that read what neither a module has put out nor another has read before."""
        self._known: dict[int, Tensor] = {}
        """What has come, by identity; kept, so that no other tensor gets the same one."""

    def see(self, path: str, module: nn.Module) -> list[RemovableHandle]:
        """Watch a module; returns the handles of its hooks."""

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            key = _where(args, kwargs)
            if key is None:
                return
            given = args[key] if isinstance(key, int) else kwargs[key]
            if id(given) not in self._known:
                self.new.add(path)
                self._known[id(given)] = given

        def after(module: nn.Module, args: Any, output: Any) -> None:
            first = extract_tensor_from_output(output)
            if first is not None:
                self._known[id(first)] = first
                if first.ndim == 3 or first.ndim == 2:
                    self.layers[path] = TracedLayer(len(self._known), first.shape[-1])

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]


def _readers(lm: LanguageModel) -> Iterator[tuple[nn.Module, bool]]:
    """Give the modules whose inputs are layers, and whether these are streams that go on beside them."""
    seen = _watched(lm)
    if seen is None:
        return
    modules = dict(lm.model.named_modules())
    kinds = LayerKinds(lm.model, lm.model.get_output_embeddings(), seen.layers)
    for path, place in kinds.places.items():
        module, kind = modules[path], kinds[path]
        if place.block == 0 and place.levels == 0 and kind == "BLOCK":
            yield module, False
        elif kind == "NORM" and place.levels == 1 and path in seen.new:
            yield module, True
        elif kind in _PARTS:
            projection = _projection(path, module, seen.layers)
            if projection is not None:
                yield modules[projection], False


def _projection(path: str, part: nn.Module, layers: dict[str, TracedLayer]) -> str | None:
    """Return the linear layer whose output a part of a block puts out: the last one of its width."""
    inside = ((f"{path}.{name}" if name else path, module) for name, module in part.named_modules())
    linear = [
        name
        for name, module in inside
        if name in layers and layers[name].width == layers[path].width and is_linear(module)
    ]
    return max(linear, key=lambda name: layers[name].order, default=None)


def is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies with a matrix, as nn.Linear and transformers' Conv1D do."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Embedding) or next(module.children(), None) is not None:
        return False
    return isinstance(weight, Tensor) and weight.ndim == 2


def _watched(lm: LanguageModel) -> _Pass | None:
    """Watch a pass of a few tokens; None where none goes through, of which trace() tells."""
    ids = torch.arange(6, device=lm.context.device).view(2, 3) % len(lm.model.get_input_embeddings().weight)
    seen = _Pass()
    handles = [
        handle for path, module in lm.model.named_modules() if path for handle in seen.see(path, module)
    ]
    try:
        with torch.inference_mode():
            lm.model(input_ids=ids, use_cache=False)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:
        # The model's own code fails, which may be in any way.
        return None
    finally:
        for handle in handles:
            handle.remove()
    return seen
