"""How much of what a layer puts out is added to the residual stream, measured at the end of the model."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gql_server.compute import mi_crow_compat  # noqa: F401

from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel

Hook = Callable[[nn.Module, Any, Any], Any]
_SIZE = 4.0
"""Size of the vector added to a layer's output, in standard deviations of the last norm's input."""


class ModelFailed(Exception):
    """The language model's own code has failed; the message is a sentence."""


def run(lm: LanguageModel, hooks: Sequence[tuple[nn.Module, Hook]]) -> Tensor:
    """Run a few tokens through the model with hooks on its modules, and return the logits.

    Raises ModelFailed where that fails, but for memory.
    """
    ids = torch.arange(6, device=lm.context.device).view(2, 3) % len(lm.tokenizer)
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook).remove)
        try:
            with torch.inference_mode():
                logits: Tensor = lm.model(input_ids=ids, use_cache=False).logits
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            # Architectures differ, and what a strange one raises is not ours to know.
            raise ModelFailed(f"The language model has failed on a few tokens: {error}") from error
    return logits


def direct_factor(lm: LanguageModel, layer: nn.Module, end: nn.Module) -> float | None:
    """Return the factor with which a layer's output arrives in ``end``'s input, if nothing in between reacts.

    It is measured: every module without children, be it a linear layer, a norm or an activation, gives what
    it gave before, and only additions and multiplications by numbers between them see that something has
    been added to the layer's output. So residual streams inside of attention or MLP, parallel branches,
    norms after a branch and factors such as Granite's are all seen. None where nothing arrives, or something
    that is not in proportion.
    """
    usual = _Recording(lm.model)
    arrived = usual.run(lm, end)
    size = _SIZE * float(arrived.float().std())
    tolerance = max(1e-3, 8 * torch.finfo(arrived.dtype).eps)
    factors = []
    for added in (_Addition(layer, size), _Addition(layer, -size)):
        change = (usual.run(lm, end, added) - arrived).float().flatten()
        if len(change) != added.delta.numel() or not change.any():
            return None
        delta = added.delta.flatten()
        factors.append(float(change @ delta / (delta @ delta)))
        # False also where it is not finite.
        if not (change - factors[-1] * delta).norm() <= tolerance * change.norm():
            return None
    factor = sum(factors) / 2
    return 1.0 if abs(factor - 1) <= tolerance else factor


class _Addition:
    """Adds a number or its negative, at random, to what a layer puts out."""

    def __init__(self, layer: nn.Module, size: float) -> None:
        self.layer = layer
        self.delta = torch.zeros(0)
        """What has been added."""
        self._size = size

    def __call__(self, output: Any) -> Any:
        """Return the output with its first tensor changed."""
        first = extract_tensor_from_output(output)
        if first is None:
            return output
        signs = torch.randint(0, 2, first.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.delta = (signs * self._size).to(first.device)
        changed = first + self.delta.to(first.dtype)
        return tree_map(lambda value: changed if value is first else value, output)


class _Recording:
    """What the modules of a model without children give, call by call."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {
            name: module for name, module in model.named_modules() if next(module.children(), None) is None
        }
        self._outputs: dict[tuple[str, int], Any] = {}
        """By name and number of the call; those that only pass their input on are not in it."""
        self._recorded = False

    def run(self, lm: LanguageModel, end: nn.Module, addition: _Addition | None = None) -> Tensor:
        """Return what comes into ``end``, its first input, given an addition and all else as before."""
        arrived: list[Tensor] = []
        calls: Counter[str] = Counter()

        def hook_of(name: str) -> Hook:
            def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
                calls[name] += 1
                key = (name, calls[name])
                if not self._recorded:
                    if not _passes_on(module, inputs, output):
                        self._outputs[key] = _copy(output)
                    return None
                return _copy(self._outputs[key]) if key in self._outputs else None

            return hook

        def see_end(module: nn.Module, inputs: Any, output: Any) -> None:
            if not inputs or not isinstance(inputs[0], Tensor):
                return
            # The last call counts: NanoChat's final norm is also the first one, of the embedding.
            arrived[:] = [inputs[0].detach().clone()]

        hooks = [(module, hook_of(name)) for name, module in self._modules.items()]
        if addition is not None:
            hooks.append((addition.layer, lambda module, inputs, output: addition(output)))
        run(lm, [(end, see_end), *hooks])
        self._recorded = True
        if not arrived:
            raise ModelFailed("The language model's final norm does not get what is to be normed.")
        return arrived[0]


def _copy(output: Any) -> Any:
    return tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, output)


def _passes_on(module: nn.Module, inputs: Any, output: Any) -> bool:
    """Whether a module gives its input, as dropout does outside of training."""
    if next(module.parameters(), None) is not None or not inputs or not isinstance(output, Tensor):
        return False
    first = inputs[0]
    return isinstance(first, Tensor) and first.shape == output.shape and torch.equal(first, output)
