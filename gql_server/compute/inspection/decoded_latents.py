"""An SAE on a layer's output for one prompt: what its latents contribute, and the output without one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.encoding import all_finite, decode, skipped, sparse_latents_of
from gql_server.compute.saes.hooks import MAX_HOOK_LATENTS
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.training.metrics import float64
from gql_server.compute.worker.context import TaskError

from mi_crow.mechanistic.sae.sae import Sae


@dataclass(frozen=True)
class OutputEffects:
    """A gradient times the parts of a layer's output."""

    neurons: SparseLatents
    """Times each latent's own part of the reconstruction, at its place."""
    error: float
    """Times what the SAE does not reconstruct, where tokens count."""
    bias: float
    """Times the reconstruction of no latents, where tokens count: the decoder's bias and, in a transcoder
    with a skip connection, what that makes of its input."""


class DecodedLatents:
    """The latents of activations, and their reconstruction; rows that do not count have none."""

    def __init__(self, sae: Sae, activations: Tensor, counts: Tensor, written: Tensor | None = None) -> None:
        """Encode activations [n_tokens, n_inputs], float32 on the SAE's device; ``counts`` [n_tokens], bool.

        ``written`` [n_tokens, n_outputs] is what a transcoder reconstructs; None for the activations.

        TaskError CONFLICT where latents or reconstructions that count are not finite.
        """
        self._sae, self._engine = sae, engine_of(sae)
        self._activations, self._counts = activations, counts
        self._output = activations if written is None else written
        size = max(1, MAX_HOOK_LATENTS // sae.context.n_latents)
        self._chunks = [slice(first, first + size) for first in range(0, len(activations), size)]
        with torch.no_grad():
            self._parts = [self._encode(chunk) for chunk in self._chunks]
        self.sparse = SparseLatents.joined(self._parts)
        """Of all rows."""

    def _encode(self, chunk: slice) -> SparseLatents:
        counts = self._counts[chunk]
        sparse = sparse_latents_of(self._sae, self._activations[chunk], counts)
        return sparse.only(counts[sparse.rows])

    def of_neuron(self, neuron: int) -> Tensor:
        """Return a neuron's latents, [n_tokens]."""
        return column(self.sparse, neuron)

    def without(self, neuron: int) -> Tensor:
        """Return the layer's output [n_tokens, n_outputs] with a neuron's latents put to 0, the error kept.

        As steering with multiplier 0 in ERROR_PRESERVING mode.
        """
        latents = self.of_neuron(neuron)
        rows = latents.nonzero().flatten()
        changed = self._output.clone()
        with torch.no_grad():
            if self._engine is not None:
                change = latents[rows, None] * self._engine.get_dictionary()[neuron]
                changed[rows] -= self._engine.scaled(change, self._activations[rows])
                return changed
            for some in rows.split(self._chunks[0].stop):
                before = self.sparse.of_rows(some.tolist()).dense()
                after = before.clone()
                after[:, neuron] = 0
                changed[some] += self._sae.decode(after) - self._sae.decode(before)
        return changed

    def effects(self, gradient: Tensor) -> OutputEffects:
        """Multiply a gradient [n_tokens, n_outputs], float32 on the SAE's device, with the output's parts."""
        of_neurons, error, bias = [], 0.0, 0.0
        for chunk, sparse in zip(self._chunks, self._parts, strict=True):
            x = self._activations[chunk]
            reconstruction, products = self._decode(sparse, x, gradient[chunk])
            counts = self._counts[chunk]
            with torch.no_grad():
                skip = skipped(self._sae, x)
            if skip is not None:
                reconstruction = reconstruction + skip
                bias += float((float64(gradient[chunk][counts]) * float64(skip[counts])).sum())
            rest = (self._output[chunk] - reconstruction)[counts]
            error += float((float64(gradient[chunk][counts]) * float64(rest)).sum())
            of_neurons.append(SparseLatents(sparse.values * products, sparse.pattern))
        with torch.no_grad():
            no_latents = self._activations.new_zeros(1, self._sae.context.n_latents)
            nothing = decode(self._sae, no_latents, of=self._activations[self._counts])
        bias += float((float64(gradient[self._counts]) * float64(nothing)).sum())
        return OutputEffects(SparseLatents.joined(of_neurons), error, bias)

    def _decode(self, sparse: SparseLatents, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction of x [n, n_inputs], and the gradient for each latent, [n_places].

        What x was normalized by, where it was, is held constant, as the error is.
        """
        if self._engine is not None:
            with torch.no_grad():
                reconstruction = self._engine.decode_sparse(sparse, x)
                if not all_finite(reconstruction):
                    decode(self._sae, sparse.dense(), of=x)  # Says so.
                gradient = self._engine.scaled(gradient, x)
                return reconstruction, sparse.pattern.products(gradient, self._engine.get_dictionary())
        with torch.enable_grad():
            latents = sparse.dense().requires_grad_()
            reconstruction = decode(self._sae, latents, of=x)
            if not reconstruction.requires_grad:
                reason = f"{type(self._sae).__name__}.decode has no gradients, so nothing can be attributed."
                raise TaskError(reason, "CONFLICT")
            (of_latents,) = torch.autograd.grad(reconstruction, latents, gradient)
        return reconstruction.detach(), of_latents[sparse.rows, sparse.neurons]


def column(sparse: SparseLatents, neuron: int) -> Tensor:
    """Return a neuron's values with their zeros, [n_rows]."""
    found = sparse.neurons == neuron
    values = sparse.values.new_zeros(sparse.pattern.n_rows)
    values[sparse.rows[found]] = sparse.values[found]
    return values
