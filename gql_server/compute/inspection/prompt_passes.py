"""One prompt's forward passes, with gradients from a layer's output on, or with others in its place."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating.model_inputs import ModelInputs
from gql_server.compute.language_models.layer_outputs import active_stream, with_active_stream
from gql_server.compute.language_models.layers import check_order, is_head, why_not
from gql_server.compute.language_models.text_encoder import embedding_count
from gql_server.compute.non_finite import cause_in_model
from gql_server.compute.saes.encoding import all_finite
from gql_server.compute.saes.hooks import ReplacementHook, attached
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import SaeSource

from mi_crow.hooks.utils import extract_tensor_from_output
from mi_crow.language_model.language_model import LanguageModel

_CACHES = ("past_key_values", "cache_params")


@dataclass(frozen=True)
class GradientPass:
    """What a pass with gradients gave."""

    log_probabilities: Tensor
    """Of the token after the prompt: float32 [vocabulary], with a graph."""
    _output: Tensor
    """The layer's, a leaf of that graph, in the model's dtype and whatever shape the layer gives."""
    _read: Tensor | None = None
    """What the layer puts out that a transcoder reads; None where it is the same one."""

    @property
    def output(self) -> Tensor:
        """Return the layer's output [n_positions, n_inputs], in the model's dtype."""
        return self._output.detach().reshape(-1, self._output.shape[-1])

    @property
    def read(self) -> Tensor:
        """Return what the SAE reads [n_positions, n_inputs], in the model's dtype."""
        return self.output if self._read is None else self._read.reshape(-1, self._read.shape[-1])

    def gradient(self, score: Tensor) -> Tensor:
        """Return a score's gradient for ``output``, of its shape, once."""
        (gradient,) = torch.autograd.grad(score, self._output)
        return gradient.reshape(-1, gradient.shape[-1])


class PromptPasses:
    """Passes of one prompt as the first one of a generation is made, but that nothing is kept for others."""

    def __init__(
        self,
        lm: LanguageModel,
        sae: SaeSource,
        token_ids: Sequence[int],
        dtype: str,
        n_outputs: int | None = None,
    ) -> None:
        """Take the prompt's tokens, and the name of the model's dtype for sentences.

        ``n_outputs`` is how many numbers per token a transcoder writes; None where as many as it reads.
        """
        self._lm, self._layer, self._ids, self._dtype = lm, sae.writes, list(token_ids), dtype
        self._read = None if sae.writes == sae.layer else sae.layer
        check_order(lm, sae.layer, sae.output_layer)
        self._n_read, self._n_outputs = sae.n_inputs, n_outputs or sae.n_inputs
        self._n_embeddings = embedding_count(lm)
        self._n_after = 0
        self.text = slice(0)
        """Which positions of the layer's output are the prompt's tokens; known after a pass."""

    def with_gradient(self) -> GradientPass:
        """Run the prompt; nothing before the layer keeps what a gradient needs.

        TaskError CONFLICT where the model has no such layer or it does not fit the SAE, FAILED where the
        model's numbers are out of range.
        """
        outputs: list[Tensor] = []
        reading = ReplacementHook(1) if self._read else None
        with torch.enable_grad(), ExitStack() as hooks:
            hooks.enter_context(_leaf_after(self._lm, self._layer, outputs))
            if self._read and reading:
                hooks.enter_context(attached(self._lm, self._read, reading))
            log_probabilities = self._run(1)[0]
        if not (outputs and log_probabilities.requires_grad):
            reason = f"The language model gives no gradients of its logits for the layer {self._layer}."
            raise TaskError(reason, "CONFLICT")
        found = GradientPass(log_probabilities, outputs[0], reading and reading.output)
        self.text = self._text_positions(found.output, self._layer, self._n_outputs)
        if self._read and self.text != self._text_positions(found.read, self._read, self._n_read):
            reason = f"The layers {self._read} and {self._layer} give vectors for other positions."
            raise TaskError(reason, "CONFLICT")
        return found

    def with_outputs(self, outputs: Tensor) -> Tensor:
        """Run the prompt once for each of ``outputs`` [n, n_positions, n_inputs] in the layer's place.

        Returns the next token's log-probabilities, float32 [n, vocabulary]; errors as above.
        """
        hook = ReplacementHook(len(outputs))
        hook.replacement = outputs
        with torch.inference_mode(), attached(self._lm, self._layer, hook):
            return self._run(len(outputs))

    def _text_positions(self, output: Tensor, layer: str, width: int) -> slice:
        n_positions, found = output.shape
        stop = n_positions - self._n_after
        if found != width or stop < len(self._ids):
            reason = (
                f"The layer {layer} gives {n_positions} vectors of {found} numbers for "
                f"{len(self._ids)} tokens, not one of {width} for each; take an SAE on another one."
            )
            raise TaskError(reason, "CONFLICT")
        return slice(stop - len(self._ids), stop)

    def _run(self, n_rows: int) -> Tensor:
        made = ModelInputs(self._lm, [self._ids] * n_rows, all_logits=is_head(self._lm, self._layer))
        # Keys and values are of no use afterwards, and some caches are written in place, as no graph allows.
        inputs: dict[str, Any] = {name: value for name, value in made.next().items() if name not in _CACHES}
        if "use_cache" in inputs:
            inputs["use_cache"] = False
        given = inputs["input_ids"]
        # XLM and XLNet predict at a token that their methods put after the text.
        self._n_after = 0 if torch.equal(given, made.ids[:, -given.shape[1] :]) else 1
        # A head with more rows than the embedding gives scores to tokens that cannot be fed again.
        logits = self._lm.model(**inputs).logits[:, -1, : self._n_embeddings].float()
        if not all_finite(logits.detach()):
            reason = f"The language model's numbers are out of range. {cause_in_model(self._dtype)}"
            raise TaskError(reason)
        log_probabilities: Tensor = logits.log_softmax(dim=-1)
        return log_probabilities


@contextmanager
def _leaf_after(lm: LanguageModel, layer: str, outputs: list[Tensor]) -> Iterator[None]:
    """Have the graph of passes in the block begin at the layer's output, which is put into ``outputs``.

    mi_crow's hooks write into outputs past any graph, so this one is torch's own.
    """
    if reason := why_not(lm, layer):
        raise TaskError(f"{reason} The SAE was trained on it.", "CONFLICT")

    def begin(module: nn.Module, inputs: Any, output: Any) -> Any:
        first = extract_tensor_from_output(output)
        if first is None:
            return None
        leaf = active_stream(first).detach().clone().requires_grad_()
        outputs.append(leaf)
        # A leaf cannot be changed in place, as some models do with their residual stream; its copy can.
        begun = with_active_stream(first, leaf.clone())
        return tree_map(lambda value: begun if value is first else value, output)

    handle = lm.layers.name_to_layer[layer].register_forward_hook(begin)
    try:
        yield
    finally:
        handle.remove()
