"""Which texts go through the language model together: batches are joined or cut to one size of pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from gql_server.artifacts.manifest import PlannedBatch

MIN_CPU_TOKENS, CPU_TOKENS_PER_THREAD = 1024, 512
"""Tokens of a forward pass on a CPU, padding among them. Measured on two cores: with twice or half as many a
SmolLM2-135M is 3 and 8 percent slower, with eight times as many 33, as they no longer fit into the caches."""
GPU_TOKENS = 16_384
"""Tokens of a forward pass on a GPU, which fewer tokens would leave mostly idle."""
MOST_PADDED = 1.0625
"""Limit for joining batches: tokens of the joint pass over tokens of the separate ones, padding included."""


@dataclass(frozen=True)
class Part:
    """Neighboring texts of a batch that are neighbors in a forward pass as well."""

    batch: int
    texts: slice
    """Places in the batch."""
    places: slice
    """Places in the pass."""


@dataclass(frozen=True)
class ForwardPass:
    """The dataset rows of one pass through the model, and their lengths in tokens."""

    rows: list[int]
    lengths: list[int]
    parts: list[Part]
    pieces: list[int] = field(default_factory=list)
    """Which piece of its text each is, where long texts are split; else there is none."""

    @property
    def width(self) -> int:
        """Return how many positions there are."""
        return max(self.lengths)


def tokens_per_pass(device: torch.device) -> int:
    """Return how many tokens a pass has at most, unless one text has more."""
    if device.type != "cpu":
        return GPU_TOKENS
    return max(MIN_CPU_TOKENS, CPU_TOKENS_PER_THREAD * torch.get_num_threads())


def joined(batches: Sequence[PlannedBatch], max_tokens: int) -> Iterator[list[int]]:
    """Give the indices of neighboring batches that go through the model in one pass, all of them once.

    It depends on the plan alone, and not on which batches are stored already: the last bits of a text's
    activations depend on the texts beside it, and a capture that goes on must store the same.
    """
    group: list[int] = []
    n_texts = longest = alone = 0
    for index, batch in enumerate(batches):
        n, width = len(batch.rows), max(batch.lengths)
        together = (n_texts + n) * max(longest, width)
        if group and (together > max_tokens or together > MOST_PADDED * (alone + n * width)):
            yield group
            group, n_texts, longest, alone = [], 0, 0, 0
        group.append(index)
        n_texts, longest, alone = n_texts + n, max(longest, width), alone + n * width
    if group:
        yield group


def passes(batches: Sequence[PlannedBatch], group: Sequence[int], max_tokens: int) -> Iterator[ForwardPass]:
    """Give the passes of a group of batches: one, or several even ones where a batch has too many tokens."""
    if len(group) == 1:
        yield from _cut(group[0], batches[group[0]], max_tokens)
        return
    rows: list[int] = []
    lengths: list[int] = []
    pieces: list[int] = []
    parts = []
    for index in group:
        n = len(batches[index].rows)
        parts.append(Part(index, slice(0, n), slice(len(rows), len(rows) + n)))
        rows += batches[index].rows
        lengths += batches[index].lengths
        pieces += batches[index].pieces
    yield ForwardPass(rows, lengths, parts, pieces)


def _cut(index: int, batch: PlannedBatch, max_tokens: int) -> Iterator[ForwardPass]:
    n = len(batch.rows)
    n_passes = -(-n // max(1, max_tokens // max(batch.lengths)))
    for number in range(n_passes):
        texts = slice(n * number // n_passes, n * (number + 1) // n_passes)
        part = Part(index, texts, slice(0, texts.stop - texts.start))
        yield ForwardPass(batch.rows[texts], batch.lengths[texts], [part], batch.pieces[texts])
