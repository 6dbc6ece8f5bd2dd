"""The latents of some tokens without their zeros, which are nearly all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.saes.affine_engine import AffineEngine
from gql_server.compute.saes.finite import all_finite, encode
from gql_server.compute.saes.linear_engine import LinearEngine, has_linear_engine

from mi_crow.mechanistic.sae.sae import Sae


@dataclass(frozen=True)
class Codes:
    """The latents of n rows that are not zero: three tensors [n_firings], ordered by row."""

    rows: Tensor
    neurons: Tensor
    values: Tensor
    n_rows: int
    n_latents: int

    @classmethod
    def of(cls, latents: Tensor) -> "Codes":
        """Leave out the zeros of latents [n_rows, n_latents]."""
        flat = latents.reshape(-1)
        places = flat.nonzero().view(-1)
        rows = places // latents.shape[1]
        return cls(rows, places - rows * latents.shape[1], flat[places].float(), *latents.shape)

    @classmethod
    def joined(cls, parts: Sequence["Codes"]) -> "Codes":
        """Put the codes of consecutive rows together; there is at least one part."""
        if len(parts) == 1:
            return parts[0]
        firsts = [0, *accumulate(part.n_rows for part in parts)]
        return cls(
            torch.cat([part.rows + first for part, first in zip(parts, firsts, strict=False)]),
            torch.cat([part.neurons for part in parts]),
            torch.cat([part.values for part in parts]),
            firsts[-1],
            parts[0].n_latents,
        )

    def only(self, wanted: Tensor) -> "Codes":
        """Leave out what is not ``wanted``, bool [n_firings]."""
        return replace(self, rows=self.rows[wanted], neurons=self.neurons[wanted], values=self.values[wanted])

    def to(self, device: torch.device | str) -> "Codes":
        """Return them on a device."""
        return replace(
            self,
            rows=self.rows.to(device),
            neurons=self.neurons.to(device),
            values=self.values.to(device),
        )

    def by_row(self) -> list[tuple[Tensor, Tensor]]:
        """Return each row's neurons and values."""
        stops = [*self.begins().tolist(), len(self.rows)]
        return [(self.neurons[begin:end], self.values[begin:end]) for begin, end in pairwise(stops)]

    def begins(self) -> Tensor:
        """Return where each row's begin among them: int64 [n_rows]."""
        return torch.searchsorted(self.rows, torch.arange(self.n_rows, device=self.rows.device))

    def dense(self) -> Tensor:
        """Return them with their zeros, [n_rows, n_latents]."""
        latents = torch.zeros(self.n_rows, self.n_latents, dtype=self.values.dtype, device=self.values.device)
        latents[self.rows, self.neurons] = self.values
        return latents


def codes_of(sae: Sae, activations: Tensor, counted: Tensor | None = None) -> Codes:
    """Return the codes of activations [n_rows, n_inputs], as they were encoded, before edits.

    ``counted`` [n_rows] says on which rows they matter, None that they do on all. TaskError (CONFLICT) where
    they are not finite there.
    """
    codes = _encoded(sae, activations)
    if not all_finite(codes.values):
        # Says so, where it matters.
        encode(sae, activations, counted)
    return codes


def _encoded(sae: Sae, activations: Tensor) -> Codes:
    """Encode, without passes over all latents where the engine is known."""
    engine = sae.sae_engine
    if not isinstance(engine, AffineEngine):
        if not has_linear_engine(sae):
            return Codes.of(sae.encode(activations))
        engine = LinearEngine(sae)
    with torch.no_grad():
        places = engine.places(activations)
        latents = engine.activate_at(places.values, places.pattern)
    pattern = places.pattern
    codes = Codes(pattern.tokens, pattern.neurons, latents.float(), pattern.n_tokens, pattern.n_latents)
    return codes.only(latents != 0)
