"""An engine whose latents have a gate each: one path says whether a latent is active, another how large."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gql_server.compute.saes.affine_engine import AffineEngine
from gql_server.compute.saes.engine import ForwardOutput, plain
from gql_server.compute.saes.sparse_latents import SparsityPattern
from gql_server.compute.saes.weights import Magnitudes, SaeWeights


class GatedEngine(AffineEngine):
    """f keeps relu(m) where the gate's pre-activation g is above 0, with the two paths' weights shared.

        g = W_e (x - b_d) + b_e      m = exp(r) W_e (x - b_d) + b_m

    Rajamanoharan et al. 2024, Improving Dictionary Learning with Gated Sparse Autoencoders, arXiv:2404.16014.
    ``encoder_bias`` is the gates'; ``magnitude_log_scale`` (r) and ``magnitude_bias`` (b_m) are [n_latents].
    """

    def __init__(self, n_inputs: int, n_latents: int, device: str = "cpu") -> None:
        super().__init__(n_inputs, n_latents, device)
        self.magnitude_log_scale = nn.Parameter(torch.zeros(n_latents, device=device))
        self.magnitude_bias = nn.Parameter(torch.zeros(n_latents, device=device))

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Return the magnitudes where gates are open."""
        magnitudes = self.magnitude_log_scale.exp() * (pre_activations - self.encoder_bias)
        return torch.relu(magnitudes + self.magnitude_bias) * (pre_activations > 0)

    def activate_at(self, pre_activations: Tensor, pattern: SparsityPattern) -> Tensor:
        """Return the magnitudes where active() has found gates to be open."""
        neurons = pattern.neurons
        magnitudes = self.magnitude_log_scale[neurons].exp() * (pre_activations - self.encoder_bias[neurons])
        return torch.relu(magnitudes + self.magnitude_bias[neurons])

    def penalized(self, pre_activations: Tensor, latents: Tensor) -> Tensor:
        """Return what open gates let through: a magnitude's size costs nothing."""
        return torch.relu(pre_activations)

    def penalty(self, output: ForwardOutput, dead: Tensor, variance: float) -> Tensor | float:
        """Return the error of what the gates alone would reconstruct, with the decoder held constant.

        Eq. 8 of the paper: nothing else tells a gate whether to open, since its step has no gradient.
        """
        assert output.candidates is not None
        gates = torch.relu(output.candidates.values)
        through = output.candidates.pattern.times(gates, self.decoder_weight.detach())
        return mse_loss(through + self.decoder_bias.detach(), output.x)

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """As for all; the magnitudes' bias is as large as latents."""
        super().fold_scale(scale)
        self.magnitude_bias.div_(scale)

    def weights(self) -> SaeWeights:
        """Return the weights of an engine in evaluation mode."""
        magnitudes = Magnitudes(plain(self.magnitude_log_scale), plain(self.magnitude_bias))
        return replace(super().weights(), magnitudes=magnitudes)
