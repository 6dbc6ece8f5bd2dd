"""Training an SAE on a stored activation run."""

from pathlib import Path

import torch

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.devices import choose_device
from gql_server.compute.provenance.provenance import provenance_of_run
from gql_server.compute.saes.classes import SaeClass, SaeClasses
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.files import write_training
from gql_server.compute.training.metrics import DeadNeurons
from gql_server.compute.training.outliers import note_of, outlier_sentence, outlier_statistics, sample_tokens
from gql_server.compute.training.plan import MAX_DEAD_WINDOW, TrainingPlan, make_plan
from gql_server.compute.training.report import Schedule, TrainingReport
from gql_server.compute.training.snapshots import Snapshots, UnusableSnapshot, fingerprint
from gql_server.compute.training.strategies import TrainingStrategy
from gql_server.compute.training.trainer import ReportingTrainer
from gql_server.compute.training.training_store import TrainingStore
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.processes.process_limits import freed_memory_kept
from gql_server.protocol.events import Log, TrainingPointMessage, TrainingResumed
from gql_server.protocol.results import TrainResult
from gql_server.protocol.tasks import TrainSae
from gql_server.protocol.training_defaults import group_bounds

from mi_crow.mechanistic.sae.sae import Sae
from mi_crow.mechanistic.sae.sae_trainer import SaeTrainingConfig
from mi_crow.store.store import Store

_SAMPLE_ROWS = 8192
_GRADIENT_NORM = 1.0
"""Limit on the norm of a step's gradient; a longer one is cut."""


def train_sae(
    task: TrainSae, context: TaskContext, classes: SaeClasses, store: Store | None = None
) -> TrainResult:
    """Train the SAE that a task asks for and write its directory, whole, at the end.

    The same task gives the same weights, bit by bit, on the same machine with as many threads, interrupted or
    not: it goes on from the snapshot that an earlier attempt left in the directory. torch's global generators
    are left as they were. ``store`` takes the place of the LocalStore at ``task.store_dir``. A snapshot stays
    where it is: it is of use until the result has been written down.

    Emits TrainingConfigChosen first, then Log, perhaps TrainingResumed, Progress and TrainingPointMessage.
    TaskError where the run cannot be trained on or the loss or the weights leave the finite numbers;
    CancelRequested from the context; OSError where the disk has no room.
    """
    device = choose_device(task.device)
    sae_class = classes.get(task.sae_class)
    _check_sizes(task, sae_class)
    if store is None:
        store = ActivationStore(task.store_dir)
        store.check_batches(task.run_id)
    rows = TrainingStore(
        store,
        task.run_id,
        task.layer,
        batch_size=task.batch_size,
        seed=task.seed,
        buffer_bytes=task.shuffle_buffer_bytes,
        check=context.check,
        exclusions=task.exclusions,
    )
    sample = sample_tokens(rows.stored, rows.shuffle_seed)
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(task.seed)
        sae = sae_class.build(task.n_latents, rows.n_inputs, task.k, device)
        if task.group_fractions is not None:
            sae.sae_engine.group_bounds = group_bounds(task.group_fractions, task.n_latents)[:-1]
        strategy = TrainingStrategy(sae)
        plan = _prepare(task, strategy, sae_class, rows, device)
        context.emit(plan.config)
        context.emit(Log(_opening(task, rows, plan)))
        if note := note_of(sample, rows.stored.exclusions):
            context.emit(Log(note))
        snapshots = _snapshots(task, plan, rows)
        with freed_memory_kept():
            report = _train(task, strategy, rows, plan, snapshots, context)
    strategy.finish()
    report.check_weights(sae, plan.config.learning_rate)
    run = provenance_of_run(store, task.run_id)
    provenance, outliers = write_training(
        task,
        sae,
        sae_class,
        plan,
        report,
        rows,
        run,
        measure=lambda: outlier_statistics(sae, sample, rows.stored.exclusions),
    )
    context.emit(Log(_closing(report.points[-1])))
    if outliers is not None and outliers.outlier_count:
        context.emit(Log(outlier_sentence(outliers)))
    return TrainResult(rows.n_inputs, plan.config, report.points[-1], provenance, outliers)


def _check_sizes(task: TrainSae, sae_class: SaeClass) -> None:
    if sae_class.needs_k and task.k is None:
        raise TaskError(
            f"{task.sae_class} needs k, the number of active neurons per token.", "INVALID", ("k",)
        )
    if task.k is not None and not 0 < task.k <= task.n_latents:
        raise TaskError(f"k must be from 1 to the number of neurons, {task.n_latents}.", "INVALID", ("k",))


