"""Texts over the whole range of each neuron's activations: a uniform sample of its firings in each range.

The strongest texts alone mislead about what a neuron stands for; texts from every interval of its activations
are what a name has to hold for (Bricken et al. 2023, Towards Monosemanticity, on activation intervals).
"""

import numpy as np
import torch
from torch import Tensor

from gql_server.artifacts.neuron_texts import N_RANGES, PER_RANGE
from gql_server.compute.indexing.draws import DRAW_BITS, draws_of_firings
from gql_server.compute.indexing.statistics import N_BINS, Firings
from gql_server.compute.indexing.stretches import TOKENS_AROUND, WINDOW
from gql_server.compute.indexing.strongest_texts import TextGroup

_BINS_PER_RANGE = N_BINS // N_RANGES
_NONE = 2**DRAW_BITS
_NEURONS_AT_ONCE = 4096
_ROWS_AT_ONCE = 2**16


class FiringExamples:
    """Draws firings of n neurons: in each eighth of a neuron's histogram, the 5 with the lowest draws.

    As the bins of the histogram, ranges merge in pairs when the limit doubles; the lowest draws of the union
    are among those kept of both. So what is kept is a uniform sample of each range's firings, and depends
    neither on the order of texts nor on their chunks. It has the neuron's latents around the token with it,
    as top texts have. Memory is bounded, 6 kB a neuron, of which only what is used is taken; it is the CPU's.
    """

    def __init__(self, n_neurons: int) -> None:
        n_ranges, n_places = n_neurons * N_RANGES, n_neurons * N_RANGES * PER_RANGE
        self._n_neurons = n_neurons
        self._exponents = torch.full((n_neurons,), -(2**30), dtype=torch.int32)
        self._bounds = torch.full((n_ranges,), _NONE, dtype=torch.int64)
        """A draw has to be below it to be kept."""
        self._draws = torch.full((n_places,), _NONE, dtype=torch.int64)
        """Of each place: neuron * 40 + range * 5, and 5 places each, in no order; _NONE where it is free."""
        # NumPy's zeros take no memory until they are written to.
        self._numbers, self._tokens, self._lengths = (
            torch.from_numpy(np.zeros(n_places, np.int32)) for _ in range(3)
        )
        self._values = torch.from_numpy(np.zeros(n_places, np.float32))
        self._windows = torch.from_numpy(np.zeros((n_places, WINDOW), np.float32))

    def add(self, firings: Firings, group: TextGroup, bins: Tensor, exponents: Tensor) -> None:
        """Take in a group's firings, with each one's bin of its neuron's histogram.

        ``exponents`` [n_neurons] of 2 are the limits of the histograms that the bins are counted in.
        """
        self._merge_ranges(exponents.cpu())
        numbers = group.numbers.cpu()
        text = firings.positions // group.n_positions
        token = firings.positions - text * group.n_positions
        drawn = draws_of_firings(numbers[text].numpy(), token.numpy(), firings.neurons.numpy())
        draws = torch.from_numpy(drawn)
        ranges = firings.neurons * N_RANGES + bins // _BINS_PER_RANGE
        found = (draws < self._bounds[ranges]).nonzero().flatten()
        if len(found) == 0:
            return
        places, chosen = self._replace(ranges[found], draws[found])
        chosen = found[chosen]
        self._numbers[places] = numbers[text[chosen]].int()
        self._tokens[places] = token[chosen].int()
        self._lengths[places] = group.lengths.cpu()[text[chosen]].int()
        self._values[places] = firings.values[chosen]
        self._fill_windows(places, chosen, firings, group)

    def _merge_ranges(self, exponents: Tensor) -> None:
        """Bring the ranges to histograms' limits, which only rise."""
        doublings = (exponents - self._exponents).clamp(max=3)
        for rows in (doublings > 0).nonzero().flatten().split(_NEURONS_AT_ONCE):
            kept = self._draws.view(self._n_neurons, N_RANGES, PER_RANGE)[rows]
            if bool((kept < _NONE).any()):
                self._merge(rows, kept, doublings[rows])
        self._exponents = exponents.clone()

    def _merge(self, rows: Tensor, kept: Tensor, doublings: Tensor) -> None:
        """Move entries of neurons into their new ranges; ``kept`` are their draws [n, 8, 5]."""
        new_ranges = torch.arange(N_RANGES) >> doublings[:, None]
        keys = (new_ranges[:, :, None] << DRAW_BITS) + kept
        ordered = keys.masked_fill(kept == _NONE, N_RANGES << DRAW_BITS).flatten(1).sort(dim=1)
        ranges = ordered.values >> DRAW_BITS
        begin = torch.searchsorted(ranges, torch.arange(N_RANGES + 1).expand(len(rows), -1).contiguous())
        rank = torch.arange(ranges.shape[1]) - begin.gather(1, ranges)
        stays = (ranges < N_RANGES) & (rank < PER_RANGE)
        base = rows[:, None] * (N_RANGES * PER_RANGE)
        sources = (base + ordered.indices)[stays]
        places = (base + ranges * PER_RANGE + rank)[stays]
        draws = self._draws[sources]
        self._draws.view(self._n_neurons, -1)[rows] = _NONE
        self._draws[places] = draws
        for column in (self._numbers, self._tokens, self._lengths, self._values, self._windows):
            column[places] = column[sources]
        bounds = self._draws.view(self._n_neurons, N_RANGES, PER_RANGE)[rows].amax(dim=2)
        self._bounds.view(self._n_neurons, N_RANGES)[rows] = bounds

    def _replace(self, ranges: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the lowest draws; return the places that have others now, and which firings these are."""
        key, order = ((ranges << DRAW_BITS) + draws).sort(stable=True)
        touched, counts = (key >> DRAW_BITS).unique_consecutive(return_counts=True)
        rank = torch.arange(len(key)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        lowest = rank < PER_RANGE
        row = torch.arange(len(touched)).repeat_interleave(counts)[lowest]
        added = torch.full((len(touched), PER_RANGE), _NONE, dtype=torch.int64)
        firing = torch.full((len(touched), PER_RANGE), -1, dtype=torch.int64)
        added[row, rank[lowest]] = draws[order[lowest]]
        firing[row, rank[lowest]] = order[lowest]
        kept = self._draws.view(-1, PER_RANGE)
        both = torch.cat([kept[touched], added], dim=1)
        best = both.topk(PER_RANGE, dim=1, largest=False)
        stays = torch.zeros_like(both, dtype=torch.bool).scatter_(1, best.indices, True)
        # As many come as go, in every row.
        rows, free = (~stays[:, :PER_RANGE]).nonzero(as_tuple=True)
        places = touched[rows] * PER_RANGE + free
        chosen = firing[stays[:, PER_RANGE:]]
        self._draws[places] = added[stays[:, PER_RANGE:]]
        self._bounds[touched] = best.values[:, -1]
        there = chosen >= 0
        return places[there], chosen[there]

    def _fill_windows(self, places: Tensor, chosen: Tensor, firings: Firings, group: TextGroup) -> None:
        """Put the latents around firings into the windows of their places."""
        n_texts, n_positions = len(group.numbers), group.n_positions
        text = firings.positions // n_positions
        needed = torch.zeros(n_texts * self._n_neurons, dtype=torch.bool)
        pair = text * self._n_neurons + firings.neurons
        needed[pair[chosen]] = True
        near = needed[pair].nonzero().flatten()
        n_all = n_texts * n_positions
        keys, order = (firings.neurons[near] * n_all + firings.positions[near]).sort()
        values = firings.values[near[order]]
        for some, there in zip(chosen.split(_ROWS_AT_ONCE), places.split(_ROWS_AT_ONCE), strict=True):
            position = firings.positions[some]
            token = position - text[some] * n_positions
            first = position - token.clamp(max=TOKENS_AROUND)
            last = position + (n_positions - 1 - token).clamp(max=TOKENS_AROUND)
            base = firings.neurons[some] * n_all
            begin, end = (
                torch.searchsorted(keys, base + first),
                torch.searchsorted(keys, base + last, right=True),
            )
            counts = end - begin
            which = torch.arange(len(some)).repeat_interleave(counts)
            source = torch.arange(int(counts.sum())) + (begin - counts.cumsum(0) + counts)[which]
            offset = keys[source] - base[which] - first[which]
            windows = torch.zeros(len(some), WINDOW)
            windows[which, offset] = values[source]
            self._windows[there] = windows

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored, by neuron, range and draw: ``example_ends`` [n_neurons], the rest flat.

        The windows are moved together in their place, so this object is of no use afterwards.
        """
        there = (self._draws < _NONE).nonzero().flatten()
        keys = (there // PER_RANGE << DRAW_BITS) + self._draws[there]
        places = there[keys.argsort()]
        tokens, lengths = self._tokens[places], self._lengths[places]
        start = (tokens - TOKENS_AROUND).clamp(min=0)
        ends = torch.bincount(places // (N_RANGES * PER_RANGE), minlength=self._n_neurons).cumsum(0)
        return {
            "example_ends": ends,
            "example_ranges": (places // PER_RANGE % N_RANGES).to(torch.uint8),
            "example_draws": self._draws[places],
            "example_numbers": self._numbers[places],
            "example_scores": self._values[places],
            "example_token_index": tokens,
            "example_start": start,
            "example_length": torch.minimum(tokens + TOKENS_AROUND + 1, lengths) - start,
            "example_activations": self._moved_together(places, ends),
        }

    def _moved_together(self, places: Tensor, ends: Tensor) -> Tensor:
        """Return the windows of places; some neurons' are never moved to where the next ones' still are."""
        begin = 0
        for end in (*ends[_NEURONS_AT_ONCE - 1 :: _NEURONS_AT_ONCE].tolist(), len(places)):
            self._windows[begin:end] = self._windows[places[begin:end]]
            begin = end
        return self._windows[:begin]
