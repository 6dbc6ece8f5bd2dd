"""Neurons by their effect on a token at a prompt's end: attribution by gradients, and real ablations.

Attribution patching to a latent of 0 with the SAE's error kept (Marks et al. 2024, Sparse Feature Circuits:
Discovering and Editing Interpretable Causal Graphs in Language Models, arXiv:2403.19647, sections 2 and 3.1;
attribution patching: Nanda 2023, Syed et al. 2023, arXiv:2310.10348). In the layer's output's place stands
``decode(z) + error`` with the error held constant: the same numbers, so the model computes what it always
does, but with a gradient for each latent z. A neuron's effect is latent times gradient, summed over tokens:
the first-order estimate of the score less what it would be without the neuron. That is the indirect effect of
the paper's eq. 2 with its sign turned, so that what favors a token is above 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.exclusions import token_mask
from gql_server.compute.generating.batching import go_together
from gql_server.compute.generating.decoding import TOKENS_OF_A_PASS
from gql_server.compute.inspection.decoded_latents import DecodedLatents, column
from gql_server.compute.inspection.neuron_activations import float32_bytes
from gql_server.compute.inspection.next_tokens import NextTokens
from gql_server.compute.inspection.prompt_passes import PromptPasses
from gql_server.compute.language_models.prompts import EncodedPrompt, encode_prompts
from gql_server.compute.saes.encoding import all_finite, n_outputs_of
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.training.metrics import float64
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.results import AttributedNeuron, AttributionResult
from gql_server.protocol.tasks import AttributeNeurons

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae


def attribute_neurons(
    task: AttributeNeurons, context: TaskContext, lm: LanguageModel, sae: Sae
) -> AttributionResult:
    """Rank neurons by the size of their effect on the target's log-probability, less the contrast's if any.

    Effects are in nats. The model computes in its own dtype, all else in float32. TaskError INVALID where the
    prompt has no token or more than the model takes, or a choice of a token is none; CONFLICT where the SAE
    does not fit the layer, or numbers or gradients are not finite.
    """
    prompt = _encoded(task, lm)
    passes = PromptPasses(lm, task.sae, prompt.token_ids, task.language_model.dtype, n_outputs_of(sae))
    context.check()
    begun = passes.with_gradient()
    log_probabilities, output, read = begun.log_probabilities.detach(), begun.output, begun.read
    tokens = NextTokens(lm, task.chat or task.prompt, task.chat is not None, prompt.token_ids)
    score = _Score.chosen(task, tokens, log_probabilities)
    gradient = begun.gradient(score.of(begun.log_probabilities))
    del begun  # The graph takes most of the memory.

    def of_text(rows: Tensor) -> Tensor:
        return rows[passes.text].to(sae.context.device, torch.float32)

    counts = _counts(task, prompt, of_text(read))
    latents = DecodedLatents(sae, of_text(read), counts, of_text(output))
    effects = latents.effects(of_text(gradient))
    if not (all_finite(gradient) and all_finite(effects.neurons.values)):
        reason = "The gradients through the language model are not finite on this prompt."
        raise TaskError(reason, "CONFLICT")
    sums = _sums(effects.neurons)
    strongest = sums.abs().argsort(descending=True, stable=True)[: task.first]
    neurons = strongest[sums[strongest] != 0].tolist()
    ablations = _Ablations(context, passes, latents, output, together=go_together(lm))
    ablated = [float(score.of(own) - score.of(one)) for own, one in ablations.of(neurons[: task.ablate])]
    changes = ablated + [None] * (len(neurons) - len(ablated))
    return AttributionResult(
        prompt=prompt.prompt,
        tokens=prompt.tokens,
        target=tokens.probability(score.target, log_probabilities),
        contrast=None if score.contrast is None else tokens.probability(score.contrast, log_probabilities),
        neurons=[
            _attributed(neuron, change, latents.sparse, effects.neurons)
            for neuron, change in zip(neurons, changes, strict=True)
        ],
        neurons_effect=float(sums.sum()),
        error_effect=effects.error,
        bias_effect=effects.bias,
        left_out_effect=_left_out(output, gradient, passes.text, counts),
    )


def _encoded(task: AttributeNeurons, lm: LanguageModel) -> EncodedPrompt:
    chats = None if task.chat is None else [task.chat]
    try:
        (prompt,) = encode_prompts(lm, [task.prompt], chats)
    except TaskError as error:
        raise TaskError(error.reason, error.code, ("prompt",)) from error
    if not prompt.tokens:
        raise TaskError("The prompt has no tokens; write something.", "INVALID", ("prompt",))
    if len(prompt.tokens) > task.max_tokens:
        reason = f"The prompt has {len(prompt.tokens):,} tokens; the limit is {task.max_tokens:,}."
        raise TaskError(reason, "INVALID", ("prompt",))
    return prompt


@dataclass(frozen=True)
class _Score:
    """What effects are on: a token's log-probability, less another's if there is one."""

    target: int
    contrast: int | None

    @classmethod
    def chosen(cls, task: AttributeNeurons, tokens: NextTokens, log_probabilities: Tensor) -> "_Score":
        target = int(log_probabilities.argmax())
        if task.target is not None:
            target = tokens.find(task.target, "target")
        if task.contrast is None:
            return cls(target, None)
        contrast = tokens.find(task.contrast, "contrast")
        if contrast == target:
            by_default = ", as the most probable token is by default" if task.target is None else ""
            reason = f"{tokens.text_of(target)!r} is the target itself{by_default}; name another token."
            raise TaskError(reason, "INVALID", ("contrast",))
        return cls(target, contrast)

    def of(self, log_probabilities: Tensor) -> Tensor:
        """Return it for log-probabilities [vocabulary], with their graph; a difference is that of logits."""
        own = log_probabilities[self.target]
        return own if self.contrast is None else own - log_probabilities[self.contrast]


def _counts(task: AttributeNeurons, prompt: EncodedPrompt, activations: Tensor) -> Tensor:
    """Say which tokens are neither special nor left out: bool [n_tokens]."""
    device = activations.device
    plain = torch.tensor([not token.special for token in prompt.tokens], device=device)
    return plain & token_mask(task.exclusions, torch.arange(len(plain), device=device), activations)


def _sums(effects: SparseLatents) -> Tensor:
    """Return each neuron's sum, float64 [n_latents] on the CPU."""
    sums = torch.zeros(effects.pattern.n_latents, dtype=torch.float64)
    return sums.index_add_(0, effects.neurons.cpu(), float64(effects.values).cpu())


