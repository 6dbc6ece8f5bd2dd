"""Each neuron's highest activation over a prompt and its output, and where that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute.inspection.ranking import strongest
from gql_server.compute.saes.sparse_latents import SparseLatents, SparsityPattern
from gql_server.compute.saes.strength_keys import numbers_of, strength_keys, strengths_of
from gql_server.protocol.events import NeuronActivationMessage


@dataclass(frozen=True)
class _OutputToken:
    """The non-zero latents of one output token."""

    neurons: Tensor
    values: Tensor
    counts: bool


class PromptLatents:
    """Takes in a padded batch's latents chunk by chunk, and keeps little of them.

    ``last`` are those of each prompt's last position, ``watched`` [n_prompts, n_positions, n_watched] those
    of some neurons, 0 at positions that do not count.
    """

    def __init__(
        self, token_mask: Tensor, n_latents: int, device: torch.device, watch: Sequence[int] = ()
    ) -> None:
        """Begin; ``token_mask`` [n_prompts, n_positions] is neither padding nor special."""
        self._token_mask = token_mask.to(device)
        self._n_latents = n_latents
        self._peaks = torch.zeros(len(token_mask) * n_latents, dtype=torch.int64, device=device)
        """Keys of each neuron's highest latent in each prompt and its place; 0 where it never fires."""
        self._last: list[tuple[Tensor, Tensor, Tensor]] = []
        """Of the last positions, prompt after prompt: prompts, neurons and values."""
        self.watched = torch.zeros(*token_mask.shape, len(watch), device=device)
        self._column_of = torch.full((n_latents,), -1, device=device) if watch else None
        if self._column_of is not None:
            self._column_of[torch.tensor(watch, device=device)] = torch.arange(len(watch), device=device)

    def add(self, sparse: SparseLatents, first: int) -> None:
        """Take in the latents of positions, prompt after prompt, from the ``first`` on."""
        width = self._token_mask.shape[1]
        positions = sparse.rows + first
        prompts = positions // width
        places = positions - prompts * width
        keys = strength_keys(sparse.values, places)
        counts = self._token_mask.view(-1)[positions]
        keys.masked_fill_(~counts, 0)
        self._peaks.scatter_reduce_(0, prompts * self._n_latents + sparse.neurons, keys, "amax")
        is_last = places == width - 1
        self._last.append((prompts[is_last], sparse.neurons[is_last], sparse.values[is_last]))
        if self._column_of is not None:
            columns = self._column_of[sparse.neurons]
            kept = counts & (columns >= 0)
            self.watched[prompts[kept], places[kept], columns[kept]] = sparse.values[kept]

    def peaks(self) -> tuple[Tensor, Tensor]:
        """Return each neuron's highest latent over the positions that count in a prompt, and where it is.

        Both [n_prompts, n_latents]; places count padding, and are 0 where the neuron never fires.
        """
        keys = self._peaks.view(-1, self._n_latents)
        return strengths_of(keys), numbers_of(keys)

    @property
    def last(self) -> SparseLatents:
        """Return the latents at the prompts' last positions, a row for each prompt."""
        prompts, neurons, values = (torch.cat(parts) for parts in zip(*self._last, strict=True))
        return SparseLatents(
            values, SparsityPattern.of(prompts, neurons, (len(self._token_mask), self._n_latents))
        )


class Peaks:
    """Collects latents position by position; positions count the prompt's tokens, then the output's.

    The output's are kept apart, sparse, until ``settle`` says how many of its tokens stay: a stop string
    takes back tokens that have been generated.
    """

    def __init__(self, values: Tensor, places: Tensor, prompt_length: int) -> None:
        """Begin with the highest latents over a prompt and at which of its tokens they are: [n_latents]."""
        self.values = values.cpu()
        self.places = places.cpu()
        self._prompt_length = prompt_length
        self._output: list[_OutputToken] = []

    def add(self, neurons: Tensor, values: Tensor, counts: bool) -> None:
        """Add the next output token's latents that are not zero, [n_firings] both."""
        self._output.append(_OutputToken(neurons.cpu(), values.cpu(), counts))

    def settle(self, n_tokens: int) -> None:
        """Take in the first ``n_tokens`` of the output."""
        for number, token in enumerate(self._output[:n_tokens]):
            if not token.counts:
                continue
            higher = token.values > self.values[token.neurons]
            self.values[token.neurons[higher]] = token.values[higher]
            self.places[token.neurons[higher]] = self._prompt_length + number
        self._output = []

    def ranked(self, first: int) -> list[NeuronActivationMessage]:
        """Return the neurons that fire most, strongest first."""
        return strongest(self.values, self.places, first)
