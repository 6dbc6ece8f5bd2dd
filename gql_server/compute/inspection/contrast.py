"""The neurons that fire more on one set of texts than on another."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.inspection.top_neurons import batches, prompt_batch, read_latents
from gql_server.compute.language_models.prompts import EncodedPrompt, encode_prompts
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.training.metrics import float64_device
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.results import ContrastedNeuron, ContrastResult
from gql_server.protocol.tasks import ContrastNeurons

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae


def contrast_neurons(
    task: ContrastNeurons, context: TaskContext, lm: LanguageModel, sae: Sae
) -> ContrastResult:
    """Rank neurons by their mean latent on texts A less that on texts B, and the other way round.

    A mean is over all tokens of a set that are neither padding nor special nor excluded, so long texts weigh
    more.
    TaskError (INVALID) where a text is longer than the model, or a set has no token that counts.
    """
    prompts_a = _encoded(lm, task.texts_a, "textsA")
    prompts_b = _encoded(lm, task.texts_b, "textsB")
    mean_a = _mean(task, context, lm, sae, prompts_a, "textsA")
    mean_b = _mean(task, context, lm, sae, prompts_b, "textsB")
    return ContrastResult(
        _ranked(mean_a, mean_b, mean_a - mean_b, task.first),
        _ranked(mean_a, mean_b, mean_b - mean_a, task.first),
    )


def _ranked(mean_a: Tensor, mean_b: Tensor, difference: Tensor, first: int) -> list[ContrastedNeuron]:
    """Return the neurons with the largest differences above 0; ties by index."""
    order = difference.argsort(descending=True, stable=True)[:first]
    return [
        ContrastedNeuron(neuron, float(mean_a[neuron]), float(mean_b[neuron]))
        for neuron in order[difference[order] > 0].tolist()
    ]


def _encoded(lm: LanguageModel, texts: Sequence[str], argument: str) -> list[EncodedPrompt]:
    prompts = encode_prompts(lm, texts, path=argument)
    if all(token.special for prompt in prompts for token in prompt.tokens):
        reason = "There is no token in these texts but special ones, which never count."
        raise TaskError(reason, "INVALID", (argument,))
    return prompts


def _mean(
    task: ContrastNeurons,
    context: TaskContext,
    lm: LanguageModel,
    sae: Sae,
    prompts: Sequence[EncodedPrompt],
    argument: str,
) -> Tensor:
    """Return the mean latents over all tokens that count, float64 [n_latents] on the CPU.

    TaskError (INVALID, at ``argument``) where none is left.
    """
    wide = float64_device(torch.device(sae.context.device))
    sums = torch.zeros(sae.context.n_latents, dtype=torch.float64, device=wide)
    token_count = 0
    for numbers in batches([prompt.tokens for prompt in prompts], sae.context.n_latents):
        context.check()
        batch, token_mask = prompt_batch(lm, sae, [prompts[number] for number in numbers])

        def read(sparse: SparseLatents, first: int, token_mask: Tensor = token_mask) -> None:
            here = sparse.only(token_mask.flatten()[first + sparse.rows]).to(wide)
            sums.index_add_(0, here.neurons, here.values.double())

        token_count += int(
            read_latents(lm, sae, task.sae.layer, batch, token_mask, read, task.exclusions).sum()
        )
    if token_count == 0:
        reason = "All tokens of these texts are left out: exclude less, or take longer texts."
        raise TaskError(reason, "INVALID", (argument,))
    return (sums / token_count).cpu()
