"""The neurons that fire most on prompts."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.inspection.peaks import PromptLatents
from gql_server.compute.inspection.ranking import strongest, strongest_per_row
from gql_server.compute.language_models.forward import model_device, stopping_after
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.language_models.padding import PaddedBatch, marks, pad
from gql_server.compute.language_models.prompts import EncodedPrompt, encode_prompts
from gql_server.compute.saes.hooks import Reader, SaeHook, attached
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import TaskContext
from gql_server.protocol.events import NeuronActivationMessage, PromptToken
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import PromptNeurons, TokenNeurons, TopNeuronsResult
from gql_server.protocol.tasks import FindTopNeurons

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

_MAX_LATENTS_PER_BATCH = 2**26
"""Values of one batch's latents: 256 MB."""


def find_top_neurons(
    task: FindTopNeurons, context: TaskContext, lm: LanguageModel, sae: Sae
) -> TopNeuronsResult:
    """Rank neurons on each prompt by their highest activation on its tokens that count.

    TaskError (INVALID) where a prompt is longer than the model.
    """
    prompts = encode_prompts(lm, task.prompts, task.chats)
    results: dict[int, PromptNeurons] = {}
    for batch in batches([prompt.tokens for prompt in prompts], task.sae.n_latents):
        context.check()
        ranked = _rank(task, lm, sae, [prompts[index] for index in batch])
        results.update(zip(batch, ranked, strict=True))
    return TopNeuronsResult([results[index] for index in range(len(prompts))])


def batches(prompts: Sequence[list[PromptToken]], n_latents: int) -> Iterator[list[int]]:
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


def _rank(
    task: FindTopNeurons, lm: LanguageModel, sae: Sae, prompts: Sequence[EncodedPrompt]
) -> list[PromptNeurons]:
    """Rank the neurons on each prompt in one pass."""
    batch, token_mask = prompt_batch(lm, sae, prompts)
    kept = PromptLatents(token_mask, sae.context.n_latents, token_mask.device)
    per_position: list[list[NeuronActivationMessage]] = []

    def read(sparse: SparseLatents, first: int) -> None:
        kept.add(sparse, first)
        if task.per_token:
            here = token_mask.flatten()[first + sparse.rows]
            per_position.extend(strongest_per_row(sparse.only(here), task.first))

    read_latents(lm, sae, task.sae.layer, batch, token_mask, read, task.exclusions)
    values, places = (tensor.cpu() for tensor in kept.peaks())
    width = batch.input_ids.shape[1]
    return [
        PromptNeurons(
            prompt.prompt,
            prompt.tokens,
            strongest(values[number], places[number], task.first),
            _per_token(prompt, per_position[number * width : (number + 1) * width]),
        )
        for number, prompt in enumerate(prompts)
    ]


def prompt_batch(lm: LanguageModel, sae: Sae, prompts: Sequence[EncodedPrompt]) -> tuple[PaddedBatch, Tensor]:
    """Return prompts as one batch on the model's device, and which of its positions count.

    Those are neither padding nor special tokens: bool [n_prompts, n_positions], on the SAE's device.
    """
    batch = pad([prompt.token_ids for prompt in prompts], "right", model_device(lm))
    mask = batch.attention_mask.bool() & ~marks(batch.input_ids, special_token_ids(lm))
    return batch, mask.to(sae.context.device)


def read_latents(
    lm: LanguageModel,
    sae: Sae,
    layer: str,
    batch: PaddedBatch,
    token_mask: Tensor,
    read: Reader,
    exclusions: Exclusions,
) -> Tensor:
    """Pass the latents of every position at the layer to ``read``; prompts without a token have none.

    Returns ``token_mask`` [n_prompts, n_positions] without the excluded positions, which have no latents.
    TaskError (CONFLICT) where latents are not finite at one of the others.
    """
    if batch.input_ids.shape[1] == 0:
        return token_mask
    hook = SaeHook(sae, exclusions=exclusions)
    hook.positions = batch.text_positions
    hook.reader, hook.report_mask = read, token_mask
    with torch.inference_mode(), attached(lm, layer, hook), stopping_after(lm, layer):
        lm.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    if hook.excluded is None:
        return token_mask
    return token_mask & ~hook.excluded.view(token_mask.shape).to(token_mask.device)


def _per_token(prompt: EncodedPrompt, ranked: list[list[NeuronActivationMessage]]) -> list[TokenNeurons]:
    return [
        TokenNeurons(token.index, token.text, neurons)
        for token, neurons in zip(prompt.tokens, ranked, strict=False)
    ]
