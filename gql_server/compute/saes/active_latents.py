"""The latents that are active, without the others: k of thousands per token.

Of a token's latents nearly all are zero. What comes after the encoder's product touches the active ones
alone: decoding, and the gradients of a training step (Gao et al. 2024, Scaling and evaluating sparse
autoencoders, on sparse kernels). The latents are then a sparse matrix [n_tokens, n_latents], kept row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from gql_server.compute.saes.selection import above

MAX_DENSE_LATENTS = 2**25
"""Pre-codes that are dense in memory at once: 128 MB of float32. Less makes the encoder's product slower."""


@dataclass(frozen=True)
class Pattern:
    """Which latents of which tokens may be active: the places of a sparse matrix [n_tokens, n_latents].

    ``neurons`` [n_places], int64, token by token; those of token t are from ``offsets[t]`` to
    ``offsets[t + 1]``, int64 [n_tokens + 1].
    """

    neurons: Tensor
    offsets: Tensor
    n_latents: int

    @classmethod
    def of(cls, tokens: Tensor, neurons: Tensor, shape: Sequence[int]) -> "Pattern":
        """Make it of tokens, ascending, and neurons [n_places], for a shape [n_tokens, n_latents]."""
        n_tokens, n_latents = shape
        return cls(neurons, _offsets(torch.bincount(tokens, minlength=n_tokens)), n_latents)

    @property
    def n_tokens(self) -> int:
        """How many rows the matrix has."""
        return len(self.offsets) - 1

    @cached_property
    def tokens(self) -> Tensor:
        """To which token each place belongs: int64 [n_places]."""
        numbers = torch.arange(self.n_tokens, device=self.neurons.device)
        return torch.repeat_interleave(numbers, self.offsets.diff(), output_size=len(self.neurons))

    @cached_property
    def _by_neuron(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the order of the transposed matrix, its places' tokens, and its offsets [n_latents + 1]."""
        order = self.neurons.argsort(stable=True)
        counts = torch.bincount(self.neurons, minlength=self.n_latents)
        return order, self.tokens[order], _offsets(counts)

    def times(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Multiply the sparse matrix of ``values`` [n_places] with one [n_latents, n]: [n_tokens, n]."""
        return _bags(self.neurons, self.offsets, values, matrix)

    def transposed_times(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Multiply its transpose with one [n_tokens, n]: [n_latents, n]."""
        order, tokens, offsets = self._by_neuron
        return _bags(tokens, offsets, values[order], matrix)

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """Return left [n_tokens, n] times the transpose of right [n_latents, n] at the places: [n_places]."""
        # torch has no public operation for it but embedding_bag's gradient for the weights of its samples.
        products: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            left, right, self.neurons, self.offsets, self.tokens, 0
        )
        return products

    def sums(self, values: Tensor) -> Tensor:
        """Return each neuron's sum of values: [n_latents]."""
        return torch.bincount(self.neurons, values, minlength=self.n_latents).to(values.dtype)

    def where(self, kept: Tensor) -> "Pattern":
        """Keep the places for which ``kept`` [n_places] is true."""
        return Pattern(self.neurons[kept], _offsets(kept)[self.offsets], self.n_latents)


def _bags(indices: Tensor, offsets: Tensor, weights: Tensor, matrix: Tensor) -> Tensor:
    """Return weighted sums of a matrix's rows, one for each bag of indices."""
    return embedding_bag(
        indices, matrix, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _offsets(counts: Tensor) -> Tensor:
    """Return where each of some consecutive parts begins, and where the last one ends."""
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets


@dataclass(frozen=True)
class Places:
    """Some tokens' ``values`` [n_places] at a pattern's places: pre-codes, or latents."""

    values: Tensor
    pattern: Pattern

    @classmethod
    def of_each(cls, values: Tensor, neurons: Tensor, n_latents: int) -> "Places":
        """Make them of equally many for each token: values and neurons [n_tokens, k]."""
        n_tokens, k = neurons.shape
        offsets = torch.arange(0, n_tokens * k + 1, k, device=neurons.device)
        return cls(values.flatten(), Pattern(neurons.flatten(), offsets, n_latents))

    @classmethod
    def above(cls, values: Tensor, bound: Tensor | float) -> "Places":
        """Make them of the values [n_tokens, n_latents] above a bound, and of those that are NaN."""
        tokens, neurons, found = above(values, bound)
        return cls(found, Pattern.of(tokens, neurons, values.shape))

    @classmethod
    def at(cls, values: Tensor, there: Tensor) -> "Places":
        """Make them of the values [n_tokens, n_latents] for which ``there``, bool, is true."""
        tokens, neurons = there.nonzero(as_tuple=True)
        return cls(values[tokens, neurons], Pattern.of(tokens, neurons, values.shape))

    @classmethod
    def joined(cls, parts: "Sequence[Places]") -> "Places":
        """Put those of consecutive tokens together; there is at least one part."""
        if len(parts) == 1:
            return parts[0]
        patterns = [part.pattern for part in parts]
        counts = torch.cat([pattern.offsets.diff() for pattern in patterns])
        neurons = torch.cat([pattern.neurons for pattern in patterns])
        values = torch.cat([part.values for part in parts])
        return cls(values, Pattern(neurons, _offsets(counts), patterns[0].n_latents))

    def where(self, kept: Tensor) -> "Places":
        """Keep those for which ``kept`` [n_places] is true."""
        return Places(self.values[kept], self.pattern.where(kept))


def portions(rows: Tensor, n_latents: int) -> tuple[Tensor, ...]:
    """Cut rows [n, n_inputs] so that a portion's latents are at most MAX_DENSE_LATENTS."""
    parts: tuple[Tensor, ...] = rows.split(max(1, MAX_DENSE_LATENTS // n_latents))
    return parts
