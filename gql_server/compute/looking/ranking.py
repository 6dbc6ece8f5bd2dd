"""Which neurons fire most."""

from itertools import pairwise

import numpy as np
from torch import Tensor

from gql_server.compute.messages.events import NeuronActivation


def strongest_per_row(latents: Tensor, first: int) -> list[list[NeuronActivation]]:
    """Rank each row of latents [n, n_latents]: at most ``first`` neurons that fire (> 0), strongest first.

    Ties go to the lower index. Works on the non-zero latents alone, which are few.
    """
    rows, neurons = (latents > 0).nonzero(as_tuple=True)
    values = latents[rows, neurons].float().cpu().numpy()
    row_of, neuron_of = rows.cpu().numpy(), neurons.cpu().numpy()
    order = np.lexsort((neuron_of, -values, row_of))
    begins = np.searchsorted(row_of, np.arange(len(latents) + 1))
    return [
        [
            NeuronActivation(int(neuron_of[i]), float(values[i]))
            for i in order[begin : min(begin + first, end)]
        ]
        for begin, end in pairwise(begins.tolist())
    ]


def strongest(values: Tensor, places: Tensor, first: int) -> list[NeuronActivation]:
    """Rank neurons by their highest value [n_latents]; ``places`` [n_latents] says at which token each is."""
    ranked = strongest_per_row(values[None], first)[0]
    return [
        NeuronActivation(entry.neuron_index, entry.activation, int(places[entry.neuron_index]))
        for entry in ranked
    ]
