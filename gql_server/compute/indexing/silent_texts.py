"""Texts on which neurons do not fire: drawn from the run, and the strongest ones of their nearest neurons.

A name has to say as well where a neuron is silent. Texts of similar neurons are the hard cases, since they
are about nearly the same (Bills et al. 2023, Language models can explain neurons in language models, on
random texts; Paulo et al. 2024, Automatically interpreting millions of features, on similar latents).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gql_server.compute.indexing.draws import DRAW_BITS, draws_of_texts
from gql_server.compute.indexing.firing_sample import KeptFirings
from gql_server.compute.indexing.statistics import Firings
from gql_server.compute.indexing.stretches import TOKENS_AROUND
from gql_server.compute.indexing.strongest_texts import TextGroup
from gql_server.compute.worker.stages import Tell

N_TEXTS = 64
"""Texts that are drawn for all neurons together."""
NEAR_TEXTS = 5
_NEIGHBORS = 10
_FIRST_TEXTS, _ALL_TEXTS = 3, 10
"""Strongest texts of each of these neurons that come first, and that are looked at."""
_NEURONS_AT_ONCE = 2048
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


class DrawnTexts:
    """The 64 texts of a run with the lowest draws, and on which of them each of n neurons fires.

    What is shown of a text is the stretch around a token that is drawn, too. Texts of which no token counts
    are left out.
    """

    def __init__(self, n_neurons: int) -> None:
        self._draws = np.zeros(0, np.int64)
        self._numbers, self._lengths = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._fired = np.zeros((0, n_neurons), np.bool_)

    def add(self, firings: Firings, group: TextGroup) -> None:
        """Take in the firings of a group of whole texts; they are the CPU's."""
        numbers = group.numbers.cpu().numpy()
        draws = draws_of_texts(numbers)
        bound = self._draws[-1] if len(self._draws) == N_TEXTS else 2**DRAW_BITS
        new = np.flatnonzero((draws < bound) & (group.token_counts.cpu().numpy() > 0))
        new = new[np.argsort(draws[new], kind="stable")][:N_TEXTS]
        if len(new) == 0:
            return
        fired = np.zeros((len(new), self._fired.shape[1]), np.bool_)
        positions = firings.positions.numpy()
        for row, text in enumerate(new.tolist()):
            places = np.array([text, text + 1]) * group.n_positions
            begin, end = np.searchsorted(positions, places)
            fired[row, firings.neurons[begin:end].numpy()] = True
        order = np.argsort(np.concatenate([self._draws, draws[new]]), kind="stable")[:N_TEXTS]
        lengths = group.lengths.cpu().numpy()
        self._draws = np.concatenate([self._draws, draws[new]])[order]
        self._numbers = np.concatenate([self._numbers, numbers[new]])[order]
        self._lengths = np.concatenate([self._lengths, lengths[new]])[order]
        self._fired = np.concatenate([self._fired, fired])[order]

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored of texts, and ``drawn_fired`` [n_neurons, 8], a bit for each text."""
        tokens = self._draws % np.maximum(self._lengths, 1)
        start = np.maximum(tokens - TOKENS_AROUND, 0)
        stop = np.minimum(tokens + TOKENS_AROUND + 1, self._lengths)
        fired = np.zeros((N_TEXTS, self._fired.shape[1]), np.bool_)
        fired[: len(self._fired)] = self._fired
        tensors = {
            "drawn_numbers": self._numbers.astype(np.int32),
            "drawn_token_index": tokens.astype(np.int32),
            "drawn_start": start.astype(np.int32),
            "drawn_length": (stop - start).astype(np.int32),
            "drawn_fired": np.ascontiguousarray(np.packbits(fired.T, axis=1, bitorder="little")),
        }
        return {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}


def near_texts(firings: KeptFirings, similar: Tensor, top_numbers: Tensor, tell: Tell) -> dict[str, Tensor]:
    """Return texts of each neuron's nearest neurons on which it does not fire, the nearest neuron's first.

    Of the 10 nearest neurons' 3 strongest texts, and then of their next 7, the first 5 are named: by the
    neuron, and the text's place among its top texts; -1 where there are fewer. Only of texts whose firings
    are kept can that be told, on long runs a few of these.
    ``similar`` [n_neurons, m], ``top_numbers`` [n_neurons, k]: -1 for none. ``tell`` is called between
    chunks.
    """
    n_neurons = len(similar)
    near, top = similar[:, :_NEIGHBORS].numpy(), top_numbers[:, :_ALL_TEXTS].numpy().astype(np.int64)
    neighbor, place = np.divmod(np.arange(near.shape[1] * top.shape[1]), top.shape[1])
    order = np.argsort(place >= _FIRST_TEXTS, kind="stable")
    neighbor, place = neighbor[order], place[order]
    tell(0, n_neurons)
    texts = firings.row_texts[firings.rows].astype(np.int64)
    fired = np.unique(firings.neurons.astype(np.int64) << 32 | texts)
    neurons = np.full((n_neurons, NEAR_TEXTS), -1, np.int32)
    places = np.full((n_neurons, NEAR_TEXTS), -1, np.int32)
    for start in range(0, n_neurons, _NEURONS_AT_ONCE):
        tell(start, n_neurons)
        of_neurons = np.arange(start, min(start + _NEURONS_AT_ONCE, n_neurons))
        neighbors = near[of_neurons]
        numbers = np.where(neighbors >= 0, top[neighbors].transpose(2, 0, 1), -1)[place, :, neighbor].T
        keys = of_neurons[:, None] << 32 | np.maximum(numbers, 0)
        silent = (numbers >= 0) & firings.keeps(numbers) & ~_contains(fired, keys) & _first(numbers)
        rank = np.cumsum(silent, axis=1) - 1
        rows, columns = np.nonzero(silent & (rank < NEAR_TEXTS))
        to = of_neurons[rows], rank[rows, columns]
        neurons[to] = neighbors[rows, neighbor[columns]]
        places[to] = place[columns]
    return {"near_text_neurons": torch.from_numpy(neurons), "near_text_places": torch.from_numpy(places)}


def _contains(ordered: Integers, keys: Integers) -> Mask:
    """Say of each key whether it is among the ordered ones."""
    if len(ordered) == 0:
        return np.zeros(keys.shape, np.bool_)
    places = np.searchsorted(ordered, keys).clip(max=len(ordered) - 1)
    found: Mask = ordered[places] == keys
    return found


def _first(numbers: Integers) -> Mask:
    """Say of each number in a row whether it is there for the first time."""
    again = np.zeros(numbers.shape, np.bool_)
    for column in range(1, numbers.shape[1]):
        again[:, column] = (numbers[:, :column] == numbers[:, column : column + 1]).any(axis=1)
    return ~again
