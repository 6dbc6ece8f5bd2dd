"""Chosen neurons' latents on every token of prompts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.inspection.top_neurons import batches, prompt_batch, read_latents
from gql_server.compute.language_models.prompts import EncodedPrompt, encode_prompts
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.results import NeuronActivationsResult, PromptLatentRows
from gql_server.protocol.tasks import ReadNeuronActivations

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae


def read_neuron_activations(
    task: ReadNeuronActivations, context: TaskContext, lm: LanguageModel, sae: Sae
) -> NeuronActivationsResult:
    """Return the neurons' latents [n_neurons, n_tokens] on each prompt; 0 on tokens that do not count.

    TaskError (INVALID) where a prompt is longer than the model, or they have too many tokens in all.
    """
    prompts = encode_prompts(lm, task.prompts, task.chats)
    n_tokens = sum(len(prompt.tokens) for prompt in prompts)
    if n_tokens > task.max_tokens:
        limit = f"for so many neurons the limit is {task.max_tokens:,}"
        reason = f"The prompts have {n_tokens:,} tokens; {limit}."
        raise TaskError(reason, "INVALID", ("prompts",))
    results: dict[int, PromptLatentRows] = {}
    for numbers in batches([prompt.tokens for prompt in prompts], task.sae.n_latents):
        context.check()
        found = _read(task, lm, sae, [prompts[number] for number in numbers])
        results.update(zip(numbers, found, strict=True))
    return NeuronActivationsResult([results[number] for number in range(len(prompts))])


def _read(
    task: ReadNeuronActivations, lm: LanguageModel, sae: Sae, prompts: Sequence[EncodedPrompt]
) -> list[PromptLatentRows]:
    """Read the latents on each prompt in one pass."""
    batch, token_mask = prompt_batch(lm, sae, prompts)
    counts, device = token_mask.flatten(), token_mask.device
    latents = torch.zeros(len(task.neuron_indices), len(counts), device=device)
    row_of = torch.full((sae.context.n_latents,), -1, device=device)
    row_of[torch.tensor(task.neuron_indices, device=device)] = torch.arange(len(latents), device=device)

    def read(sparse: SparseLatents, first: int) -> None:
        rows, positions = row_of[sparse.neurons], first + sparse.rows
        wanted = (rows >= 0) & counts[positions]
        latents[rows[wanted], positions[wanted]] = sparse.values[wanted]

    read_latents(lm, sae, task.sae.layer, batch, token_mask, read, task.exclusions)
    by_prompt = latents.view(len(latents), *token_mask.shape).cpu()
    return [
        PromptLatentRows(
            prompt.prompt, prompt.tokens, float32_bytes(by_prompt[:, number, : len(prompt.tokens)])
        )
        for number, prompt in enumerate(prompts)
    ]


def float32_bytes(values: Tensor) -> bytes:
    """Return numbers as they are sent: little-endian float32, the last dimension running fastest."""
    return values.cpu().numpy().astype("<f4").tobytes()
