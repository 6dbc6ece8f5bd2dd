"""The texts on which each neuron fires most strongly, with its latents around the strongest token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute.indexing.statistics import Firings

TOKENS_AROUND = 16
WINDOW = 2 * TOKENS_AROUND + 1


@dataclass(frozen=True)
class TextGroup:
    """Whole texts of one stored batch, the first of them at ``first``; the tensors are [n_texts].

    ``lengths`` count the tokens as captured, ``begins`` the padding before them; ``n_positions`` is the
    batch's padded length.
    """

    first: int
    rows: Tensor
    lengths: Tensor
    begins: Tensor
    n_positions: int


class StrongestTexts:
    """The k strongest texts of n neurons. A text counts by its strongest token, the first of several.

    Of texts of equal strength the one that is first in the dataset wins, so the result does not depend on the
    order in which texts come, and memory not on their number.
    """

    def __init__(self, n_neurons: int, k: int, device: torch.device) -> None:
        self._scores = torch.zeros(n_neurons, k, device=device)
        self._rows = torch.full((n_neurons, k), -1, dtype=torch.int32, device=device)
        self._token_index = torch.zeros(n_neurons, k, dtype=torch.int32, device=device)
        self._start = torch.zeros(n_neurons, k, dtype=torch.int32, device=device)
        self._length = torch.zeros(n_neurons, k, dtype=torch.int32, device=device)
        self._windows = torch.zeros(n_neurons, k, WINDOW, device=device)

    def add(self, firings: Firings, group: TextGroup) -> None:
        """Take in the firings of a group of whole texts."""
        if len(firings.values) == 0:
            return
        scores, tokens = self._peaks(firings, group)
        best = scores.amax(dim=1)
        changed = ((best > 0) & (best >= self._scores[:, -1])).nonzero().flatten()
        if len(changed):
            self._merge(changed, scores[changed], tokens[changed], firings, group)

    def _peaks(self, firings: Firings, group: TextGroup) -> tuple[Tensor, Tensor]:
        """Return each neuron's highest latent on each text, and its token: [n_neurons, n_texts]."""
        n_neurons, n_texts = len(self._scores), len(group.rows)
        text = firings.positions // group.n_positions - group.first
        token = firings.positions % group.n_positions - group.begins[text]
        place = firings.neurons * n_texts + text
        scores = torch.zeros(n_neurons * n_texts, device=place.device)
        scores.scatter_reduce_(0, place, firings.values, "amax")
        at_peak = firings.values == scores[place]
        tokens = torch.full_like(scores, group.n_positions, dtype=torch.int64)
        tokens.scatter_reduce_(0, place[at_peak], token[at_peak], "amin")
        return scores.view(n_neurons, n_texts), tokens.view(n_neurons, n_texts)

    def _merge(
        self, changed: Tensor, scores: Tensor, tokens: Tensor, firings: Firings, group: TextGroup
    ) -> None:
        """Put the best of what was kept and of what is new back, strongest first."""
        k, n_texts = self._scores.shape[1], len(group.rows)
        new_rows = torch.where(scores > 0, group.rows.int(), -1)
        all_scores = torch.cat([self._scores[changed], scores], dim=1)
        all_rows = torch.cat([self._rows[changed], new_rows], dim=1)
        # Two stable sorts: by strength, and where that is equal by row.
        by_row = all_rows.argsort(dim=1, stable=True)
        by_score = all_scores.gather(1, by_row).argsort(dim=1, descending=True, stable=True)
        chosen = by_row.gather(1, by_score)[:, :k]

        def pick(kept: Tensor, new: Tensor) -> Tensor:
            return torch.cat([kept[changed], new], dim=1).gather(1, chosen)

        lengths = group.lengths.expand(len(changed), n_texts)
        start = (tokens - TOKENS_AROUND).clamp(min=0)
        length = torch.minimum(tokens + TOKENS_AROUND + 1, lengths) - start
        windows = self._windows[changed].gather(1, chosen.clamp(max=k - 1)[:, :, None].expand(-1, -1, WINDOW))
        neuron, slot = (chosen >= k).nonzero(as_tuple=True)
        text = chosen[neuron, slot] - k
        begin = (text + group.first) * group.n_positions + group.begins[text] + start[neuron, text]
        windows[neuron, slot] = _latents_at(
            firings, len(self._scores), changed[neuron], begin, length[neuron, text]
        )
        self._token_index[changed] = pick(self._token_index, tokens.int())
        self._start[changed] = pick(self._start, start.int())
        self._length[changed] = pick(self._length, length.int())
        self._scores[changed] = all_scores.gather(1, chosen)
        self._rows[changed] = all_rows.gather(1, chosen)
        self._windows[changed] = windows

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored of them, on the CPU; entries without a text are 0, and their row is -1."""
        there = self._rows >= 0
        tensors = {
            "top_scores": self._scores,
            "top_rows": self._rows,
            "top_token_index": self._token_index * there,
            "window_start": self._start * there,
            "window_length": self._length * there,
            "window_activations": self._windows * there[:, :, None],
        }
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def _latents_at(firings: Firings, n_neurons: int, neurons: Tensor, begin: Tensor, length: Tensor) -> Tensor:
    """Return the n neurons' latents [n, WINDOW] at ``length`` positions from ``begin`` on, 0 after those."""
    steps = torch.arange(WINDOW, device=begin.device)
    wanted = (begin[:, None] + steps) * n_neurons + neurons[:, None]
    known = firings.positions * n_neurons + firings.neurons
    place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    inside = (steps < length[:, None]) & (known[place] == wanted)
    return torch.where(inside, firings.values[place], 0.0)
