"""An SAE as the tensors that it computes with, whatever its class: what import and export go through.

    z = f(W_e (x - b_d) + b_e)      x_hat = z W_d + b_d

with ``f`` ReLU, the k largest positive ones, what is above thresholds, or gates. Whether the encoder
subtracts ``b_d`` is ``subtracts_bias``. With an ``input_normalization`` x is normalized token by token
before, and x_hat restored by what that token was normalized by. A transcoder reads one layer and writes
another, perhaps of another width, and may add ``W_s x`` to what it writes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute.worker.context import TaskError
from gql_server.formats.input_normalizations import InputNormalization


@dataclass(frozen=True)
class Magnitudes:
    """How large a latent is, where the encoder says only whether it is active: both [n_latents].

    z = relu(exp(log_scale) W_e (x - b_d) + bias) where W_e (x - b_d) + b_e > 0.
    """

    log_scale: Tensor
    bias: Tensor


@dataclass(frozen=True)
class SaeWeights:
    """All in float32 and on the CPU."""

    encoder_weight: Tensor
    """[n_latents, n_inputs]"""
    encoder_bias: Tensor
    """[n_latents]"""
    decoder_weight: Tensor
    """[n_latents, n_outputs]; rows of any length. Only a transcoder's n_outputs may differ from n_inputs."""
    decoder_bias: Tensor
    """[n_outputs]"""
    subtracts_bias: bool
    k: int | None = None
    """The most latents of a token that are active, where that is what ``f`` does."""
    threshold: Tensor | None = None
    """[n_latents], none negative; where that is what ``f`` does."""
    skip_weight: Tensor | None = None
    """[n_outputs, n_inputs]; of transcoders with a skip connection."""
    magnitudes: Magnitudes | None = None
    """Where ``f`` are gates, whose bias ``b_e`` is then."""
    input_normalization: InputNormalization = "NONE"

    @property
    def n_latents(self) -> int:
        """Number of neurons."""
        return self.encoder_weight.shape[0]

    @property
    def n_inputs(self) -> int:
        """Width of the activations."""
        return self.encoder_weight.shape[1]


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise TaskError where a tensor has NaN or infinite values."""
    # In parts: what is computed of a whole matrix takes as much memory as that.
    if not all(bool(torch.isfinite(part).all()) for part in tensor.reshape(-1).split(2**22)):
        raise TaskError(f"The tensor {name} has values that are NaN or infinite.")
