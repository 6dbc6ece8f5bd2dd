"""mi_crow's SaeTrainer with steps of our own, which become training points; it writes nothing itself."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import LambdaLR

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.devices import moved
from gql_server.compute.saes.engine import ForwardOutput
from gql_server.compute.training.forward import forward_fn
from gql_server.compute.training.report import Schedule, TrainingReport
from gql_server.compute.training.snapshots import (
    Snapshot,
    Snapshots,
    engine_state,
    load_engine_state,
    random_state,
    set_random_state,
)
from gql_server.compute.training.strategies import FAST, TrainingStrategy, auxiliary_loss
from gql_server.compute.worker.context import CancelRequested

from mi_crow.mechanistic.sae.sae_trainer import SaeTrainer, SaeTrainingConfig
from mi_crow.store.store import Store

_BETAS = (0.9, 0.95)
"""Decay of Adam's averages: the second one looks back over 20 steps.

Over 1,000 steps, torch's default, it remembers the first gradients, many times as large as later ones, for
most of a short training, and steps stay small meanwhile: docs/training.md has the measurements.
"""


class Steps:
    """What comes once the weights have taken a step.

    The next step's learning rate, what there is to say, and now and then a snapshot.
    """

    def __init__(
        self,
        strategy: TrainingStrategy,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        report: TrainingReport,
        snapshots: Snapshots,
    ) -> None:
        self._strategy = strategy
        self._sae = strategy.sae
        self._optimizer = optimizer
        self._rates = LambdaLR(optimizer, schedule.learning_rate_factor)
        self._report = report
        self._snapshots = snapshots

    @property
    def learning_rate(self) -> float:
        """The coming step's."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self) -> None:
        """End a step."""
        self._strategy.after_step()
        self._rates.step()
        self._report.tell()
        if self._snapshots.due():
            self._report.check_loss()
            self._snapshots.write(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return the training as it is between two steps."""
        return Snapshot(
            step=self._report.step,
            engine=engine_state(self._sae.sae_engine),
            optimizer=self._optimizer.state_dict(),
            schedule=self._rates.state_dict(),
            random=random_state(self._sae.context.device),
            report=self._report.state_dict(),
        )

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot whose engine and report are loaded."""
        self._optimizer.load_state_dict(snapshot.optimizer)
        self._rates.load_state_dict(snapshot.schedule)
        set_random_state(snapshot.random)


class ReportingTrainer(SaeTrainer):
    """The SaeTrainer that a training puts in ``sae.trainer``; see the classes above for what it does more."""

    def __init__(
        self, strategy: TrainingStrategy, report: TrainingReport, schedule: Schedule, snapshots: Snapshots
    ) -> None:
        super().__init__(strategy.sae)
        self._strategy = strategy
        self._report = report
        self._schedule = schedule
        self._snapshots = snapshots
        self._resumed: Snapshot | None = None
        self._steps: Steps | None = None

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; UnusableSnapshot, and nothing has changed, where it does not fit."""
        load_engine_state(self.sae.sae_engine, snapshot.engine)
        self._report.load_state_dict(snapshot.report)
        self._snapshots.step_on_disk = snapshot.step
        self._resumed = snapshot

    def train(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Train as mi_crow does; a training that is canceled leaves a snapshot where that is quick."""
        try:
            history: dict[str, Any] = super().train(*args, **kwargs)
        except CancelRequested:
            # It comes from between two batches or from the end of a step, so the step is a whole one.
            if self._steps is not None and self._report.loss_is_finite:
                self._snapshots.write_if_quick(self._steps.snapshot())
            raise
        return history

    def _create_optimizer(self, cfg: SaeTrainingConfig) -> torch.optim.Optimizer:
        """Make mi_crow's own optimizer, in one pass over the weights, and what comes after its steps.

        Its decay of the weights is off: it would pull biases away from what they have to be.
        """
        fast = self._strategy.fast_parameters()
        others = [one for one in self.sae.sae_engine.parameters() if all(one is not other for other in fast)]
        groups = [{"params": others}, *([{"params": fast, "lr": cfg.lr * FAST}] if fast else [])]
        optimizer = torch.optim.AdamW(groups, lr=cfg.lr, betas=_BETAS, weight_decay=0.0, fused=True)
        self._steps = Steps(self._strategy, optimizer, self._schedule, self._report, self._snapshots)
        if self._resumed is not None:
            self._steps.resume(self._resumed)
            self._resumed = None
        cfg.scheduler = self._steps
        return optimizer

    def _create_dataloader(
        self, store: Store, run_id: str, layer_signature: str | int, cfg: SaeTrainingConfig, device: object
    ) -> Iterable[Tensor]:
        """Make upstream's, which gives batches on the CPU: from there they go without being waited for."""
        loader: Iterable[Tensor] = super()._create_dataloader(store, run_id, layer_signature, cfg, None)
        return loader

    def _run_training(
        self,
        cfg: SaeTrainingConfig,
        dataloader: Iterable[Tensor],
        criterion: object,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        *others: object,
    ) -> dict[str, Any]:
        """Take all steps. Trap: overcomplete's train_sae passes over all latents several times a step."""
        way, steps = forward_fn(self.sae), cfg.scheduler
        for _ in range(cfg.epochs):
            self.sae.sae_engine.train()
            for rows in dataloader:
                x = moved(rows, device)
                optimizer.zero_grad()
                self._loss(way(x), x, cfg, steps.learning_rate).backward()
                nn.utils.clip_grad_norm_(self.sae.sae_engine.parameters(), cfg.clip_grad)
                optimizer.step()
                steps.step()
        return {}

    def _loss(self, output: ForwardOutput, x: Tensor, cfg: SaeTrainingConfig, learning_rate: float) -> Tensor:
        """Return mi_crow's own loss and the strategy's terms; what is reported is the whole."""
        dead = self._report.neurons_to_revive()
        loss: Tensor = mse_loss(output.x_hat, x) + cfg.l1_lambda * output.mean_latent
        for prefix in output.prefixes:
            loss = loss + mse_loss(prefix, x)
        loss = loss + self._strategy.penalty(output, dead)
        if self._strategy.revives and dead.any():
            loss = loss + auxiliary_loss(x, output, dead)
        with torch.no_grad():
            self._report.record(x, output, loss, learning_rate)
        return loss

    def _save_training_to_store(self, *args: Any, **kwargs: Any) -> None:
        """Save nothing. Trap: upstream writes a checkpoint that lacks k into runs/, and swallows errors."""
