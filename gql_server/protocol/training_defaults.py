"""Defaults of a training that both processes have to agree on."""

import itertools
import math
from collections.abc import Sequence

_HIGHEST_LEARNING_RATE = 4e-3
_LOWEST_LEARNING_RATE = 2e-4
_MEASURED_STEPS = 400
_MEASURED_LATENTS = 4096
"""Steps and neurons up to which the default learning rate is the highest one.

docs/training.md has the measurements behind these numbers.
"""


def group_bounds(fractions: Sequence[float], n_latents: int) -> list[int]:
    """Return how many neurons there are up to the end of each group; the last number is ``n_latents``."""
    ends = [round(end * n_latents) for end in itertools.accumulate(fractions)]
    return [*ends[:-1], n_latents]


def default_learning_rate(n_latents: int, total_steps: int) -> float:
    """Return a rate that falls with the square roots of the number of steps and of the number of neurons.

    With neurons as in Gao et al. 2024, figure 3. For another package's class it is a guess.
    """
    fewer_steps = min(1.0, _MEASURED_STEPS / total_steps)
    fewer_latents = min(1.0, _MEASURED_LATENTS / n_latents)
    return max(_LOWEST_LEARNING_RATE, _HIGHEST_LEARNING_RATE * math.sqrt(fewer_steps * fewer_latents))
