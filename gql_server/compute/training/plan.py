"""A training's configuration, with defaults for what the request leaves open."""

from dataclasses import dataclass

from gql_server.compute.training.strategies import TrainingStrategy
from gql_server.protocol.events import TrainingConfigChosen
from gql_server.protocol.tasks import TrainSae
from gql_server.protocol.training_defaults import default_learning_rate

MAX_DEAD_WINDOW = 1_000_000
"""Training tokens over which a neuron must not fire to be called dead; one epoch's where that has fewer."""

_L1_PENALTY = 0.75
"""Default of l1Lambda on scaled activations, over n_latents / n_inputs, for classes without k.

docs/training.md has the measurements behind this and the other numbers.
"""
_REVIVALS = 16
"""Revivals of a neuron that fit into a training, which sets how long it must be silent before one.

Gao et al. 2024 wait for 10 million tokens, which short trainings do not have.
"""


@dataclass(frozen=True)
class TrainingPlan:
    """A configuration without gaps.

    ``l1_lambda`` is mi_crow's: the loss on the activations as they are is
    mean((x - x_hat)²) + l1_lambda * mean(|latents|), plus what the strategy adds;
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
    task: TrainSae,
    strategy: TrainingStrategy,
    *,
    needs_k: bool,
    n_inputs: int,
    total_steps: int,
    device: str,
    median_norm: float | None = None,
) -> TrainingPlan:
    """Fill in a task's gaps, for a strategy that has started."""
    config = TrainingConfigChosen(
        epochs=task.epochs,
        batch_size=task.batch_size,
        k=task.k if needs_k else None,
        learning_rate=_or(task.learning_rate, default_learning_rate(task.n_latents, total_steps)),
        l1_lambda=_or(task.l1_lambda, _default_l1_lambda(task, strategy, needs_k, n_inputs)),
        seed=task.seed,
        device=device,
        exclude_first_positions=task.exclusions.first_positions,
        exclude_outliers=task.exclusions.outliers,
        median_norm=median_norm,
        group_fractions=task.group_fractions,
    )
    revival_window = min(MAX_DEAD_WINDOW, max(task.batch_size, total_steps * task.batch_size // _REVIVALS))
    return TrainingPlan(config, strategy.scale, revival_window)


def _default_l1_lambda(task: TrainSae, strategy: TrainingStrategy, needs_k: bool, n_inputs: int) -> float:
    """Return the penalty on activations as they are: none where k fixes the sparsity.

    mi_crow takes means where papers take sums: mean over latents of |z|, over inputs of the squared error. So
    a given balance of the two sums is a lambda that grows with n_latents / n_inputs.
    """
    return 0.0 if needs_k else _L1_PENALTY * task.n_latents / n_inputs / strategy.scale


def _or(given: float | None, default: float) -> float:
    return default if given is None else given
