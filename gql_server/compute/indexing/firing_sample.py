"""The firings of a run's texts, or of a sample of them where there are too many to keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gql_server.compute.indexing.draws import DRAW_BITS, draws_of_texts
from gql_server.compute.indexing.statistics import Firings
from gql_server.compute.indexing.strongest_texts import TextGroup

MAX_FIRINGS = 2**23
"""Firings that are kept: 100 MB, and four times that while they are compared."""
MAX_PAIRS = 2**29
"""Pairs of firings on one token, over all tokens: the time that correlations take is in proportion."""
Integers = NDArray[np.int32]


@dataclass(frozen=True)
class KeptFirings:
    """Firings [n_firings], ordered by token, and these tokens; a token without any has no row."""

    rows: Integers
    """Each firing's token, counted over the tokens with firings."""
    neurons: Integers
    values: NDArray[np.float32]
    row_texts: Integers
    """The number of the text that each of these tokens is in."""
    token_count: int
    """Tokens that count of the texts that are kept, whether anything fires on them or not."""
    is_whole: bool
    """Whether all texts are kept."""
    below: int
    """The texts whose draw is below are kept."""

    def keeps(self, numbers: Integers) -> NDArray[np.bool_]:
        """Say of texts by their numbers whether they are among those that are kept."""
        kept: NDArray[np.bool_] = draws_of_texts(numbers) < self.below
        return kept


class FiringSample:
    """Keeps the firings of all texts, or else of the half, quarter, … of texts that have the lowest draws."""

    def __init__(self) -> None:
        self._below = 2**DRAW_BITS
        self._parts: list[_Part] = []
        self._n_firings = self._n_pairs = 0

    def add(self, firings: Firings, group: TextGroup) -> None:
        """Take in the firings of a group of whole texts; they are the CPU's."""
        self._keep(_Part.of(firings, group).of_texts_below(self._below))
        while (self._n_firings > MAX_FIRINGS or self._n_pairs > MAX_PAIRS) and self._below > 1:
            self._below //= 2
            parts, self._parts = self._parts, []
            self._n_firings = self._n_pairs = 0
            for part in parts:
                self._keep(part.of_texts_below(self._below))

    def _keep(self, part: "_Part") -> None:
        if len(part.texts) == 0:
            return
        self._parts.append(part)
        self._n_firings += part.size[0]
        self._n_pairs += part.size[1]

    def kept(self) -> KeptFirings:
        """Return what is kept, and forget it."""
        parts, self._parts = self._parts, []
        offsets = np.cumsum([0] + [len(part.row_texts) for part in parts])
        return KeptFirings(
            rows=_joined(
                [part.rows + offset for part, offset in zip(parts, offsets, strict=False)], np.int32
            ),
            neurons=_joined([part.neurons for part in parts], np.int32),
            values=_joined([part.values for part in parts], np.float32),
            row_texts=_joined([part.row_texts for part in parts], np.int32),
            token_count=int(sum(part.token_counts.sum() for part in parts)),
            is_whole=self._below == 2**DRAW_BITS,
            below=self._below,
        )


@dataclass(frozen=True)
class _Part:
    rows: Integers
    neurons: Integers
    values: NDArray[np.float32]
    row_texts: Integers
    texts: NDArray[np.int64]
    token_counts: NDArray[np.int64]

    @classmethod
    def of(cls, firings: Firings, group: TextGroup) -> "_Part":
        tokens, rows = torch.unique_consecutive(firings.positions, return_inverse=True)
        numbers = group.numbers.cpu()
        return cls(
            rows.numpy().astype(np.int32),
            firings.neurons.numpy().astype(np.int32),
            firings.values.numpy(),
            numbers[tokens // group.n_positions].numpy().astype(np.int32),
            numbers.numpy(),
            group.token_counts.cpu().numpy(),
        )

    @cached_property
    def size(self) -> tuple[int, int]:
        """Firings, and pairs of them on one token."""
        counts = np.bincount(self.rows) if len(self.rows) else np.zeros(1, np.int64)
        return len(self.rows), int((counts.astype(np.int64) ** 2).sum())

    def of_texts_below(self, below: int) -> "_Part":
        kept = draws_of_texts(self.texts) < below
        if kept.all():
            return self
        kept_rows = draws_of_texts(self.row_texts) < below
        numbers = np.cumsum(kept_rows, dtype=np.int32) - 1
        here = kept_rows[self.rows]
        return _Part(
            numbers[self.rows[here]],
            self.neurons[here],
            self.values[here],
            self.row_texts[kept_rows],
            self.texts[kept],
            self.token_counts[kept],
        )


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)
