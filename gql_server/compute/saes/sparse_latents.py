"""Sparse latents: those of some rows that are active, without the others; k of thousands each.

Of a token's latents nearly all are zero. What comes after the encoder's product touches the active ones
alone: ranking, decoding, and the gradients of a training step (Gao et al. 2024, Scaling and evaluating sparse
autoencoders, on sparse kernels). They are a sparse matrix [n_rows, n_latents], kept row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from gql_server.compute.saes.selection import above

MAX_DENSE_LATENTS = 2**25
"""Pre-activations dense in memory at once: 128 MB of float32. Less makes the encoder's product slower."""


@dataclass(frozen=True)
class SparsityPattern:
    """Which latents of which rows may be active: the places of a sparse matrix [n_rows, n_latents].

    ``neurons`` [n_places], int64, row by row; those of row r are from ``offsets[r]`` to ``offsets[r + 1]``,
    int64 [n_rows + 1].
    """

    neurons: Tensor
    offsets: Tensor
    n_latents: int

    @classmethod
    def of(cls, rows: Tensor, neurons: Tensor, shape: Sequence[int]) -> "SparsityPattern":
        """Make it of rows, ascending, and neurons [n_places], for a shape [n_rows, n_latents]."""
        n_rows, n_latents = shape
        return cls(neurons, _offsets(_counts(rows, n_rows)), n_latents)

    @property
    def n_rows(self) -> int:
        """How many rows the matrix has."""
        return len(self.offsets) - 1

    @cached_property
    def rows(self) -> Tensor:
        """To which row each place belongs: int64 [n_places]."""
        numbers = torch.arange(self.n_rows, device=self.neurons.device)
        return torch.repeat_interleave(numbers, self.offsets.diff(), output_size=len(self.neurons))

    @cached_property
    def _by_neuron(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the order of the transposed matrix, its places' rows, and its offsets [n_latents + 1]."""
        order = self.neurons.argsort(stable=True)
        return order, self.rows[order], _offsets(_counts(self.neurons, self.n_latents))

    def times(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Multiply the sparse matrix of ``values`` [n_places] with one [n_latents, n]: [n_rows, n]."""
        return _bags(self.neurons, self.offsets, values, matrix)

    def transposed_times(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Multiply its transpose with one [n_rows, n]: [n_latents, n]."""
        order, rows, offsets = self._by_neuron
        return _bags(rows, offsets, values[order], matrix)

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """Return left [n_rows, n] times the transpose of right [n_latents, n] at the places: [n_places]."""
        # torch has no public operation for it but embedding_bag's gradient for the weights of its samples.
        products: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            left, right, self.neurons, self.offsets, self.rows, 0
        )
        return products

    def sums(self, values: Tensor) -> Tensor:
        """Return each neuron's sum of values: [n_latents]."""
        order, _, offsets = self._by_neuron
        # In an order of its own on any device, as adding to places of a GPU's memory is not.
        return torch.segment_reduce(values[order], "sum", offsets=offsets)

    def fired(self, active: Tensor) -> Tensor:
        """Say which neurons have a place for which ``active`` [n_places] is true: bool [n_latents]."""
        counts = torch.zeros(self.n_latents, dtype=torch.int64, device=active.device)
        return counts.scatter_add_(0, self.neurons, active.long()) > 0

    def where(self, kept: Tensor) -> "SparsityPattern":
        """Keep the places for which ``kept`` [n_places] is true."""
        return SparsityPattern(self.neurons[kept], _offsets(kept)[self.offsets], self.n_latents)


def _bags(indices: Tensor, offsets: Tensor, weights: Tensor, matrix: Tensor) -> Tensor:
    """Return weighted sums of a matrix's rows, one for each bag of indices."""
    return embedding_bag(
        indices, matrix, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _counts(numbers: Tensor, n: int) -> Tensor:
    """Count how often each number below n is there; as torch.bincount, which waits for the device."""
    counts = torch.zeros(n, dtype=torch.int64, device=numbers.device)
    return counts.scatter_add_(0, numbers, torch.ones_like(numbers))


def _offsets(counts: Tensor) -> Tensor:
    """Return where each of some consecutive parts begins, and where the last one ends."""
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets


@dataclass(frozen=True)
class SparseLatents:
    """Some rows' ``values`` [n_places] at a pattern's places: latents, or pre-activations."""

    values: Tensor
    pattern: SparsityPattern

    @classmethod
    def of(cls, latents: Tensor) -> "SparseLatents":
        """Leave out the zeros of latents [n_rows, n_latents]."""
        flat = latents.reshape(-1)
        places = flat.nonzero().view(-1)
        rows = places // latents.shape[1]
        pattern = SparsityPattern.of(rows, places - rows * latents.shape[1], latents.shape)
        return cls(flat[places], pattern)

    @classmethod
    def of_each(cls, values: Tensor, neurons: Tensor, n_latents: int) -> "SparseLatents":
        """Make them of equally many for each row: values and neurons [n_rows, k]."""
        n_rows, k = neurons.shape
        offsets = torch.arange(0, n_rows * k + 1, k, device=neurons.device)
        return cls(values.flatten(), SparsityPattern(neurons.flatten(), offsets, n_latents))

    @classmethod
    def of_pairs(cls, by_row: Sequence[tuple[Tensor, Tensor]], n_latents: int) -> "SparseLatents":
        """Make them of each row's neurons and values; there is at least one row."""
        neurons, values = zip(*by_row, strict=True)
        counts = torch.tensor([len(found) for found in values], device=values[0].device)
        return cls(torch.cat(values), SparsityPattern(torch.cat(neurons), _offsets(counts), n_latents))

    @classmethod
    def above(cls, values: Tensor, bound: Tensor | float) -> "SparseLatents":
        """Make them of the values [n_rows, n_latents] above a bound, and of those that are NaN."""
        rows, neurons, found = above(values, bound)
        return cls(found, SparsityPattern.of(rows, neurons, values.shape))

    @classmethod
    def joined(cls, parts: "Sequence[SparseLatents]") -> "SparseLatents":
        """Put those of consecutive rows together; there is at least one part."""
        if len(parts) == 1:
            return parts[0]
        patterns = [part.pattern for part in parts]
        counts = torch.cat([pattern.offsets.diff() for pattern in patterns])
        neurons = torch.cat([pattern.neurons for pattern in patterns])
        values = torch.cat([part.values for part in parts])
        return cls(values, SparsityPattern(neurons, _offsets(counts), patterns[0].n_latents))

    @property
    def rows(self) -> Tensor:
        """The pattern's."""
        return self.pattern.rows

    @property
    def neurons(self) -> Tensor:
        """The pattern's."""
        return self.pattern.neurons

    def only(self, wanted: Tensor) -> "SparseLatents":
        """Keep those for which ``wanted``, bool [n_places], is true; the rows stay."""
        return SparseLatents(self.values[wanted], self.pattern.where(wanted))

    def to(self, device: torch.device | str) -> "SparseLatents":
        """Return them on a device."""
        pattern = self.pattern
        neurons, offsets = pattern.neurons.to(device), pattern.offsets.to(device)
        return SparseLatents(self.values.to(device), SparsityPattern(neurons, offsets, pattern.n_latents))

    def by_row(self) -> list[tuple[Tensor, Tensor]]:
        """Return each row's neurons and values."""
        stops = pairwise(self.pattern.offsets.tolist())
        return [(self.neurons[begin:end], self.values[begin:end]) for begin, end in stops]

    def of_rows(self, rows: Sequence[int]) -> "SparseLatents":
        """Return some of the rows, in this order."""
        by_row = self.by_row()
        return SparseLatents.of_pairs([by_row[row] for row in rows], self.pattern.n_latents)

    def between(self, begin: int, end: int) -> "SparseLatents":
        """Return consecutive rows."""
        offsets = self.pattern.offsets[begin : end + 1]
        first, stop = int(offsets[0]), int(offsets[-1])
        pattern = SparsityPattern(self.neurons[first:stop], offsets - first, self.pattern.n_latents)
        return SparseLatents(self.values[first:stop], pattern)

    def dense(self) -> Tensor:
        """Return them with their zeros, [n_rows, n_latents]."""
        latents = self.values.new_zeros(self.pattern.n_rows, self.pattern.n_latents)
        latents[self.rows, self.neurons] = self.values
        return latents


def chunks(rows: Tensor, n_latents: int) -> tuple[Tensor, ...]:
    """Cut rows [n, n_inputs] so that a chunk's latents are at most MAX_DENSE_LATENTS."""
    parts: tuple[Tensor, ...] = rows.split(max(1, MAX_DENSE_LATENTS // n_latents))
    return parts
