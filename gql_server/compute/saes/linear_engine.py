"""Starting and scaling the engine that mi_crow's own SAE classes share: relu(W x + b), unit dictionary rows.

Scaling. A language model's activations can be of any size, while a learning rate and an initial bias suit one
size. So the engine is trained on ``s x``. Its latents then are ``relu(W s x + b) = s relu(W x + b/s)``: with
``b/s`` in the place of ``b`` the same engine gives, for x itself, the latents and the reconstruction over s.
Top-k chooses the same latents either way. ``s`` is a power of two, so scaling and folding are exact in
floating point.
"""

import torch
from torch import nn

from gql_server.compute import upstream  # noqa: F401

from mi_crow.mechanistic.sae.modules.l1_sae import L1Sae
from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae
from mi_crow.mechanistic.sae.sae import Sae


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
