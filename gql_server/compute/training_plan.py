"""What a training chooses where the request leaves it open, and how that is written down."""

import math
from dataclasses import dataclass

from gql_server.compute.messages import TrainingConfigChosen, TrainSae

MAX_DEAD_WINDOW = 1_000_000
"""Training tokens over which a neuron must not fire to be called dead; one epoch's where that has fewer."""

_REVIVALS = 16
"""So many times over a training could a neuron die and be brought back. Gao et al. 2024 wait for 10 million
tokens, which short trainings do not have."""

HIGHEST_LEARNING_RATE = 8e-3
LOWEST_LEARNING_RATE = 2e-4
_STEPS_AT_HIGHEST = 64

L1_PENALTY = 0.5


@dataclass(frozen=True)
class TrainingPlan:
    """A configuration without gaps.

    ``l1_lambda`` is mi_crow's: the loss on the activations as they are is
    mean((x - x_hat)²) + l1_lambda * mean(|latents|); ``activation_scale`` is what the training multiplies x
    with.
    """

    config: TrainingConfigChosen
    activation_scale: float
    revival_window: int = MAX_DEAD_WINDOW
    """Training tokens over which a neuron must not fire to be helped."""

    @property
    def scaled_l1_lambda(self) -> float:
        """What makes the loss on scaled activations scale² times the loss on the activations as they are."""
        return self.config.l1_lambda * self.activation_scale


def make_plan(
    task: TrainSae, *, needs_k: bool, n_inputs: int, total_steps: int, activation_scale: float, device: str
) -> TrainingPlan:
    """Fill in a task's gaps."""
    config = TrainingConfigChosen(
        epochs=task.epochs,
        batch_size=task.batch_size,
        k=task.k if needs_k else None,
        learning_rate=_or(task.learning_rate, _default_learning_rate(total_steps)),
        l1_lambda=_or(task.l1_lambda, _default_l1_lambda(task, needs_k, n_inputs) / activation_scale),
        seed=task.seed,
        device=device,
    )
    revival_window = min(MAX_DEAD_WINDOW, total_steps * task.batch_size // _REVIVALS)
    return TrainingPlan(config, activation_scale, revival_window)


def _default_learning_rate(total_steps: int) -> float:
    """Return Adam's learning rate on scaled activations: the shorter the training, the higher.

    Measured on 65,536 tokens of SmolLM2-135M, layer 9, TopKSae, k 32, in steps of 1,024 tokens; explained
    variance on held-out tokens. 4,096 neurons, one epoch: 0.825 at 4e-3, 0.831 at 8e-3. 2,048 neurons, four
    epochs: 0.856 with 15 % dead at 1e-3, 0.873 with 22 % at 2e-3, 0.875 with 35 % at 4e-3; so it falls as
    trainings get longer.
    """
    falling = HIGHEST_LEARNING_RATE * math.pow(_STEPS_AT_HIGHEST / total_steps, 0.75)
    return float(max(LOWEST_LEARNING_RATE, min(HIGHEST_LEARNING_RATE, falling)))


def _default_l1_lambda(task: TrainSae, needs_k: bool, n_inputs: int) -> float:
    """Return the penalty on scaled activations: none where k fixes the sparsity.

    mi_crow takes means where papers take sums: mean over latents of |z|, over inputs of the squared error. So
    a given balance of the two sums is a lambda that grows with n_latents / n_inputs.

    Measured as above with 2,048 neurons, one epoch: 87 active neurons per token and 0.812; at a fifth of it
    250 and 0.901, at twice it 47 and 0.753.
    """
    return 0.0 if needs_k else L1_PENALTY * task.n_latents / n_inputs


def _or(given: float | None, default: float) -> float:
    return default if given is None else given
