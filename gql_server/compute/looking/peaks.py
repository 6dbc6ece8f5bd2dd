"""Each neuron's highest activation over a prompt and its output, and where that is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute.looking.ranking import strongest
from gql_server.compute.messages.events import NeuronActivation


@dataclass(frozen=True)
class _OutputToken:
    """The non-zero latents of one output token."""

    neurons: Tensor
    values: Tensor
    counted: bool


class PromptLatents:
    """Takes in a padded batch's latents portion by portion, and keeps little of them.

    ``values`` and ``places`` [n_prompts, n_latents] are each neuron's highest latent over the positions that
    count in a prompt, and where it is, padding included; ``last`` [n_prompts, n_latents] the last position's.
    """

    def __init__(self, counted: Tensor, n_latents: int, device: torch.device) -> None:
        """Begin; ``counted`` [n_prompts, n_positions] is neither padding nor special."""
        self.values = torch.zeros(len(counted), n_latents, device=device)
        self.places = torch.zeros(len(counted), n_latents, dtype=torch.long, device=device)
        self.last = torch.zeros(len(counted), n_latents, device=device)
        self._counted = counted.to(device)

    def add(self, latents: Tensor, first: int) -> None:
        """Take in latents [n, n_latents] of positions, prompt after prompt, from the ``first`` on."""
        width, stop = self._counted.shape[1], first + len(latents)
        for prompt in range(first // width, (stop - 1) // width + 1):
            begin, end = max(first, prompt * width), min(stop, (prompt + 1) * width)
            self._add_to(prompt, begin - prompt * width, latents[begin - first : end - first])

    def _add_to(self, prompt: int, position: int, latents: Tensor) -> None:
        counted = self._counted[prompt, position : position + len(latents)]
        highest = latents.masked_fill(~counted[:, None], 0.0).max(dim=0)
        higher = highest.values > self.values[prompt]
        self.values[prompt] = torch.where(higher, highest.values, self.values[prompt])
        self.places[prompt] = torch.where(higher, highest.indices + position, self.places[prompt])
        if position + len(latents) == len(self._counted[prompt]):
            self.last[prompt] = latents[-1]


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

    def add(self, latents: Tensor, counted: bool) -> None:
        """Add the next output token's latents [n_latents]."""
        latents = latents.cpu()
        neurons = latents.nonzero().flatten()
        self._output.append(_OutputToken(neurons, latents[neurons], counted))

    def settle(self, n_tokens: int) -> None:
        """Take in the first ``n_tokens`` of the output."""
        for number, token in enumerate(self._output[:n_tokens]):
            if not token.counted:
                continue
            higher = token.values > self.values[token.neurons]
            self.values[token.neurons[higher]] = token.values[higher]
            self.places[token.neurons[higher]] = self._prompt_length + number
        self._output = []

    def ranked(self, first: int) -> list[NeuronActivation]:
        """Return the neurons that fire most, strongest first."""
        return strongest(self.values, self.places, first)
