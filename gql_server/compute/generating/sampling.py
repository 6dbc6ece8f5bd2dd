"""Choosing the next token of one prompt from the model's logits."""

import hashlib

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gql_server.compute.worker.context import TaskError
from gql_server.protocol.tasks import Generate


class Sampler:
    """Draws one prompt's tokens from a random stream of its own: the same alone and beside other prompts.

    Temperature 0 takes the most probable token. The repetition penalty counts the prompt and the output, no
    padding. TaskError (INVALID) where the two make numbers that float32 cannot hold.
    """

    def __init__(self, task: Generate, prompt_index: int) -> None:
        self._greedy = task.temperature == 0
        self._path = ("repetitionPenalty",) if self._greedy else ("temperature",)
        self._processors = _processors(task)
        self._generator = torch.Generator().manual_seed(_stream_seed(task.seed, prompt_index))

    def choose(self, token_ids: list[int], logits: Tensor) -> int:
        """Choose the token after ``token_ids`` from float32 logits [vocabulary] on the CPU."""
        scores: Tensor = self._processors(torch.LongTensor([token_ids]), logits[None].clone())[0]
        if not scores.max().isfinite():
            reason = "Temperature and repetition penalty drive numbers out of range; take them nearer to 1."
            raise TaskError(reason, "INVALID", self._path)
        if self._greedy:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(dim=0), 1, generator=self._generator))


def _processors(task: Generate) -> LogitsProcessorList:
    """Arrange transformers' processors in its own order."""
    processors = LogitsProcessorList()
    if task.repetition_penalty is not None and task.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(task.repetition_penalty))
    if task.temperature == 0:
        return processors
    if task.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(task.temperature))
    if task.top_k is not None:
        processors.append(TopKLogitsWarper(task.top_k))
    if task.top_p is not None and task.top_p < 1.0:
        processors.append(TopPLogitsWarper(task.top_p))
    return processors


def _stream_seed(seed: int, prompt_index: int) -> int:
    digest = hashlib.sha256(f"{seed}:{prompt_index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
