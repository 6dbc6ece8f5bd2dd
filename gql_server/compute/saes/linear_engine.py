"""The engine that mi_crow's own SAE classes share: relu(W x + b), unit dictionary rows. How it starts.

Scaling. A language model's activations can be of any size, while a learning rate and an initial bias suit one
size. So the engine is trained on ``s x``. Its latents then are ``relu(W s x + b) = s relu(W x + b/s)``: with
``b/s`` in the place of ``b`` the same engine gives, for x itself, the latents and the reconstruction over s.
Top-k chooses the same latents either way. ``s`` is a power of two, so scaling and folding are exact in
floating point.
"""

import torch
from torch import Tensor, nn

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.saes.active_latents import Pattern, Places, portions
from gql_server.compute.saes.selection import strongest

from mi_crow.mechanistic.sae.modules.l1_sae import L1Sae
from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae
from mi_crow.mechanistic.sae.sae import Sae


class LinearEngine:
    """mi_crow's engine, seen as an AffineEngine without a decoder bias; the weights are its own."""

    centre = None
    decoder_bias = None

    def __init__(self, sae: Sae) -> None:
        self._engine = sae.sae_engine
        self._encoder = _encoder(sae)
        multiplier = sae.sae_engine.dictionary.multiplier
        self._has_multiplier = multiplier.requires_grad or bool(multiplier != 0)
        self._k: int | None = sae.sae_engine.top_k if type(sae) is TopKSae else None

    @property
    def encoder_weight(self) -> Tensor:
        """Weights [n_latents, n_inputs]."""
        return self._encoder.weight

    @property
    def encoder_bias(self) -> Tensor:
        """Biases [n_latents]."""
        return self._encoder.bias

    def get_dictionary(self) -> Tensor:
        """Return the dictionary [n_latents, n_inputs], its rows brought to length 1 as upstream does it."""
        layer = self._engine.dictionary
        if not layer.training or self._has_multiplier:
            other: Tensor = layer.get_dictionary()
            return other
        weights: Tensor = layer._weights
        with torch.no_grad():
            weights.div_(torch.linalg.vector_norm(weights, dim=1, keepdim=True).add_(1e-8))
        return weights

    @torch.no_grad()
    def places(self, x: Tensor) -> Places:
        """Return where latents of x [n, n_inputs] may be other than 0, and the pre-codes there."""
        n_latents = len(self.encoder_bias)
        return Places.joined([self._choose(self._encoder(rows)) for rows in portions(x, n_latents)])

    def activate_at(self, pre_codes: Tensor, pattern: Pattern) -> Tensor:
        """Return the latents [n_places] for the pre-codes there."""
        return torch.relu(pre_codes)

    def _choose(self, pre_codes: Tensor) -> Places:
        if self._k is None:
            return Places.above(pre_codes, 0.0)
        values, neurons = strongest(pre_codes, self._k)
        return Places.of_each(values, neurons, pre_codes.shape[1])


def has_linear_engine(sae: Sae) -> bool:
    """Whether this is one of mi_crow's own classes; a subclass may compute differently."""
    return type(sae) in (TopKSae, L1Sae)


def initialise(sae: Sae) -> None:
    """Make the encoder the dictionary's transpose, without bias: decoding then undoes encoding at the start.

    Gao et al. 2024 (Scaling and evaluating sparse autoencoders) found far fewer dead latents that way.
    """
    with torch.no_grad():
        rows = nn.functional.normalize(sae.sae_engine.dictionary._weights, dim=1)
        sae.sae_engine.dictionary._weights.copy_(rows)
        encoder = _encoder(sae)
        encoder.weight.copy_(rows)
        encoder.bias.zero_()


def fold_scale(sae: Sae, scale: float) -> None:
    """Turn an engine trained on ``scale * x`` into one for x."""
    with torch.no_grad():
        _encoder(sae).bias.div_(scale)


def _encoder(sae: Sae) -> nn.Linear:
    layer = sae.sae_engine.encoder.final_block[0]
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"the engine's encoder begins with {type(layer).__name__}, not Linear")
    return layer
