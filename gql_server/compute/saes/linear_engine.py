"""The engine that mi_crow's own SAE classes share: relu(W x + b), unit dictionary rows. How it starts.

Scaling. A language model's activations can be of any size, while a learning rate and an initial bias suit one
size. So the engine is trained on ``s x``. Its latents then are ``relu(W s x + b) = s relu(W x + b/s)``: with
``b/s`` in the place of ``b`` the same engine gives, for x itself, the latents and the reconstruction over s.
Top-k chooses the same latents either way. ``s`` is a power of two, so scaling and folding are exact in
floating point.
"""

import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.selection import strongest
from gql_server.compute.saes.sparse_latents import SparseLatents, SparsityPattern, chunks
from gql_server.compute.saes.starting import first_factor, spread_batches

from mi_crow.mechanistic.sae.modules.l1_sae import L1Sae
from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae
from mi_crow.mechanistic.sae.sae import Sae

_FEWEST_FOR_MEAN = 8
"""Of k active neurons, below which none is set apart for the mean."""


class LinearEngine:
    """mi_crow's engine, seen as an AffineEngine without a decoder bias; the weights are its own."""

    centre = None
    decoder_bias = None

    def __init__(self, sae: Sae) -> None:
        self._engine = sae.sae_engine
        self._encoder = _encoder(sae)
        multiplier = sae.sae_engine.dictionary.multiplier
        self._has_multiplier = multiplier.requires_grad or bool(multiplier != 0)
        self._k = _k(sae)

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
    def active(self, x: Tensor) -> SparseLatents:
        """Return where latents of x [n, n_inputs] may be other than 0, and the pre-activations there."""
        n_latents = len(self.encoder_bias)
        return SparseLatents.joined([self._choose(self._encoder(rows)) for rows in chunks(x, n_latents)])

    def activate_at(self, pre_activations: Tensor, pattern: SparsityPattern) -> Tensor:
        """Return the latents [n_places] for the pre-activations there."""
        return torch.relu(pre_activations)

    def _choose(self, pre_activations: Tensor) -> SparseLatents:
        if self._k is None:
            return SparseLatents.above(pre_activations, 0.0)
        values, neurons = strongest(pre_activations, self._k)
        return SparseLatents.of_each(values, neurons, pre_activations.shape[1])


def has_linear_engine(sae: Sae) -> bool:
    """Whether this is one of mi_crow's own classes; a subclass may compute differently."""
    return type(sae) in (TopKSae, L1Sae)


@torch.no_grad()
def initialise(sae: Sae, rows: Tensor) -> None:
    """Make the encoder the dictionary's transpose: decoding then undoes encoding at the start.

    Gao et al. 2024 (Scaling and evaluating sparse autoencoders) found far fewer dead latents that way.

    There is no decoder bias for what all rows [n, n_inputs] have in common. So neuron 0 starts as the
    direction of their mean, and the others encode how rows differ from it, by a bias. On SmolLM2's layer 9
    (4,096 neurons, k 32, 376 steps of 1,024 on 48,741 tokens) explained variance on 5,183 held-out tokens was
    0.904 with 6 % dead that way, 0.898 with 13 % dead without it. Of few active neurons none is taken for it.
    """
    dictionary = nn.functional.normalize(sae.sae_engine.dictionary._weights, dim=1)
    encoder, k = _encoder(sae), _k(sae)
    encoder.bias.zero_()
    if k is None or k >= _FEWEST_FOR_MEAN:
        some = spread_batches(rows)[0].to(dictionary.device, dictionary.dtype)
        mean = rows.mean(dim=0).to(some)
        dictionary[0] = nn.functional.normalize(mean, dim=0)
        centred, others = some - mean, dictionary[1:]
        factor = first_factor(centred, centred @ others.T, others, None if k is None else k - 1)
        encoder.weight.copy_(dictionary).mul_(factor)
        encoder.weight[0] = dictionary[0]
        encoder.bias[1:] = -(encoder.weight[1:] @ mean)
    else:
        encoder.weight.copy_(dictionary)
    sae.sae_engine.dictionary._weights.copy_(dictionary)


def fold_scale(sae: Sae, scale: float) -> None:
    """Turn an engine trained on ``scale * x`` into one for x."""
    with torch.no_grad():
        _encoder(sae).bias.div_(scale)


def _k(sae: Sae) -> int | None:
    """Return how many latents the engine leaves active per token; None where it is any number."""
    return int(sae.sae_engine.top_k) if type(sae) is TopKSae else None


def _encoder(sae: Sae) -> nn.Linear:
    layer = sae.sae_engine.encoder.final_block[0]
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"the engine's encoder begins with {type(layer).__name__}, not Linear")
    return layer
