"""A training's progress, and its training points: averages over some steps."""

import math
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.engine import ForwardOutput
from gql_server.compute.training.metrics import DeadNeurons, IntervalMetrics
from gql_server.compute.training.plan import TrainingPlan
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import Progress, TrainingPointMessage

from mi_crow.mechanistic.sae.sae import Sae

MAX_POINTS = 200
_SECONDS_BETWEEN_PROGRESS = 0.1


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
    """Turns steps into Progress and, at intervals, into a TrainingPointMessage on the activations' own scale.

    A step is taken in by ``record`` and told by ``tell``: telling may end the training, and what is recorded
    must go with weights that have taken the step.
    """

    def __init__(
        self, context: TaskContext, schedule: Schedule, dead_neurons: DeadNeurons, plan: TrainingPlan
    ) -> None:
        self.points: list[TrainingPointMessage] = []
        self.step = 0
        self._context = context
        self._schedule = schedule
        self._dead_neurons = dead_neurons
        self._revival_window = plan.revival_window
        self._scale = plan.activation_scale
        self._l1_lambda = plan.config.l1_lambda
        self._metrics = IntervalMetrics()
        self._learning_rate = math.nan
        self._first_bad_step = torch.zeros((), dtype=torch.int64)
        self._first_step = 0
        self._tokens = 0
        self._point_started = time.monotonic()
        self._started = self._progress_sent = self._point_started

    @property
    def total_steps(self) -> int:
        """All steps of the training."""
        return self._schedule.total_steps

    @property
    def dead_window(self) -> int:
        """Over how many training tokens a neuron must not fire to count as dead."""
        return self._dead_neurons.window

    def neurons_to_revive(self) -> Tensor:
        """Say which neurons have been silent for long enough for a remedy: bool [n_latents]."""
        return self._dead_neurons.silent_for(self._revival_window)

    def record(self, x: Tensor, output: ForwardOutput, loss: Tensor, learning_rate: float) -> None:
        """Take in one step's scaled batch; nothing is read from the device."""
        self.step += 1
        self._tokens += x.shape[0]
        self._learning_rate = learning_rate
        bad = ~loss.isfinite() & (self._first_bad_step.to(loss.device) == 0)
        self._first_bad_step = self._first_bad_step.to(loss.device).masked_fill(bad, self.step)
        self._metrics.update(x, output.x_hat, output.active_count, loss)
        self._dead_neurons.update(output.fired, len(x))

    @property
    def loss_is_finite(self) -> bool:
        """Whether all steps' losses were."""
        return not self._first_bad_step

    def check_loss(self) -> None:
        """Raise TaskError where a step's loss was not finite."""
        if step := int(self._first_bad_step):
            reason = f"The loss was not finite any more at step {step} of {self.total_steps}"
            raise TaskError(f"{reason}; {self._remedy(self._learning_rate)}.")

    def tell(self) -> None:
        """Emit what the step just recorded gives to say; TaskError as above where there is something."""
        if self.step % self._schedule.steps_per_point == 0 or self.step == self.total_steps:
            self._emit_point()
        self._emit_progress()

    def state_dict(self) -> dict[str, Any]:
        """Return what load_state_dict() of another training's report goes on from; not copied."""
        return {
            "step": self.step,
            "tokens": self._tokens,
            "points": [msgspec.structs.asdict(point) for point in self.points],
            "seconds_since_point": time.monotonic() - self._point_started,
            "metrics": self._metrics.state_dict(),
            "dead_neurons": self._dead_neurons.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; the rate of the progress is that of the steps from now on."""
        self.step = self._first_step = state["step"]
        self._tokens = state["tokens"]
        self.points = [TrainingPointMessage(**fields) for fields in state["points"]]
        self._point_started = time.monotonic() - state["seconds_since_point"]
        self._metrics.load_state_dict(state["metrics"])
        self._dead_neurons.load_state_dict(state["dead_neurons"])

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

    def _emit_point(self) -> None:
        self.check_loss()
        summary = self._metrics.summary()
        now = time.monotonic()
        point = TrainingPointMessage(
            step=self.step,
            epoch=(self.step - 1) // self._schedule.steps_per_epoch + 1,
            token_count=self._tokens,
            loss=_number(summary.loss) / self._scale**2,
            mse=_number(summary.mse) / self._scale**2,
            explained_variance=_number(summary.explained_variance),
            l0=_number(summary.l0),
            dead_fraction=self._dead_neurons.share(),
            learning_rate=self._learning_rate,
            tokens_per_second=summary.n_rows / max(now - self._point_started, 1e-9),
        )
        self._metrics.reset()
        self._point_started = now
        self.points.append(point)
        self._context.emit(point)

    def _emit_progress(self) -> None:
        now, total = time.monotonic(), self.total_steps
        n_steps = self.step - self._first_step
        recent = now - self._progress_sent < _SECONDS_BETWEEN_PROGRESS
        if recent and n_steps > 1 and self.step != total:
            return
        self.check_loss()
        self._progress_sent = now
        rate = n_steps / max(now - self._started, 1e-9)
        self._context.emit(Progress(self.step, total, rate))


def _number(value: float | None) -> float:
    """Make undefined NaN, as messages have it."""
    return math.nan if value is None else value
