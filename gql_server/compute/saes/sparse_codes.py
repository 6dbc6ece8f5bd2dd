"""Encoding with an SAE, as the latents that are not zero."""

import torch
from torch import Tensor

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.saes.active_latents import Pattern, Places, portions
from gql_server.compute.saes.affine_engine import AffineEngine
from gql_server.compute.saes.finite import all_finite, encode
from gql_server.compute.saes.linear_engine import LinearEngine, has_linear_engine

from mi_crow.mechanistic.sae.sae import Sae


def sparse_codes(sae: Sae, activations: Tensor) -> Places:
    """Return the latents other than 0 of activations [n, n_inputs]; by token, and of each by neuron.

    The same as encode() gives, without its passes over all latents where the engine is known. TaskError
    (CONFLICT) where latents are not finite.
    """
    engine = sae.sae_engine
    if isinstance(engine, AffineEngine):
        return _of_known(sae, engine, activations)
    if has_linear_engine(sae):
        return _of_known(sae, LinearEngine(sae), activations)
    parts = [encode(sae, rows) for rows in portions(activations, sae.context.n_latents)]
    return Places.joined([Places.at(latents, latents != 0) for latents in parts])


def _of_known(sae: Sae, engine: AffineEngine | LinearEngine, activations: Tensor) -> Places:
    with torch.no_grad():
        chosen = engine.places(activations)
        latents = Places(engine.activate_at(chosen.values, chosen.pattern), chosen.pattern)
    if not all_finite(latents.values):
        encode(sae, activations)  # It raises with a reason.
    return _by_neuron(latents.where(latents.values != 0))


def _by_neuron(latents: Places) -> Places:
    """Put each token's into the order of the neurons: the strongest come as they were found."""
    pattern = latents.pattern
    key = pattern.tokens * pattern.n_latents + pattern.neurons
    order = key.argsort()
    neurons = pattern.neurons[order]
    return Places(latents.values[order], Pattern(neurons, pattern.offsets, pattern.n_latents))
