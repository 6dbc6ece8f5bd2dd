"""The texts on which each neuron fires most strongly, with its latents around the strongest token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute.indexing.statistics import Firings
from gql_server.compute.indexing.stretches import TOKENS_AROUND, WINDOW, first_of_each
from gql_server.compute.saes.strength_keys import numbers_of, renumbered, strength_keys, strengths_of

_TIMES_MORE = 4
"""Factor by which more texts are looked at where the strongest ones repeat each other."""


@dataclass(frozen=True)
class TextGroup:
    """Whole texts, of one stored batch or several; the tensors are [n_texts].

    ``numbers`` order them as the dataset does, ``lengths`` count the tokens as captured, none more than
    ``n_positions``. A firing's position is text * n_positions + token, both counted from 0.
    """

    numbers: Tensor
    lengths: Tensor
    n_positions: int
    stretches: Tensor
    """The key of each token's stretch, [n_tokens], text by text."""
    token_counts: Tensor
    """Tokens of each text that count: those that are neither special nor excluded."""

    def stretches_at(self, texts: Tensor, tokens: Tensor) -> Tensor:
        """Return the keys of the stretches around tokens of texts, both counted in the group."""
        first = self.lengths.cumsum(0) - self.lengths
        return self.stretches[first[texts] + tokens]


def _strongest(keys: Tensor, peaks: Tensor, group: TextGroup, kept: Tensor, n_seen: int) -> Tensor:
    """Return each neuron's strongest texts of a group, each stretch once: [4, n_neurons, m], strongest first.

    The four are their keys, 0 where there is no text; the texts, counted in the group; their strongest
    tokens; and the stretches around these. ``keys`` and ``peaks`` are of all texts and of their strongest
    tokens, [n_neurons, n_texts]; ``kept`` [n_neurons, k] of the texts so far, and m is k or n_texts.

    Only the ``n_seen`` strongest texts are looked at, and more for neurons where repeated stretches have left
    places free while the last text seen is still stronger than the weakest one kept.
    """
    n_texts = keys.shape[1]
    seen = keys.topk(n_seen, dim=1)
    tokens = numbers_of(peaks.gather(1, seen.indices))
    stretches = group.stretches_at(seen.indices, tokens)
    best = first_of_each(seen.values, stretches).topk(min(kept.shape[1], n_texts), dim=1)
    columns = [values.gather(1, best.indices) for values in (seen.indices, tokens, stretches)]
    found = torch.stack([best.values, *columns])
    lacking = (best.values[:, -1] == 0) & (seen.values[:, -1] > kept[:, -1])
    rows = lacking.nonzero().flatten()
    if len(rows) and n_seen < n_texts:
        more = min(_TIMES_MORE * n_seen, n_texts)
        found[:, rows] = _strongest(keys[rows], peaks[rows], group, kept[rows], more)
    return found


class StrongestTexts:
    """The k strongest texts of n neurons. A text counts by its strongest token, the first of several.

    Of texts with the same tokens around that one the strongest is kept. Of texts of equal strength the one
    that is first in the dataset wins, so the result does not depend on the order in which texts come, and
    memory not on their number.
    """

    def __init__(self, n_neurons: int, k: int, device: torch.device) -> None:
        self._keys = torch.zeros(n_neurons, k, dtype=torch.int64, device=device)
        """Strength and number of each text; 0 where there is none."""
        self._tokens = torch.zeros(n_neurons, k, dtype=torch.int32, device=device)
        self._lengths = torch.zeros(n_neurons, k, dtype=torch.int32, device=device)
        """The texts' lengths in tokens."""
        self._stretches = torch.zeros(n_neurons, k, dtype=torch.int64, device=device)
        self._windows = torch.zeros(n_neurons, k, WINDOW, device=device)

    def add(self, firings: Firings, group: TextGroup) -> None:
        """Take in the firings of a group of whole texts."""
        if len(firings.values) == 0:
            return
        n_neurons = len(self._keys)
        text = firings.positions // group.n_positions
        token = firings.positions - text * group.n_positions
        # Text by text, as the firings come: what follows each other is then close in memory.
        place = text * n_neurons + firings.neurons
        n_texts = len(group.numbers)
        peaks = torch.zeros(n_texts * n_neurons, dtype=torch.int64, device=place.device)
        peaks.scatter_reduce_(0, place, strength_keys(firings.values, token), "amax")
        peaks = peaks.view(-1, n_neurons).T.contiguous()
        keys, n_seen = renumbered(peaks, group.numbers), min(self._keys.shape[1], n_texts)
        found = _strongest(keys, peaks, group, self._keys, n_seen)
        texts = found[1]
        entries = self._merge(found, group.lengths[texts].int())
        wanted = torch.full((n_texts, n_neurons), -1, dtype=torch.int32, device=place.device)
        wanted.scatter_(0, texts.T, entries.T)
        self._fill_windows(wanted.view(-1)[place], token, firings.values)

    def _merge(self, found: Tensor, lengths: Tensor) -> Tensor:
        """Keep the best of what was kept and of what _strongest() found, each stretch once, strongest first.

        ``lengths`` [n_neurons, m] are those of the found texts. Returns which entries these are now, counted
        over all neurons, or -1; the windows of these are empty.
        """
        n_neurons, k = self._keys.shape
        found_keys, _, found_tokens, found_stretches = found
        keys = torch.cat([self._keys, found_keys], dim=1)
        stretches = torch.cat([self._stretches, found_stretches], dim=1)
        rows = (found_keys > self._keys[:, -1:]).any(dim=1).nonzero().flatten()
        keys[rows] = first_of_each(keys[rows], stretches[rows])
        merged = keys.topk(k, dim=1)
        self._keys = merged.values
        self._stretches = stretches.gather(1, merged.indices)
        self._tokens = torch.cat([self._tokens, found_tokens.int()], dim=1).gather(1, merged.indices)
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

    def stretches(self) -> tuple[Tensor, Tensor]:
        """Return the keys of the texts' stretches, and where there is a text; [n_neurons, k] on the CPU."""
        return self._stretches.cpu(), (self._keys > 0).cpu()

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored of them, on the CPU; entries without a text are 0, and their number is -1."""
        there = self._keys > 0
        start, length = self._spans()
        tensors = {
            "top_scores": strengths_of(self._keys),
            "top_numbers": numbers_of(self._keys, nothing=-1).int(),
            "top_token_index": self._tokens * there,
            "window_start": start * there,
            "window_length": length * there,
            "window_activations": self._windows * there[:, :, None],
        }
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
