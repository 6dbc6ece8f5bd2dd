"""mi_crow's SaeTrainer with ears: what it computes becomes training points, and it writes nothing itself."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.context import TaskContext, TaskError
from gql_server.compute.messages import Progress, TrainingPoint
from gql_server.compute.metrics import DeadNeurons, IntervalMetrics
from gql_server.compute.training_plan import TrainingPlan

from mi_crow.mechanistic.sae.sae import Sae
from mi_crow.mechanistic.sae.sae_trainer import SaeTrainer, SaeTrainingConfig

MAX_POINTS = 200
_SECONDS_BETWEEN_PROGRESS = 0.1

Criterion = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long a training is, in steps of one batch."""

    steps_per_epoch: int
    epochs: int

    @property
    def total_steps(self) -> int:
        """All epochs' steps."""
        return self.steps_per_epoch * self.epochs

    @property
    def steps_per_point(self) -> int:
        """How many steps a training point averages over."""
        return math.ceil(self.total_steps / MAX_POINTS)

    def learning_rate_factor(self, step: int) -> float:
        """Return what the learning rate is multiplied with at a step: up over 5 %, down over the last 20 %.

        Without the way up, Adam's first steps, which know no variance yet, kill neurons; the way down takes
        the noise of the steps out of the end result.
        """
        rising = (step + 1) / math.ceil(self.total_steps * 0.05)
        falling = (self.total_steps - step) / math.ceil(self.total_steps * 0.2)
        return max(0.0, min(1.0, rising, falling))


class TrainingReport:
    """Turns steps into Progress and, every so many, into a TrainingPoint on the activations' own scale."""

    def __init__(
        self, context: TaskContext, schedule: Schedule, dead_neurons: DeadNeurons, plan: TrainingPlan
    ) -> None:
        self.points: list[TrainingPoint] = []
        self._context = context
        self._schedule = schedule
        self._dead_neurons = dead_neurons
        self._scale = plan.activation_scale
        self._l1_lambda = plan.config.l1_lambda
        self._metrics = IntervalMetrics()
        self._step = 0
        self._tokens = 0
        self._point_started = time.monotonic()
        self._started = self._progress_sent = self._point_started

    @property
    def dead_window(self) -> int:
        """Over how many training tokens a neuron must not fire to count as dead."""
        return self._dead_neurons.window

    def record(self, x: Tensor, x_hat: Tensor, latents: Tensor, loss: float, learning_rate: float) -> None:
        """Take in one step's scaled batch; TaskError where its loss is not finite."""
        self._step += 1
        self._tokens += x.shape[0]
        if not math.isfinite(loss):
            reason = f"The loss was not finite any more at step {self._step} of {self._schedule.total_steps}"
            raise TaskError(f"{reason}; {self._remedy(learning_rate)}.")
        self._metrics.update(x, x_hat, latents, loss)
        self._dead_neurons.update(latents)
        if self._step % self._schedule.steps_per_point == 0 or self._step == self._schedule.total_steps:
            self._emit_point(learning_rate)
        self._emit_progress()

    def check_weights(self, sae: Sae, learning_rate: float) -> None:
        """Raise TaskError where the last step, which no loss follows, left weights that are not finite."""
        if not all(bool(weights.isfinite().all()) for weights in sae.sae_engine.parameters()):
            reason = "The SAE's weights were not finite any more after the last step"
            raise TaskError(f"{reason}; {self._remedy(learning_rate)}.")

    def _remedy(self, learning_rate: float) -> str:
        choices = [f"a learning rate below {learning_rate:g}"] if learning_rate > 0 else []
        if self._l1_lambda > 0:
            choices.append(f"an l1Lambda below {self._l1_lambda:g}")
        return f"choose {' or '.join(choices)}" if choices else "look at the activations that it was fed"

    def _emit_point(self, learning_rate: float) -> None:
        summary = self._metrics.summary()
        now = time.monotonic()
        point = TrainingPoint(
            step=self._step,
            epoch=(self._step - 1) // self._schedule.steps_per_epoch + 1,
            token_count=self._tokens,
            loss=_number(summary.loss) / self._scale**2,
            mse=_number(summary.mse) / self._scale**2,
            explained_variance=_number(summary.explained_variance),
            l0=_number(summary.l0),
            dead_fraction=self._dead_neurons.share(),
            learning_rate=learning_rate,
            tokens_per_second=summary.n_rows / max(now - self._point_started, 1e-9),
        )
        self._metrics.reset()
        self._point_started = now
        self.points.append(point)
        self._context.emit(point)

    def _emit_progress(self) -> None:
        now, total = time.monotonic(), self._schedule.total_steps
        if now - self._progress_sent < _SECONDS_BETWEEN_PROGRESS and self._step not in (1, total):
            return
        self._progress_sent = now
        rate = self._step / max(now - self._started, 1e-9)
        self._context.emit(Progress(self._step, total, rate))


class ReportingTrainer(SaeTrainer):
    """The SaeTrainer that a training puts in ``sae.trainer``; see the class above for what it reports."""

    def __init__(self, sae: Sae, report: TrainingReport, schedule: Schedule) -> None:
        super().__init__(sae)
        self._report = report
        self._schedule = schedule
        self._optimizer: torch.optim.Optimizer | None = None

    def _create_optimizer(self, cfg: SaeTrainingConfig) -> torch.optim.Optimizer:
        """Make mi_crow's own optimizer, and the learning rate's schedule over it, which needs it."""
        self._optimizer = super()._create_optimizer(cfg)
        cfg.scheduler = LambdaLR(self._optimizer, self._schedule.learning_rate_factor)
        return self._optimizer

    def _create_criterion(self, cfg: SaeTrainingConfig) -> Criterion:
        """Wrap mi_crow's own loss: the one place of a step that sees inputs, latents and reconstruction."""
        loss_of: Criterion = super()._create_criterion(cfg)

        def criterion(x: Tensor, x_hat: Tensor, z_pre: Tensor, z: Tensor, dictionary: Tensor) -> Tensor:
            loss = loss_of(x, x_hat, z_pre, z, dictionary)
            with torch.no_grad():
                self._report.record(x, x_hat, z, float(loss), self._learning_rate())
            return loss

        return criterion

    def _learning_rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"]) if self._optimizer else math.nan

    def _save_training_to_store(self, *args: Any, **kwargs: Any) -> None:
        """Save nothing. Trap: upstream writes a checkpoint that lacks k into runs/, and swallows errors."""


def _number(value: float | None) -> float:
    """Make undefined NaN, as messages have it."""
    return math.nan if value is None else value
