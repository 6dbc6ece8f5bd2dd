"""The engine that mi_crow's own SAE classes share: relu(W x + b), unit dictionary rows, no decoder bias.

Scaling. A language model's activations can be of any size, while a learning rate and an initial bias suit one
size. So the engine is trained on ``s x``. Its latents then are ``relu(W s x + b) = s relu(W x + b/s)``: with
``b/s`` in the place of ``b`` the same engine gives, for x itself, the latents and the reconstruction over s.
Top-k chooses the same latents either way. ``s`` is a power of two, so scaling and folding are exact in
floating point.
"""

import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.engine import Engine
from gql_server.compute.saes.starting import first_factor, spread_batches

from mi_crow.mechanistic.sae.modules.l1_sae import L1Sae
from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae
from mi_crow.mechanistic.sae.sae import Sae

_FEWEST_FOR_MEAN = 8
"""Smallest k for which one neuron is set apart for the mean."""


class LinearEngine(Engine):
    """An engine of mi_crow's, seen as an Engine; the weights are its own."""

    decoder_bias = None
    skip_weight = None

    def __init__(self, sae: TopKSae | L1Sae) -> None:
        self._dictionary = sae.sae_engine.dictionary
        self._has_multiplier = self._dictionary.multiplier.requires_grad or bool(
            self._dictionary.multiplier != 0
        )
        encoder = sae.sae_engine.encoder.final_block[0]
        if not isinstance(encoder, nn.Linear):
            raise TypeError(f"the engine's encoder begins with {type(encoder).__name__}, not Linear")
        self._encoder, self.encoder_weight, self.encoder_bias = encoder, encoder.weight, encoder.bias
        self.k = getattr(sae.sae_engine, "top_k", None)

    def get_dictionary(self) -> Tensor:
        """Return the dictionary [n_latents, n_inputs], its rows brought to length 1 as upstream does it."""
        if not self._dictionary.training or self._has_multiplier:
            other: Tensor = self._dictionary.get_dictionary()
            return other
        weights: Tensor = self._dictionary._weights
        with torch.no_grad():
            weights.div_(torch.linalg.vector_norm(weights, dim=1, keepdim=True).add_(1e-8))
        return weights

    def pre_activations(self, x: Tensor) -> Tensor:
        """Return what ReLU gets, [n, n_latents], for x [n, n_inputs]."""
        found: Tensor = self._encoder(x)
        return found

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Make the encoder the dictionary's transpose: decoding then undoes encoding at the start.

        Gao et al. 2024 (Scaling and evaluating sparse autoencoders) found far fewer dead latents that way.

        There is no decoder bias for what all rows [n, n_inputs] have in common. So neuron 0 starts as the
        direction of their mean, and the others encode how rows differ from it, by a bias; docs/training.md
        has what that changes. Where few neurons are active none is set apart.
        """
        dictionary = nn.functional.normalize(self._dictionary._weights, dim=1)
        weight, bias, k = self.encoder_weight, self.encoder_bias, self.k
        bias.zero_()
        if k is None or k >= _FEWEST_FOR_MEAN:
            some = spread_batches(rows)[0].to(dictionary.device, dictionary.dtype)
            mean = rows.mean(dim=0).to(some)
            dictionary[0] = nn.functional.normalize(mean, dim=0)
            centered, others = some - mean, dictionary[1:]
            factor = first_factor(centered, centered @ others.T, others, None if k is None else k - 1)
            weight.copy_(dictionary).mul_(factor)
            weight[0] = dictionary[0]
            bias[1:] = -(weight[1:] @ mean)
        else:
            weight.copy_(dictionary)
        self._dictionary._weights.copy_(dictionary)

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Turn an engine trained on ``scale * x`` into one for x."""
        self.encoder_bias.div_(scale)


def engine_of(sae: Sae) -> Engine | None:
    """Return the Engine that an SAE computes with; None where the server knows mi_crow's interface alone.

    That is so for another kind of engine, and where the class has an encode() or decode() of its own.
    """
    cls = type(sae)
    if cls in (TopKSae, L1Sae):
        return LinearEngine(sae)
    leaves_it = cls.encode is L1Sae.encode and cls.decode is L1Sae.decode
    return sae.sae_engine if leaves_it and isinstance(sae.sae_engine, Engine) else None
