"""An SAE as the tensors that it computes with, whatever its class: what import and export go through.

    z = f(W_e (x - b_d) + b_e)      x_hat = z W_d + b_d

with ``f`` ReLU, the k largest positive ones, or what is above thresholds. Whether the encoder subtracts
``b_d`` is ``subtracts_bias``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.affine_engine import AffineEngine, BatchTopKEngine, JumpReLUEngine
from gql_server.compute.saes.classes import SaeClass
from gql_server.compute.saes.linear_engine import has_linear_engine
from gql_server.compute.worker.context import TaskError

from mi_crow.mechanistic.sae.sae import Sae


@dataclass(frozen=True)
class SaeWeights:
    """All in float32 and on the CPU."""

    encoder_weight: Tensor
    """[n_latents, n_inputs]"""
    encoder_bias: Tensor
    """[n_latents]"""
    decoder_weight: Tensor
    """[n_latents, n_inputs]; rows of any length."""
    decoder_bias: Tensor
    """[n_inputs]"""
    subtracts_bias: bool
    k: int | None = None
    """The most latents of a token that are active, where that is what ``f`` does."""
    threshold: Tensor | None = None
    """[n_latents], none negative; where that is what ``f`` does."""

    @property
    def n_latents(self) -> int:
        """Number of neurons."""
        return self.encoder_weight.shape[0]

    @property
    def n_inputs(self) -> int:
        """Width of the activations."""
        return self.encoder_weight.shape[1]


def weights_of(sae: Sae) -> SaeWeights:
    """Return the weights of an SAE in evaluation mode.

    Raises TaskError where its class computes in a way that this cannot tell.
    """
    engine = sae.sae_engine
    if isinstance(engine, AffineEngine):
        return _of_affine(engine)
    if not has_linear_engine(sae):
        raise TaskError(f"What {type(sae).__name__} computes cannot be written in another library's format.")
    encoder = engine.encoder.final_block[0]
    return SaeWeights(
        encoder_weight=_plain(encoder.weight),
        encoder_bias=_plain(encoder.bias),
        decoder_weight=_plain(engine.get_dictionary()),
        decoder_bias=torch.zeros(encoder.in_features),
        subtracts_bias=False,
        k=getattr(engine, "top_k", None),
    )


def _of_affine(engine: AffineEngine) -> SaeWeights:
    threshold = None
    if isinstance(engine, BatchTopKEngine | JumpReLUEngine):
        # One below 0 lets pass what 0 does; BatchTopK has one for all.
        threshold = _plain(engine.threshold).clamp(min=0).expand(engine.nb_concepts).clone()
    return SaeWeights(
        encoder_weight=_plain(engine.encoder_weight),
        encoder_bias=_plain(engine.encoder_bias),
        decoder_weight=_plain(engine.decoder_weight),
        decoder_bias=_plain(engine.decoder_bias),
        subtracts_bias=engine.subtracts_bias,
        k=engine.k if threshold is None else None,
        threshold=threshold,
    )


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()


def build(sae_class: SaeClass, weights: SaeWeights) -> Sae:
    """Make an SAE of one of the classes with a decoder bias."""
    sae = sae_class.build(weights.n_latents, weights.n_inputs, weights.k, "cpu")
    engine: AffineEngine = sae.sae_engine
    tensors = {
        "encoder_weight": weights.encoder_weight,
        "encoder_bias": weights.encoder_bias,
        "decoder_weight": weights.decoder_weight,
        "decoder_bias": weights.decoder_bias,
    }
    if weights.threshold is not None:
        tensors["threshold"] = weights.threshold
    engine.load_state_dict(tensors)
    engine.subtracts_bias = weights.subtracts_bias
    return sae


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise TaskError where a tensor has NaN or infinite values."""
    if not bool(torch.isfinite(tensor).all()):
        raise TaskError(f"The tensor {name} has values that are NaN or infinite.")
