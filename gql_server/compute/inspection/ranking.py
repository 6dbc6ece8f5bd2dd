"""Which neurons fire most."""

from itertools import pairwise

import numpy as np
from torch import Tensor

from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.protocol.events import NeuronActivationMessage


def strongest_per_row(sparse: SparseLatents, first: int) -> list[list[NeuronActivationMessage]]:
    """Rank each row's neurons: at most ``first`` that fire (> 0), strongest first.

    Ties go to the lower index.
    """
    fires = (sparse.values > 0).cpu().numpy()
    row_of, neuron_of = sparse.rows.cpu().numpy()[fires], sparse.neurons.cpu().numpy()[fires]
    values = sparse.values.float().cpu().numpy()[fires]
    order = np.lexsort((neuron_of, -values, row_of))
    begins = np.searchsorted(row_of, np.arange(sparse.pattern.n_rows + 1))
    ranked = []
    for begin, end in pairwise(begins.tolist()):
        best = order[begin : min(begin + first, end)]
        ranked.append(list(map(NeuronActivationMessage, neuron_of[best].tolist(), values[best].tolist())))
    return ranked


def strongest(values: Tensor, places: Tensor, first: int) -> list[NeuronActivationMessage]:
    """Rank neurons by their highest value [n_latents]; ``places`` [n_latents] says at which token each is."""
    ranked = strongest_per_row(SparseLatents.of(values[None]), first)[0]
    return [
        NeuronActivationMessage(entry.neuron_index, entry.activation, int(places[entry.neuron_index]))
        for entry in ranked
    ]
