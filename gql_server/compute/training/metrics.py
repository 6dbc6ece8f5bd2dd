"""What a training point says of reconstructions, accumulated in float64 over the steps of an interval.

Definitions: contract of the API, TrainingPoint. An evaluation says the same of its tokens, and more
(``evaluation_metrics``). Everything merges batches exactly: explained variance uses
the mean per input dimension over all rows of the interval, not the means of its batches.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DEFINITIONS_VERSION = 2
"""Written beside statistics of trainings and evaluations; grows when a definition changes.

2: a training's loss has the class's further terms.
"""


@dataclass(frozen=True)
class IntervalSummary:
    """Averages over an interval; None where undefined or not finite."""

    n_rows: int
    loss: float | None
    mse: float | None
    explained_variance: float | None
    l0: float | None


class IntervalMetrics:
    """Sums over the rows of an interval; ``summary()`` reads them, ``reset()`` begins the next interval.

    ``state_dict()`` and ``load_state_dict()`` are as torch's: plain values and tensors, which are not copied.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new interval."""
        self._n_rows = 0
        self._n_inputs = 0
        self._mean: Tensor | None = None
        self._sums: Tensor | None = None

    def update(self, x: Tensor, x_hat: Tensor, active_count: Tensor, loss: Tensor) -> None:
        """Add a batch: x and x_hat [n, n_inputs], how many latents are not 0 in it, and its loss.

        Nothing is read from the device, so that it need not be waited for.
        """
        if x.shape[0] == 0:
            return
        wide = float64(x)
        error = _squares(wide - float64(x_hat))
        added = [float64(loss) * len(wide), error, float64(active_count), self._merge(wide)]
        new = torch.stack([one.to(wide.device) for one in added])
        # Sums that were loaded are on the CPU.
        self._sums = new if self._sums is None else self._sums.to(new.device) + new

    def summary(self) -> IntervalSummary:
        """Read the averages of the interval so far."""
        n = self._n_rows
        if n == 0:
            return IntervalSummary(0, None, None, None, None)
        assert self._sums is not None
        loss, squared_error, active, deviation = self._sums.tolist()
        # A NaN deviation compares false too, and is undefined just as no deviation is.
        share = squared_error / deviation if deviation > 0 else math.nan
        return IntervalSummary(
            n_rows=n,
            loss=finite(loss / n),
            mse=finite(squared_error / (n * self._n_inputs)),
            explained_variance=finite(1.0 - share),
            l0=active / n,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what state_dict() returned."""
        vars(self).update(state)

    def _merge(self, x: Tensor) -> Tensor:
        """Merge the mean; return what the squared deviation grows by.

        By Chan's formula: sums of squares cancel at large means.
        """
        n_new, mean_new = x.shape[0], x.mean(dim=0)
        deviation_new = _squares(x - mean_new)
        # A mean that was loaded is on the CPU.
        mean = torch.zeros_like(mean_new) if self._mean is None else self._mean.to(mean_new.device)
        n_all = self._n_rows + n_new
        shift = mean_new - mean
        deviation = deviation_new + _squares(shift) * (self._n_rows * n_new / n_all)
        self._mean = mean + shift * (n_new / n_all)
        self._n_rows, self._n_inputs = n_all, x.shape[1]
        return deviation


class DeadNeurons:
    """Tracks which neurons have not fired over the last ``window`` training tokens.

    ``state_dict()`` and ``load_state_dict()`` as above.
    """

    def __init__(self, n_latents: int, window: int) -> None:
        self.window = window
        self._seen = 0
        self._last_fired = torch.zeros(n_latents, dtype=torch.int64)

    def update(self, fired: Tensor, n_tokens: int) -> None:
        """Add a batch of ``n_tokens`` tokens, and which neurons fired on them, bool [n_latents]."""
        self._seen += n_tokens
        self._last_fired = self._last_fired.to(fired.device).masked_fill(fired, self._seen)

    def share(self) -> float | None:
        """Return the share of dead neurons; None before a full window of tokens has passed."""
        if self._seen < self.window:
            return None
        silent = self.silent_for(self.window)
        return int(silent.sum()) / len(silent)

    def silent_for(self, n_tokens: int) -> Tensor:
        """Say which neurons have not fired over the last ``n_tokens`` tokens: bool [n_latents]."""
        return self._seen - self._last_fired >= n_tokens

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of the neurons."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what state_dict() returned."""
        vars(self).update(state)


def _squares(values: Tensor) -> Tensor:
    """Return the sum of squares, in one pass over the memory."""
    flat = values.flatten()
    return flat.dot(flat)


def float64_device(device: torch.device) -> torch.device:
    """Return where float64 can be: the device, or the CPU where it has none (Apple's)."""
    return torch.device("cpu") if device.type == "mps" else device


def float64(x: Tensor) -> Tensor:
    """Widen a tensor, on the CPU where the device has no float64."""
    return x.detach().to(float64_device(x.device)).double()


def finite(value: float) -> float | None:
    """Return the number, or None for NaN and infinities."""
    return value if math.isfinite(value) else None
