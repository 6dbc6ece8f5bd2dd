"""What a language model's modules do in a forward pass: how often they run, when, and what they give."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.language_models.layer_outputs import vectors_of
from gql_server.compute.language_models.text_encoder import padding_id
from gql_server.compute.worker.context import TaskError

from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel

N_TEXTS, N_POSITIONS = 3, 7
"""Of the traced pass; numbers that no other dimension of an output is likely to have."""
_SAME = 0.05
"""How far a text's vectors may move, relative to their length, when another text stands before it."""


@dataclass(frozen=True)
class TracedLayer:
    """What a layer did in a forward pass."""

    order: int
    """Its place among the layers by when its output came."""
    width: int
    """The last dimension of its output [n_texts, n_positions, width]."""


@dataclass(frozen=True)
class Trace:
    """What a forward pass showed of a model's modules, by layer name."""

    calls: Counter[str]
    """How often each ran."""
    layers: dict[str, TracedLayer]
    """Those that run once and give one vector per token; none where padding changes what they give."""
    stands_padding: bool = True
    """Whether a text gives the same with padding behind it, as it has beside a longer one."""

    def why_not(self, name: str) -> str | None:
        """Say in a sentence why a module cannot be captured or steered; None where it can."""
        if name in self.layers:
            return None
        if not self.stands_padding:
            return (
                "The language model gives other numbers for a text that stands beside a longer one, so none "
                "of its layers can be captured or steered."
            )
        if self.calls[name] > 1:
            return (
                f"The layer {name!r} runs {self.calls[name]} times while a text goes through the language "
                "model, so there is no single output of it that could be captured or steered."
            )
        if self.calls[name] == 0:
            return (
                f"The layer {name!r} does not run when a text goes through the language model, "
                "so it cannot be captured or steered."
            )
        return f"The layer {name!r} does not give one vector per token, so it cannot be captured or steered."


_traces: WeakKeyDictionary[LanguageModel, Trace] = WeakKeyDictionary()


def trace(lm: LanguageModel) -> Trace:
    """Return what a few texts' pass through a model showed; a model is traced once, when it is loaded.

    The order is seen and not read off the modules: they are listed in the order in which they were made,
    which puts Llama's norms after the attention that they come before.

    Raises TaskError CONFLICT where no text goes through the model.
    """
    if lm not in _traces:
        _traces[lm] = _trace(lm)
    return _traces[lm]


def trace_ids(lm: LanguageModel) -> Tensor:
    """Return token ids [N_TEXTS, N_POSITIONS] that differ, as far as the vocabulary allows."""
    embedding: Any = lm.model.get_input_embeddings()
    limit = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    n_positions = min(N_POSITIONS, limit) if isinstance(limit, int) and limit > 0 else N_POSITIONS
    ids = torch.arange(N_TEXTS * n_positions, device=lm.context.device)
    return ids.view(N_TEXTS, n_positions) % len(embedding.weight)


def _trace(lm: LanguageModel) -> Trace:
    ids, n_streams = trace_ids(lm), _n_streams(lm)
    calls: Counter[str] = Counter()
    layers: dict[str, TracedLayer] = {}
    flat: dict[str, Tensor] = {}

    def see(name: str, output: Tensor | None) -> None:
        calls[name] += 1
        if output is None or (output.ndim == 4 and len(output) != n_streams):
            return
        vectors = vectors_of(output, *ids.shape)
        if vectors is not None:
            layers[name] = TracedLayer(calls.total(), vectors.shape[-1])
            if output.ndim == 2:
                flat[name] = vectors.clone()

    logits = watch(lm, ids, see)
    flat = {name: vectors for name, vectors in flat.items() if calls[name] == 1}
    others = {name for name in layers if calls[name] > 1} | _reordered(lm, ids, flat)
    longer, mask = _longer(lm, ids)
    same_width: set[str] = set()

    def see_again(name: str, output: Tensor | None) -> None:
        # Scores of the tokens before, such as those of DeepSeek V4's indexer, look like vectors in one pass.
        vectors = None if output is None or name not in layers else vectors_of(output, *longer.shape)
        if vectors is not None and vectors.shape[-1] == layers[name].width:
            same_width.add(name)

    stands_padding = _are_same(logits, watch(lm, longer, see_again, mask))
    kept = same_width - others if stands_padding else set()
    return Trace(calls, {name: layer for name, layer in layers.items() if name in kept}, stands_padding)


def _longer(lm: LanguageModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return token ids with as much padding behind them again, as captures have it, and their mask."""
    limit = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None)
    n_positions = ids.shape[1]
    n_more = min(n_positions, limit - n_positions) if isinstance(limit, int) and limit > 0 else n_positions
    padding = ids.new_full((len(ids), n_more), padding_id(lm))
    mask = torch.cat([torch.ones_like(ids), torch.zeros_like(padding)], dim=1)
    return torch.cat([ids, padding], dim=1), mask


def _are_same(logits: Tensor, padded: Tensor) -> bool:
    """Say whether most of the predictions [n_texts, n_positions, vocabulary] are the same with padding."""
    padded = padded[:, : logits.shape[1]]
    if logits.shape != padded.shape:
        return False
    difference = (padded.float() - logits.float()).square().mean(dim=-1).sqrt()
    # In half precision a mixture of experts may send a token or two elsewhere.
    moved = difference > _SAME * logits.float().std(dim=-1)
    return float(moved.float().mean()) < 0.5


def _n_streams(lm: LanguageModel) -> int | None:
    """Return how many residual streams Gemma 3n's blocks stack, the active one first; else None."""
    config = lm.model.config.get_text_config()
    n_streams = getattr(config, "altup_num_inputs", None)
    return n_streams if getattr(config, "altup_active_idx", None) == 0 else None


def watch(
    lm: LanguageModel,
    ids: Tensor,
    see: Callable[[str, Tensor | None], None],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Run token ids through a model and show what each of its modules puts out, whenever it has run.

    Returns the logits.
    """

    def hook_for(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            see(name, extract_tensor_from_output(output))

        return hook

    handles = [
        layer.register_forward_hook(hook_for(name), prepend=True)
        for name, layer in lm.layers.name_to_layer.items()
    ]
    try:
        with torch.inference_mode():
            logits: Tensor = lm.model(input_ids=ids, attention_mask=attention_mask, use_cache=False).logits
            return logits
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # It is the model's own code that fails, so it may be anything.
        reason = f"No text goes through the language model: {type(error).__name__}: {error}"
        raise TaskError(reason, "CONFLICT") from error
    finally:
        for handle in handles:
            handle.remove()


def _reordered(lm: LanguageModel, ids: Tensor, flat: dict[str, Tensor]) -> set[str]:
    """Return the layers whose rows are not text after text: those of experts may be sorted by expert.

    With the texts in another order the same vectors must come in that order.
    """
    if not flat:
        return set()
    same: set[str] = set()

    def see(name: str, output: Tensor | None) -> None:
        if name in flat and output is not None:
            before, vectors = flat[name], vectors_of(output, *ids.shape)
            if vectors is not None and vectors.shape == before.shape:
                difference = (vectors.roll(1, dims=0) - before).float().norm()
                if difference <= _SAME * before.float().norm():
                    same.add(name)

    watch(lm, ids.roll(-1, dims=0), see)
    return {*flat} - same
