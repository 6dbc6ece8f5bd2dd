"""How often and how strongly each neuron fires, counted in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gql_server.compute.training.metrics import float64_device

N_BINS = 32
_LOWEST_EXPONENT = -100


@dataclass(frozen=True)
class Firings:
    """The non-zero latents of some tokens; all [n_firings], ordered by position.

    ``positions`` count the tokens of some texts: text * n_positions + token.
    """

    positions: Tensor
    neurons: Tensor
    values: Tensor

    def to(self, device: torch.device) -> "Firings":
        """Return them on a device."""
        return Firings(self.positions.to(device), self.neurons.to(device), self.values.to(device))


def joined(parts: Sequence[Firings]) -> Firings:
    """Put firings of consecutive tokens together; there is at least one part."""
    return Firings(
        torch.cat([part.positions for part in parts]),
        torch.cat([part.neurons for part in parts]),
        torch.cat([part.values for part in parts]),
    )


class StatisticsCounter:
    """Counts, sums, maxima and histograms of n neurons' non-zero latents, which are taken to be positive.

    A histogram has equal bins from 0 to the smallest power of two above the neuron's maximum. The limit
    doubles when it is passed, and bins merge in pairs: counts stay exact, and do not depend on how the tokens
    came in chunks. They are kept on the device, or on the CPU where it has no float64.
    """

    def __init__(self, n_neurons: int, device: torch.device) -> None:
        device = float64_device(device)
        self.token_count = 0
        self.firing_count = torch.zeros(n_neurons, dtype=torch.int64, device=device)
        self.sums = torch.zeros(n_neurons, dtype=torch.float64, device=device)
        self.maxima = torch.zeros(n_neurons, device=device)
        self._exponents = torch.full((n_neurons,), _LOWEST_EXPONENT, dtype=torch.int32, device=device)
        self._histograms = torch.zeros(n_neurons, N_BINS, dtype=torch.int64, device=device)

    @property
    def exponents(self) -> Tensor:
        """Exponents of 2 that are the limits of the histograms: int32 [n_neurons]."""
        return self._exponents

    def add(self, firings: Firings, token_count: int) -> Tensor:
        """Count some tokens' firings; return each one's bin of its neuron's histogram, int64 [n_firings]."""
        n_neurons = len(self.firing_count)
        firings = firings.to(self.firing_count.device)
        neurons, values = firings.neurons, firings.values
        self.token_count += token_count
        self.firing_count += torch.bincount(neurons, minlength=n_neurons)
        self.sums += torch.bincount(neurons, values.double(), minlength=n_neurons)
        self.maxima.scatter_reduce_(0, neurons, values, "amax")
        self._raise_limits()
        # Exact: the limit is a power of two.
        bins = torch.ldexp(values, 5 - self._exponents[neurons]).long().clamp_(0, N_BINS - 1)
        counts = torch.bincount(neurons * N_BINS + bins, minlength=n_neurons * N_BINS)
        self._histograms += counts.view(n_neurons, N_BINS)
        return bins

    def _raise_limits(self) -> None:
        needed = torch.frexp(self.maxima).exponent.clamp(min=_LOWEST_EXPONENT)
        needed = torch.where(self.maxima > 0, needed, self._exponents)
        doublings = needed - self._exponents
        # After as many doublings as halve all bins away, everything is in the first one for good.
        for done in range(min(int(doublings.max()), 5)):
            rows = doublings > done
            merged = self._histograms[rows].view(-1, N_BINS // 2, 2).sum(dim=2)
            self._histograms[rows] = torch.cat([merged, torch.zeros_like(merged)], dim=1)
        self._exponents = needed

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored of them, on the CPU, by the names that the index has for it."""
        fired = self.firing_count.clamp(min=1)
        # In float64, on the CPU, which all devices have: the largest limit, 2**128, is none in float32.
        limits = torch.from_numpy(np.ldexp(1.0, self._exponents.cpu().numpy()))
        tensors = {
            "firing_count": self.firing_count,
            "frequency": (self.firing_count.double() / max(1, self.token_count)).float(),
            "max_activation": self.maxima,
            "mean_activation": (self.sums / fired).float(),
            "histogram_counts": self._histograms,
            "histogram_limit": torch.where(self.maxima.cpu() > 0, limits, 0.0),
        }
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
