"""Each neuron's highest activation over a prompt and its output, and where that is."""

from dataclasses import dataclass

from torch import Tensor

from gql_server.compute.messages import NeuronActivation
from gql_server.compute.ranking import strongest


@dataclass(frozen=True)
class _OutputToken:
    """The non-zero latents of one output token."""

    neurons: Tensor
    values: Tensor
    counted: bool


class Peaks:
    """Collects latents position by position; positions count the prompt's tokens, then the output's.

    The output's are kept apart, sparse, until ``settle`` says how many of its tokens stay: a stop string
    takes back tokens that have been generated.
    """

    def __init__(self, latents: Tensor, counted: Tensor) -> None:
        """Begin with a prompt's latents [n_tokens, n_latents]; ``counted`` [n_tokens] is not special."""
        highest = latents.masked_fill(~counted.to(latents.device)[:, None], 0.0).max(dim=0)
        self.values = highest.values.cpu()
        self.places = highest.indices.cpu()
        self._prompt_length = len(latents)
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
