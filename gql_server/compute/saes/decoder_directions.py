"""What each of an SAE's neurons adds to the reconstruction, and which neurons add nearly the same."""

import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.indexing.strongest_columns import strongest_columns
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.worker.stages import Tell

from mi_crow.mechanistic.sae.sae import Sae

NEIGHBORS = 50
MAX_DENSE_VALUES = 2**24
"""Values that are dense in memory at once: 64 MB of float32, and a few times that on the way."""
_SAMPLE = 8
_TOLERANCE = 1e-3


def decoder_directions(sae: Sae, tell: Tell) -> Tensor:
    """Return what one unit of each latent adds to the reconstruction, float32 [n_latents, n_inputs].

    That is decode(e_i) - decode(0), which beside a large decoder bias would be rounded away: an Engine shows
    it exactly. Another package's dictionary is taken for it where it says the same of some neurons; else
    every neuron is decoded. ``tell`` is called between chunks. Where each token is normalized, they are what
    is added before a token's own scale, which lengthens all of them alike.
    """
    if (engine := engine_of(sae)) is not None:
        return engine.get_dictionary().detach().float()
    dictionary = getattr(sae.sae_engine, "get_dictionary", None)
    n_latents = sae.context.n_latents
    with torch.inference_mode():
        shown: Tensor | None = dictionary().float() if dictionary else None
        if shown is not None and shown.shape == (n_latents, sae.context.n_inputs):
            sample = torch.linspace(0, n_latents - 1, min(_SAMPLE, n_latents)).long()
            decoded = _decoded(sae, sample)
            size = float(decoded.abs().max())
            if torch.allclose(shown[sample.to(shown.device)], decoded, _TOLERANCE, _TOLERANCE * size):
                return shown
    chunk, parts = max(1, MAX_DENSE_VALUES // n_latents), []
    for start in range(0, n_latents, chunk):
        tell(start, n_latents)
        with torch.inference_mode():
            parts.append(_decoded(sae, torch.arange(start, min(start + chunk, n_latents))))
    return torch.cat(parts)


def _decoded(sae: Sae, neurons: Tensor) -> Tensor:
    device = torch.device(sae.context.device)
    latents = torch.zeros(len(neurons) + 1, sae.context.n_latents, device=device)
    latents[torch.arange(len(neurons)), neurons] = 1.0
    decoded: Tensor = sae.decode(latents).float()
    return decoded[:-1] - decoded[-1]


def similar_neurons(directions: Tensor, tell: Tell) -> dict[str, Tensor]:
    """Return each neuron's nearest neighbors by the cosine of directions [n_latents, n_inputs].

    The neuron itself and those whose direction is zero or not finite are left out. ``tell`` is called between
    chunks.
    """
    # By the largest entry first: squares of very long and very short directions do not fit into float32.
    largest = directions.abs().amax(dim=1, keepdim=True)
    nothing = ~((largest > 0) & largest.isfinite())[:, 0]
    units = nn.functional.normalize((directions / largest).masked_fill(nothing[:, None], 0.0), dim=1)
    chunk, indices, cosines = max(1, MAX_DENSE_VALUES // len(units)), list[Tensor](), list[Tensor]()
    for start in range(0, len(units), chunk):
        tell(start, len(units))
        with torch.inference_mode():
            found = (units[start : start + chunk] @ units.T).clamp_(-1.0, 1.0)
            found[:, nothing] = -torch.inf
            found[nothing[start : start + chunk]] = -torch.inf
            found.diagonal(start).fill_(-torch.inf)
            columns, values = strongest_columns(found, NEIGHBORS, above=-torch.inf)
            indices.append(columns.cpu())
            cosines.append(values.cpu())
    return {"similar_neurons": torch.cat(indices), "similar_cosines": torch.cat(cosines)}
