"""The texts on which each neuron fires most strongly, with its latents around the strongest token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute.indexing.statistics import Firings
from gql_server.compute.saes.strength_keys import numbers_of, renumbered, strength_keys, strengths_of

TOKENS_AROUND = 16
WINDOW = 2 * TOKENS_AROUND + 1


@dataclass(frozen=True)
class TextGroup:
    """Whole texts, of one stored batch or several; the tensors are [n_texts].

    ``rows`` are theirs in the dataset, ``lengths`` count the tokens as captured, none more than
    ``n_positions``. A firing's position is text * n_positions + token, both counted from 0.
    """

    rows: Tensor
    lengths: Tensor
    n_positions: int


class StrongestTexts:
    """The k strongest texts of n neurons. A text counts by its strongest token, the first of several.

    Of texts of equal strength the one that is first in the dataset wins, so the result does not depend on the
    order in which texts come, and memory not on their number.
    """

    def __init__(self, n_neurons: int, k: int, device: torch.device) -> None:
        self._keys = torch.zeros(n_neurons, k, dtype=torch.int64, device=device)
        """Strength and row of each text; 0 where there is none."""
        self._tokens = torch.zeros(n_neurons, k, dtype=torch.int32, device=device)
        self._lengths = torch.zeros(n_neurons, k, dtype=torch.int32, device=device)
        """Of the texts."""
        self._windows = torch.zeros(n_neurons, k, WINDOW, device=device)

    def add(self, firings: Firings, group: TextGroup) -> None:
        """Take in the firings of a group of whole texts."""
        if len(firings.values) == 0:
            return
        n_neurons, k = self._keys.shape
        text = firings.positions // group.n_positions
        token = firings.positions - text * group.n_positions
        # Text by text, as the firings come: what follows each other is then close in memory.
        place = text * n_neurons + firings.neurons
        peaks = torch.zeros(len(group.rows) * n_neurons, dtype=torch.int64, device=place.device)
        peaks.scatter_reduce_(0, place, strength_keys(firings.values, token), "amax")
        peaks = peaks.view(-1, n_neurons).T.contiguous()
        best = renumbered(peaks, group.rows).topk(min(k, len(group.rows)), dim=1)
        tokens = numbers_of(peaks.gather(1, best.indices))
        entries = self._merge(best.values, tokens.int(), group.lengths[best.indices].int())
        wanted = torch.full((len(group.rows), n_neurons), -1, dtype=torch.int32, device=place.device)
        wanted.scatter_(0, best.indices.T, entries.T)
        self._fill_windows(wanted.view(-1)[place], token, firings.values)

    def _merge(self, keys: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Keep the best of what was kept and of m texts of each neuron, strongest first: [n_neurons, m] each.

        Returns which entries they are now, counted over all neurons, or -1; the windows of these are empty.
        """
        n_neurons, k = self._keys.shape
        merged = torch.cat([self._keys, keys], dim=1).topk(k, dim=1)
        self._keys = merged.values
        self._tokens = torch.cat([self._tokens, tokens], dim=1).gather(1, merged.indices)
        self._lengths = torch.cat([self._lengths, lengths], dim=1).gather(1, merged.indices)
        numbers = torch.arange(k, device=keys.device)
        changed = (merged.indices != numbers).any(dim=1).nonzero().flatten()
        chosen = merged.indices[changed][:, :, None]
        windows = self._windows[changed].gather(1, chosen.clamp(max=k - 1).expand(-1, -1, WINDOW))
        self._windows[changed] = windows.masked_fill_(chosen >= k, 0.0)
        entries = torch.arange(n_neurons * k, dtype=torch.int32, device=keys.device).view(n_neurons, k)
        places = torch.full((n_neurons, k + keys.shape[1]), -1, dtype=torch.int32, device=keys.device)
        places.scatter_(1, merged.indices, entries.masked_fill(merged.values == 0, -1))
        return places[:, k:]

    def _fill_windows(self, entry: Tensor, token: Tensor, values: Tensor) -> None:
        """Put latents into windows. ``entry`` [n_firings] is neuron * k + text's place, or -1 for none."""
        here = (entry >= 0).nonzero().flatten()
        entry, token = entry[here].long(), token[here]
        start, length = (spans.view(-1) for spans in self._spans())
        offset = token - start[entry]
        inside = ((offset >= 0) & (offset < length[entry])).nonzero().flatten()
        self._windows.view(-1)[entry[inside] * WINDOW + offset[inside]] = values[here[inside]]

    def _spans(self) -> tuple[Tensor, Tensor]:
        """Return where the windows begin in their texts, and how long they are: [n_neurons, k]."""
        start = (self._tokens - TOKENS_AROUND).clamp(min=0)
        return start, torch.minimum(self._tokens + TOKENS_AROUND + 1, self._lengths) - start

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored of them, on the CPU; entries without a text are 0, and their row is -1."""
        there = self._keys > 0
        start, length = self._spans()
        tensors = {
            "top_scores": strengths_of(self._keys),
            "top_rows": numbers_of(self._keys, nothing=-1).int(),
            "top_token_index": self._tokens * there,
            "window_start": start * there,
            "window_length": length * there,
            "window_activations": self._windows * there[:, :, None],
        }
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
