"""The neurons that fire most on prompts."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.context import TaskContext
from gql_server.compute.forward import model_device, stopping_after
from gql_server.compute.hooks import SaeHook, attached
from gql_server.compute.messages import (
    FindTopNeurons,
    PromptNeurons,
    PromptToken,
    TokenNeurons,
    TopNeuronsResult,
)
from gql_server.compute.padding import pad
from gql_server.compute.prompts import EncodedPrompt, encode_prompts
from gql_server.compute.ranking import strongest, strongest_per_row

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

_MAX_LATENTS_PER_BATCH = 2**26
"""Values of one batch's latents: 256 MB."""


def find_top_neurons(
    task: FindTopNeurons, context: TaskContext, lm: LanguageModel, sae: Sae
) -> TopNeuronsResult:
    """Rank neurons on each prompt by their highest activation on its tokens, special tokens left out.

    TaskError (INVALID) where a prompt is longer than the model.
    """
    prompts = encode_prompts(lm, task.prompts)
    results: dict[int, PromptNeurons] = {}
    for batch in _batches([prompt.tokens for prompt in prompts], task.sae.n_latents):
        context.check()
        all_latents = _latents(lm, sae, task.sae.layer, [prompts[index] for index in batch])
        for index, latents in zip(batch, all_latents, strict=True):
            results[index] = _rank(prompts[index], latents, task.first, task.per_token)
    return TopNeuronsResult([results[index] for index in range(len(prompts))])


def _batches(prompts: Sequence[list[PromptToken]], n_latents: int) -> Iterator[list[int]]:
    """Split prompts, shortest first, so that a batch's padded latents stay within bounds."""
    batch: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda index: len(prompts[index])):
        width = max(1, len(prompts[index]))
        if batch and (len(batch) + 1) * width * n_latents > _MAX_LATENTS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _latents(lm: LanguageModel, sae: Sae, layer: str, prompts: Sequence[EncodedPrompt]) -> list[Tensor]:
    """Return each prompt's latents [n_tokens, n_latents] at the layer."""
    ids = [prompt.token_ids for prompt in prompts]
    if not any(ids):
        return [torch.zeros(0, sae.context.n_latents) for _ in ids]
    batch = pad(ids, "right", model_device(lm))
    hook = SaeHook(sae)
    with torch.inference_mode(), attached(lm, layer, hook), stopping_after(lm, layer):
        lm.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    assert hook.latents is not None
    return [latents[: len(tokens)] for latents, tokens in zip(hook.latents, ids, strict=True)]


def _rank(prompt: EncodedPrompt, latents: Tensor, first: int, per_token: bool) -> PromptNeurons:
    special = torch.tensor(
        [token.special for token in prompt.tokens], dtype=torch.bool, device=latents.device
    )
    counted = latents.masked_fill(special[:, None], 0.0)
    neurons = []
    if len(counted):
        peaks = counted.max(dim=0)
        neurons = strongest(peaks.values, peaks.indices, first)
    lists = strongest_per_row(counted, first) if per_token else []
    tokens = [
        TokenNeurons(token.index, token.text, ranked)
        for token, ranked in zip(prompt.tokens, lists, strict=False)
    ]
    return PromptNeurons(prompt.prompt, prompt.tokens, neurons, tokens)
