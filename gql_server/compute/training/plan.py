"""What a training chooses where the request leaves it open, and how that is written down."""

import math
from dataclasses import dataclass

from gql_server.compute.messages.events import TrainingConfigChosen
from gql_server.compute.messages.tasks import TrainSae
from gql_server.compute.training.recipes import LOWEST_LEARNING_RATE, Recipe

MAX_DEAD_WINDOW = 1_000_000
"""Training tokens over which a neuron must not fire to be called dead; one epoch's where that has fewer."""

_MEASURED_LATENTS = 4096
"""With so many neurons, and fewer, recipes' learning rates were chosen."""
_REVIVALS = 16
"""So many times over a training could a neuron die and be brought back. Gao et al. 2024 wait for 10 million
tokens, which short trainings do not have."""


@dataclass(frozen=True)
class TrainingPlan:
    """A configuration without gaps.

    ``l1_lambda`` is mi_crow's: the loss on the activations as they are is
    mean((x - x_hat)²) + l1_lambda * mean(|latents|), plus what the recipe adds;
    ``activation_scale`` is what the training multiplies x with.
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
    task: TrainSae, recipe: Recipe, *, needs_k: bool, n_inputs: int, total_steps: int, device: str
) -> TrainingPlan:
    """Fill in a task's gaps, for a recipe that has started."""
    config = TrainingConfigChosen(
        epochs=task.epochs,
        batch_size=task.batch_size,
        k=task.k if needs_k else None,
        learning_rate=_or(task.learning_rate, _default_learning_rate(task, recipe, total_steps)),
        l1_lambda=_or(task.l1_lambda, _default_l1_lambda(task, recipe, needs_k, n_inputs)),
        seed=task.seed,
        device=device,
    )
    revival_window = min(MAX_DEAD_WINDOW, max(task.batch_size, total_steps * task.batch_size // _REVIVALS))
    return TrainingPlan(config, recipe.scale, revival_window)


def _default_learning_rate(task: TrainSae, recipe: Recipe, total_steps: int) -> float:
    """Return the recipe's; for n times as many neurons as it was chosen with, the same over sqrt(n).

    That is how it falls in Gao et al. 2024, figure 3. Explained variance on held-out tokens, 16,384 neurons,
    376 steps of 1,024 tokens of SmolLM2's layer 9: BatchTopKSae 0.900 at 4e-3, 0.909 at 2e-3; BiasedTopKSae
    0.733 (it goes astray), 0.906, and 0.898 at 1e-3. JumpReLUSae wants less: 0.835 at 1e-3.
    """
    more = max(1.0, task.n_latents / _MEASURED_LATENTS)
    return max(LOWEST_LEARNING_RATE, recipe.learning_rate(total_steps) / math.sqrt(more))


def _default_l1_lambda(task: TrainSae, recipe: Recipe, needs_k: bool, n_inputs: int) -> float:
    """Return the penalty on activations as they are: none where k fixes the sparsity.

    mi_crow takes means where papers take sums: mean over latents of |z|, over inputs of the squared error. So
    a given balance of the two sums is a lambda that grows with n_latents / n_inputs.
    """
    return 0.0 if needs_k else recipe.l1_penalty * task.n_latents / n_inputs / recipe.scale


def _or(given: float | None, default: float) -> float:
    return default if given is None else given
