"""A map of an SAE's neurons in two dimensions: neurons with like decoder directions lie near each other.

By t-SNE (van der Maaten and Hinton 2008) with openTSNE, whose interpolation (Linderman et al. 2019, FIt-SNE)
takes less than a minute for 65,536 neurons on two cores, out of the nearest neurons that the index has found
already, from the directions' two principal components as the start (Kobak and Berens 2019). umap-learn would
do as well, but brings numba, LLVM and a search for neighbors of its own. Those components are the map by
themselves where openTSNE is not installed, or there are too few neurons, or too many.
"""

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gql_server.compute.worker.stages import Tell

MAX_EMBEDDED = 2**17
"""Neurons that t-SNE takes two minutes for; more are mapped by their principal components."""
_FEW = 4096
"""Neurons up to which few steps are enough, and from which on interpolation is faster than Barnes-Hut."""
_PERPLEXITY = 16
_MIN_EMBEDDED = 4 * _PERPLEXITY
_FEW_STEPS, _MANY_STEPS = (30, 80), (75, 175)
"""Steps with exaggeration and without: more for few neurons hardly bring more of the nearest together."""
_STEPS_AT_ONCE = 5


def decoder_map(directions: Tensor, similar: dict[str, Tensor], tell: Tell) -> dict[str, Tensor]:
    """Return where neurons lie, ``decoder_map`` [n_neurons, 2], NaN for those whose direction is zero.

    ``directions`` are [n_neurons, n_inputs], ``similar`` what similar_neurons() gives for them. ``tell`` is
    called between steps.
    """
    there = (similar["similar_neurons"][:, 0] >= 0).nonzero().flatten()
    tell(0, sum(_steps(len(there))))
    places = torch.full((len(directions), 2), torch.nan)
    if len(there):
        largest = directions[there].abs().amax(dim=1, keepdim=True)
        units = nn.functional.normalize((directions[there] / largest).cpu(), dim=1)
        start = principal_components(units)
        embeds = _MIN_EMBEDDED <= len(there) <= MAX_EMBEDDED and importlib.util.find_spec("openTSNE")
        places[there] = _embedded(start, there, similar, tell) if embeds else start
    return {"decoder_map": places}


def principal_components(points: Tensor) -> Tensor:
    """Return points [n, width] by the two directions of their largest variance, [n, 2]."""
    centered = points - points.mean(dim=0)
    vectors = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -2:].flip(1)
    # A component's sign is anyone's choice: its largest entry is positive.
    signs = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
    found = centered @ (vectors * signs)
    return nn.functional.pad(found, (0, 2 - found.shape[1]))


def _steps(n_neurons: int) -> tuple[int, int]:
    return _FEW_STEPS if n_neurons <= _FEW else _MANY_STEPS


def _embedded(start: Tensor, there: Tensor, similar: dict[str, Tensor], tell: Tell) -> Tensor:
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    neighbors, cosines = similar["similar_neurons"][there], similar["similar_cosines"][there]
    n_neighbors = int((neighbors >= 0).sum(dim=1).min())
    numbers = torch.full((int(there.max()) + 1,), -1, dtype=torch.int64)
    numbers[there] = torch.arange(len(there))
    nearest = numbers[neighbors[:, :n_neighbors].long()].numpy()
    distances = (2 - 2 * cosines[:, :n_neighbors].double()).clamp(min=0.0).sqrt().numpy()
    threads = torch.get_num_threads()
    affinities = PerplexityBasedNN(
        perplexity=min(_PERPLEXITY, n_neighbors / 3),
        knn_index=PrecomputedNeighbors(nearest, distances),
        n_jobs=threads,
        random_state=0,
    )
    early, later = _steps(len(there))
    tell(0, early + later)
    # A start of small spread, as t-SNE needs it.
    spread = start[:, 0].std().clamp(min=1e-12)
    embedding: Any = TSNEEmbedding(
        (start / spread * 1e-4).double().numpy(),
        affinities,
        negative_gradient_method="bh" if len(there) < _FEW else "fft",
        n_jobs=threads,
        random_state=0,
    )

    def optimize(n_steps: int, before: int, **options: float) -> None:
        embedding.optimize(
            n_iter=n_steps,
            inplace=True,
            callbacks=lambda step, _error, _places: tell(before + step, early + later),
            callbacks_every_iters=_STEPS_AT_ONCE,
            **options,
        )

    optimize(early, 0, exaggeration=12, momentum=0.5)
    optimize(later, early, momentum=0.8)
    return torch.from_numpy(np.asarray(embedding, dtype=np.float32).copy())