def _left_out(output: Tensor, gradient: Tensor, text: slice, counts: Tensor) -> float:
    """Return the gradient times the output where no token counts, both [n_positions, n_inputs]."""
    rest = torch.ones(len(output), dtype=torch.bool, device=output.device)
    rest[text] = ~counts.to(rest.device)
    return float((float64(gradient[rest]) * float64(output[rest])).sum())


class _Ablations:
    """Runs the prompt without a neuron: rows of one pass where the model takes them so."""

    def __init__(
        self,
        context: TaskContext,
        passes: PromptPasses,
        latents: DecodedLatents,
        output: Tensor,
        together: bool,
    ) -> None:
        self._context, self._passes, self._latents, self._output = context, passes, latents, output
        # A pass cannot be broken off.
        self._n_rows = max(1, TOKENS_OF_A_PASS // len(output)) if together else 1

    def of(self, neurons: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the log-probabilities [vocabulary] with all neurons and without each, of the same pass.

        In passes of other shapes their last digits differ, which in half precision is more than a neuron's
        effect may be.
        """
        found: list[tuple[Tensor, Tensor]] = []
        n_neurons = max(1, self._n_rows - 1)
        for first in range(0, len(neurons), n_neurons):
            self._context.check()
            some = neurons[first : first + n_neurons]
            outputs = [self._without(neuron) for neuron in some]
            if self._n_rows > 1 or not found:
                outputs.insert(0, self._output)
            parts = [outputs] if self._n_rows > 1 else [[output] for output in outputs]
            passed = [one for part in parts for one in self._passes.with_outputs(torch.stack(part))]
            own = passed[0] if len(passed) > len(some) else found[0][0]
            found += [(own, one) for one in passed[-len(some) :]]
        return found

    def _without(self, neuron: int) -> Tensor:
        changed = self._output.clone()
        changed[self._passes.text] = self._latents.without(neuron).to(changed.device, changed.dtype)
        return changed


def _attributed(
    neuron: int, change: float | None, latents: SparseLatents, effects: SparseLatents
) -> AttributedNeuron:
    of_neuron, per_token = column(latents, neuron), column(effects, neuron)
    return AttributedNeuron(
        neuron_index=neuron,
        effect=float(float64(per_token).sum()),
        ablation_effect=change,
        activation=float(of_neuron.max()),
        token_index=int(of_neuron.argmax()),
        token_effects=float32_bytes(per_token),
    )
