"""Decoding sparse latents by the few rows of the dictionary that they name."""

from dataclasses import dataclass

from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.affine_saes import BatchTopKSae, BiasedTopKSae, JumpReLUSae, ReLUSae
from gql_server.compute.saes.linear_engine import has_linear_engine
from gql_server.compute.saes.sparse_latents import SparseLatents

from mi_crow.mechanistic.sae.sae import Sae

_SPARSE = 16
"""A dense product is the faster one where more than one latent of so many is not zero."""


@dataclass(frozen=True)
class LinearDecoder:
    """decode(z) = z weight + bias, with ``weight`` [n_latents, n_inputs] and ``bias`` [n_inputs]."""

    weight: Tensor
    bias: Tensor | None

    def decode(self, sparse: SparseLatents) -> Tensor:
        """Return the reconstruction [n_rows, n_inputs]."""
        if len(sparse.values) * _SPARSE > sparse.pattern.n_rows * sparse.pattern.n_latents:
            reconstruction = sparse.dense() @ self.weight
        else:
            reconstruction = sparse.pattern.times(sparse.values, self.weight)
        return reconstruction if self.bias is None else reconstruction + self.bias


def linear_decoder(sae: Sae) -> LinearDecoder | None:
    """Return the decoder of an SAE in evaluation mode; None where its class may decode in another way."""
    engine = sae.sae_engine
    if type(sae) in (ReLUSae, BiasedTopKSae, BatchTopKSae, JumpReLUSae):
        return LinearDecoder(engine.decoder_weight.detach(), engine.decoder_bias.detach())
    if has_linear_engine(sae):
        return LinearDecoder(engine.get_dictionary().detach(), None)
    return None
