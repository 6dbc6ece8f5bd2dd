"""Engines of SAEs with a decoder bias: z = f(W_e (x - b_d) + b_e), x_hat = W_d z + b_d; some choices of f.

mi_crow's own engine has no decoder bias, so its dictionary spends latents on the activations' mean. The
architecture with one is Bricken et al. 2023 (Towards Monosemanticity); whether the encoder subtracts it is
SAELens' ``apply_b_dec_to_input``. threshold_engines.py has the choices of f with thresholds, gated_engine.py
the one with gates.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from gql_server.compute.saes.engine import Engine
from gql_server.compute.saes.selection import strongest
from gql_server.compute.saes.starting import first_factor, spread_batches
from gql_server.compute.saes.weights import SaeWeights


class AffineEngine(nn.Module, Engine):
    """What mi_crow and overcomplete's train_sae call an engine, and what the server asks of one.

    Parameters: ``encoder_weight`` and ``decoder_weight`` [n_latents, n_inputs], ``encoder_bias`` [n_latents],
    ``decoder_bias`` [n_inputs]. The decoder's rows are the dictionary; training keeps them at length 1.
    A transcoder's decoder may be of another width, and it may have a ``skip_weight`` [n_outputs, n_inputs].
    """

    decoder_bias: nn.Parameter
    skip_weight: nn.Parameter | None

    def __init__(self, n_inputs: int, n_latents: int, device: str = "cpu") -> None:
        super().__init__()
        self.nb_concepts = n_latents
        self.k = None
        self.subtracts_bias = True
        rows = nn.functional.normalize(torch.randn(n_latents, n_inputs, device=device), dim=1)
        self.encoder_weight = nn.Parameter(rows.clone())
        self.encoder_bias = nn.Parameter(torch.zeros(n_latents, device=device))
        self.decoder_weight = nn.Parameter(rows)
        self.decoder_bias = nn.Parameter(torch.zeros(n_inputs, device=device))
        self.register_parameter("skip_weight", None)

    def write(self, n_outputs: int, *, has_skip: bool) -> None:
        """Make room for a transcoder's decoder weights and, with ``has_skip``, for a skip connection's.

        Its training is none here: they are zeros until they are loaded.
        """
        n_inputs, device = self.encoder_weight.shape[1], self.decoder_bias.device
        if n_outputs != len(self.decoder_bias):
            self.decoder_weight = nn.Parameter(torch.zeros(self.nb_concepts, n_outputs, device=device))
            self.decoder_bias = nn.Parameter(torch.zeros(n_outputs, device=device))
        if has_skip:
            self.skip_weight = nn.Parameter(torch.zeros(n_outputs, n_inputs, device=device))

    @abstractmethod
    def activate(self, pre_activations: Tensor) -> Tensor:
        """Return the latents [n, n_latents], none of them negative."""

    @property
    def center(self) -> Tensor | None:
        """The decoder bias, where the encoder subtracts it."""
        return self.decoder_bias if self.subtracts_bias else None

    def pre_activations(self, x: Tensor) -> Tensor:
        """Return what the activation function gets, [n, n_latents], for x [n, n_inputs]."""
        x = self.normalized(x)
        centered = x - self.decoder_bias if self.subtracts_bias else x
        return nn.functional.linear(centered, self.encoder_weight, self.encoder_bias)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pre-activations and latents, both [n, n_latents]."""
        pre_activations = self.pre_activations(x)
        return pre_activations, self.activate(pre_activations)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the reconstruction [n, n_inputs] of latents [n, n_latents], before restored()."""
        return latents @ self.decoder_weight + self.decoder_bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return pre-activations, latents and reconstruction."""
        pre_activations, latents = self.encode(x)
        return pre_activations, latents, self.restored(self.decode(latents), x)

    def get_dictionary(self) -> Tensor:
        """Return the decoder's rows [n_latents, n_inputs]."""
        return self.decoder_weight

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Start the decoder bias in the middle of the rows, and the encoder as the decoder's transpose.

        The bias starts as the activations' mean, so that latents describe how tokens differ: with it 0 %, not
        33 %, of 4,096 neurons were dead after 188 steps (docs/training.md). Bricken et al. 2023 start it as
        the geometric median, which a few far tokens move less. The encoder's length makes the first error
        smallest (Gao et al. 2024): k directions overlap the more, the fewer inputs there are.
        """
        rows = rows.to(self.decoder_bias.device)
        self.decoder_bias.copy_(rows.mean(dim=0))
        some = spread_batches(rows)[0]
        pre_activations = self.pre_activations(some)
        self.encoder_weight.mul_(
            first_factor(some - self.decoder_bias, pre_activations, self.decoder_weight, self.k)
        )

    @torch.no_grad()
    def after_step(self) -> None:
        """Put the dictionary's rows back to length 1."""
        rows = self.decoder_weight
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=1e-12))

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Turn an engine trained on ``scale * x`` into one for x, whose latents are those over ``scale``."""
        self.encoder_bias.div_(scale)
        self.decoder_bias.div_(scale)

    def load_weights(self, weights: SaeWeights) -> None:
        """Take over weights of the same sizes: the tensors themselves, also of an engine without any yet."""
        tensors = {
            "encoder_weight": weights.encoder_weight,
            "encoder_bias": weights.encoder_bias,
            "decoder_weight": weights.decoder_weight,
            "decoder_bias": weights.decoder_bias,
        }
        if weights.threshold is not None:
            tensors["threshold"] = self.threshold_of(weights.threshold)
        if weights.skip_weight is not None:
            tensors["skip_weight"] = weights.skip_weight
        self.write(len(weights.decoder_bias), has_skip=weights.skip_weight is not None)
        if weights.magnitudes is not None:
            tensors["magnitude_log_scale"] = weights.magnitudes.log_scale
            tensors["magnitude_bias"] = weights.magnitudes.bias
        self.load_state_dict(tensors, assign=True)
        self.subtracts_bias = weights.subtracts_bias
        self.input_normalization = weights.input_normalization

    def threshold_of(self, thresholds: Tensor) -> Tensor:
        """Return the thresholds [n_latents] of some weights as the engine has them."""
        return thresholds


class ReLUEngine(AffineEngine):
    """f = ReLU."""

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Return the positive part."""
        return torch.relu(pre_activations)


class TopKEngine(AffineEngine):
    """f keeps the k largest of each token's positive pre-activations (Gao et al. 2024)."""

    k: int

    def __init__(self, n_inputs: int, n_latents: int, k: int, device: str = "cpu") -> None:
        super().__init__(n_inputs, n_latents, device)
        self.k = k

    def activate(self, pre_activations: Tensor) -> Tensor:
        """Keep the largest; fewer than k where fewer are positive."""
        values, neurons = strongest(pre_activations, self.k)
        return torch.zeros_like(pre_activations).scatter(-1, neurons, torch.relu(values))