def _prepare(
    task: TrainSae, strategy: TrainingStrategy, sae_class: SaeClass, rows: TrainingStore, device: str
) -> TrainingPlan:
    """Start the engine well and choose what the task leaves open."""
    strategy.start(rows.sample(_SAMPLE_ROWS))
    rows.scale = strategy.scale
    return make_plan(
        task,
        strategy,
        needs_k=sae_class.needs_k,
        n_inputs=rows.n_inputs,
        total_steps=rows.steps_per_epoch * task.epochs,
        device=device,
        median_norm=rows.stored.exclusions.median_norm,
    )


def _snapshots(task: TrainSae, plan: TrainingPlan, rows: TrainingStore) -> Snapshots:
    return Snapshots(
        Path(task.sae_dir),
        fingerprint(task, plan, rows),
        interval_seconds=task.snapshot_interval_seconds,
        min_free_bytes=task.min_free_bytes,
    )


def _train(
    task: TrainSae,
    strategy: TrainingStrategy,
    rows: TrainingStore,
    plan: TrainingPlan,
    snapshots: Snapshots,
    context: TaskContext,
) -> TrainingReport:
    schedule = Schedule(rows.steps_per_epoch, task.epochs)
    window = min(MAX_DEAD_WINDOW, rows.steps_per_epoch * task.batch_size)
    report = TrainingReport(context, schedule, DeadNeurons(task.n_latents, window), plan)
    sae = strategy.sae
    # Trap: TopKSae.train() would make a new engine; its trainer's train() does not.
    sae.trainer = ReportingTrainer(strategy, report, schedule, snapshots)
    _resume(task, sae, report, snapshots, context)
    if report.step < report.total_steps:
        epochs_done, batches_done = divmod(report.step, rows.steps_per_epoch)
        rows.start_at(epochs_done, batches_done)
        config = _upstream_config(plan, task.epochs - epochs_done)
        sae.trainer.train(rows, task.run_id, task.layer, config, training_run_id=task.sae_id)
    return report


def _resume(
    task: TrainSae, sae: Sae, report: TrainingReport, snapshots: Snapshots, context: TaskContext
) -> None:
    """Go on from the snapshot of an earlier attempt, or say why the training begins anew after one."""
    if task.attempt == 1 and not snapshots.exists():
        return
    try:
        sae.trainer.resume(snapshots.read())
        place = f"step {report.step} of {report.total_steps}"
        sentence = f"Going on after {place}, from the snapshot of an earlier attempt."
    except UnusableSnapshot as unusable:
        sentence = f"{unusable}, so the training begins anew."
    context.emit(Log(sentence))
    # Also where it begins anew: what the earlier attempt sent counts no more.
    context.emit(TrainingResumed(report.step, list(report.points)))


def _upstream_config(plan: TrainingPlan, epochs: int) -> SaeTrainingConfig:
    """Say it to mi_crow. Its own monitoring is off: its numbers are not what their names say.

    use_amp is off: with it a training gives up the rest of an epoch after a few NaNs, and is not repeatable
    across processors.
    """
    return SaeTrainingConfig(
        epochs=epochs,
        batch_size=plan.config.batch_size,
        lr=plan.config.learning_rate,
        l1_lambda=plan.scaled_l1_lambda,
        device=plan.config.device,
        clip_grad=_GRADIENT_NORM,
        use_amp=False,
        monitoring=0,
        verbose=False,
    )


def _opening(task: TrainSae, rows: TrainingStore, plan: TrainingPlan) -> str:
    dropped = rows.tokens_dropped_per_epoch
    left_out = f"; {dropped} tokens that do not fill a batch are left out of each epoch" if dropped else ""
    stored = rows.stored
    left_out += f"; {stored.excluded_count:,} are excluded" if stored.excluded_count else ""
    left_out += f"; {stored.non_finite_count:,} are not finite" if stored.non_finite_count else ""
    return (
        f"Training {task.sae_class} with {task.n_latents} neurons over {rows.n_inputs} inputs on "
        f"{rows.token_count} tokens, {rows.steps_per_epoch} steps of {task.batch_size} in each of "
        f"{task.epochs} epochs, learning rate {plan.config.learning_rate:g}, "
        f"on {plan.config.device}{left_out}."
    )


def _closing(point: TrainingPointMessage) -> str:
    dead = "" if point.dead_fraction is None else f", {point.dead_fraction:.1%} of the neurons dead"
    return (
        f"Trained {point.step} steps on {point.token_count} tokens: explained variance "
        f"{point.explained_variance:.4f}, mean squared error {point.mse:.6g}, {point.l0:.1f} active neurons "
        f"per token{dead}."
    )
