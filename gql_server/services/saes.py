"""SAEs: training and deleting."""

import asyncio
import dataclasses
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import delete as delete_rows, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.provenance import SaeProvenance, to_json
from gql_server.database.database import after_commit
from gql_server.errors import Conflict
from gql_server.formats.sae_classes import NESTED
from gql_server.jobs import event_log
from gql_server.jobs.descriptions import JobDescription, Subjects
from gql_server.jobs.handler import ArtifactHandler
from gql_server.protocol.events import Event, TrainingConfigChosen, TrainingPointMessage, TrainingResumed
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import OutlierStatistics, TrainResult
from gql_server.protocol.tasks import TrainSae
from gql_server.protocol.training_defaults import default_learning_rate, group_bounds
from gql_server.protocol.wire import SaeClassDescription, WorkerReady
from gql_server.services import (
    artifacts,
    evaluations,
    exclusions,
    interactive,
    launching,
    lookup,
    model_identity,
    neuron_indexes,
    quota,
    training_log,
)
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.removals import remove_after_commit
from gql_server.services.requests import Launched, TrainRequest
from gql_server.services.unused_names import unused_name
from gql_server.settings import Settings
from models import (
    ActivationRun,
    Concept,
    ConceptConfig,
    ConceptRevision,
    Job,
    LanguageModel,
    NeuronIndex,
    Sae,
    SaeEvaluation,
    TrainingPoint as TrainingPointRow,
)
from models.enums import UNFINISHED, JobEventType, JobKind, JobStatus, ProgressUnit, SaeOrigin

_BYTES_PER_WEIGHT = 4
_COPIES_IN_SNAPSHOT = 3
"""The weights, and the optimizer's two averages of each."""
DEFAULT_EXPANSION = 8
"""Neurons per input dimension where a request does not say."""
MAX_GROUPS = 16
"""Nested groups: a training step decodes once for each."""
_ROUNDING = 1e-6
_ASKED = (
    "sae_class",
    "k",
    "epochs",
    "batch_size",
    "learning_rate",
    "l1_lambda",
    "seed",
    "device",
    "exclude_outliers",
    "index_neurons",
    "group_fractions",
)
"""What of a request is shown as it is kept."""


async def train(server: AppContext, request: TrainRequest) -> Launched:
    """Queue a training.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: Nothing has been written then.
    """
    launch = await launching.begin(server, TrainHandler, request)
    if launch.earlier:
        return launch.earlier
    chosen = await choose(server, request)
    run = chosen.run
    sae = _new_sae(request, chosen)

    async def check(session: AsyncSession) -> None:
        lookup.check_usable(await lookup.get(session, ActivationRun, run.id))
        if request.name is None:
            sae.name = await unused_name(session, Sae, sae.name)

    return await launch.queue(
        request=dataclasses.asdict(request)
        | {
            "language_model_id": run.language_model_id,
            "layer": chosen.layer,
            "latent_count": chosen.latent_count,
        },
        makes=sae,
        check=check,
    )


@dataclass(frozen=True)
class ChosenTraining:
    """What a training would be, as far as that is known without its activations."""

    run: ActivationRun
    layer: str
    input_size: int
    latent_count: int
    k: int | None
    learning_rate: float
    """For all tokens of the run; where some are left out there are fewer steps."""
    l1_lambda: float | None
    """None where the length of the activations decides it."""
    device: str
    step_count: int
    byte_size: int
    """Of the SAE's files, with the snapshot that there is until its end."""


async def choose(server: AppContext, request: TrainRequest) -> ChosenTraining:
    """Check a request, and choose what it leaves open; writes nothing.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: It cannot be trained.
    """
    async with server.database.read() as session:
        run = await lookup.get(session, ActivationRun, request.activation_run_id)
        language_model = await session.get_one(LanguageModel, run.language_model_id)
    lookup.check_usable(run)
    await model_identity.check(server, language_model, run)
    layer, width = _check_layer(request, run)
    latent_count = request.latent_count if request.latent_count is not None else DEFAULT_EXPANSION * width
    offered = await interactive.describe(server)
    _check(server.settings, request, run, latent_count, offered)
    n_bytes = _BYTES_PER_WEIGHT * 2 * width * latent_count * (1 + _COPIES_IN_SNAPSHOT)
    await asyncio.to_thread(quota.check, "latentCount", n_bytes, "The SAE's files", server.settings)
    n_steps = run.token_count // request.batch_size * request.epochs
    given, penalty = request.learning_rate, 0.0 if request.k is not None else None
    return ChosenTraining(
        run=run,
        layer=layer,
        input_size=width,
        latent_count=latent_count,
        k=request.k,
        learning_rate=default_learning_rate(latent_count, n_steps) if given is None else given,
        l1_lambda=penalty if request.l1_lambda is None else request.l1_lambda,
        device=request.device or offered.devices[0],
        step_count=n_steps,
        byte_size=n_bytes,
    )


def _check_layer(request: TrainRequest, run: ActivationRun) -> tuple[str, int]:
    widths = {layer["name"]: layer["hidden_size"] for layer in run.layers}
    checks = Checks()
    if request.layer is None:
        message = f"The run has {len(widths)} layers; name one of them: {', '.join(widths)}."
        checks.require(len(widths) == 1, "layer", message)
    else:
        message = f"The run has no layer {request.layer!r}; it has {', '.join(widths)}."
        checks.require(request.layer in widths, "layer", message)
    checks.done()
    layer = request.layer or next(iter(widths))
    return layer, widths[layer]


def _check(
    settings: Settings, request: TrainRequest, run: ActivationRun, latent_count: int, offered: WorkerReady
) -> None:
    checks = Checks()
    checks.name("name", request.name)
    checks.idempotency_key(request.idempotency_key)
    checks.whole_number("latentCount", latent_count, 1, settings.max_latents)
    checks.whole_number("epochs", request.epochs, 1, settings.max_epochs)
    checks.whole_number("batchSize", request.batch_size, 1, settings.max_training_batch_size)
    if request.batch_size > run.token_count:
        checks.problem("batchSize", f"The run has {run.token_count} tokens; a batch cannot have more.")
    checks.whole_number("seed", request.seed, 0, 2**31 - 1)
    exclusions.check(
        checks, request.exclude_first_positions, request.exclude_outliers, max(0, run.max_length - 1)
    )
    if request.learning_rate is not None:
        good = math.isfinite(request.learning_rate) and request.learning_rate > 0
        checks.require(good, "learningRate", "A learning rate is a finite number above 0.")
    if request.l1_lambda is not None:
        good = math.isfinite(request.l1_lambda) and request.l1_lambda >= 0
        checks.require(good, "l1Lambda", "l1Lambda is a finite number, 0 or above.")
    if request.device is not None:
        message = f"This server has no device {request.device!r}; it has {', '.join(offered.devices)}."
        checks.require(request.device in offered.devices, "device", message)
    _check_class(request, latent_count, offered.sae_classes, checks)
    if request.group_fractions is not None:
        _check_groups(request.group_fractions, request.sae_class, latent_count, checks)
    checks.done()


def _check_class(
    request: TrainRequest, latent_count: int, classes: list[SaeClassDescription], checks: Checks
) -> None:
    found = next((c for c in classes if c.name == request.sae_class), None)
    if found is None:
        names = ", ".join(c.name for c in classes)
        checks.problem("saeClass", f"There is no SAE class {request.sae_class!r}; there are {names}.")
    elif found.needs_k and request.k is None:
        checks.problem("k", f"{found.name} needs k, the number of active neurons per token.")
    elif not found.needs_k and request.k is not None:
        checks.problem("k", f"{found.name} takes no k; leave it out.")
    elif request.k is not None and latent_count >= 1:
        checks.whole_number("k", request.k, 1, latent_count)


def _check_groups(fractions: list[float], sae_class: str, latent_count: int, checks: Checks) -> None:
    if sae_class != NESTED:
        checks.problem("groupFractions", f"Only {NESTED} is trained in nested groups; leave them out.")
    elif not 2 <= len(fractions) <= MAX_GROUPS:
        checks.problem("groupFractions", f"Give 2 to {MAX_GROUPS} fractions; there are {len(fractions)}.")
    elif not all(0 < one < 1 for one in fractions) or abs(sum(fractions) - 1) > _ROUNDING:
        checks.problem("groupFractions", "Give fractions above 0 whose sum is 1.")
    else:
        bounds = [0, *group_bounds(fractions, latent_count)]
        message = f"Of {latent_count:,} neurons, some group would have none: give larger fractions."
        checks.require(all(low < high for low, high in pairwise(bounds)), "groupFractions", message)


def _new_sae(request: TrainRequest, chosen: ChosenTraining) -> Sae:
    sae_id, run = ids.new(ids.SAE), chosen.run
    return Sae(
        id=sae_id,
        name=request.name or f"{request.sae_class} {chosen.latent_count} on {run.name}"[:200],
        origin=SaeOrigin.TRAINED,
        sae_class=request.sae_class,
        language_model_id=run.language_model_id,
        layer=chosen.layer,
        input_size=chosen.input_size,
        latent_count=chosen.latent_count,
        k=request.k,
        activation_run_id=run.id,
        directory=f"sae/{run.language_model_id}/{sae_id}",
    )


async def delete(server: AppContext, id: str) -> None:
    """Delete an SAE with its index, concepts, configs, evaluations, history and files, for good.

    Raises:
        Conflict: A job or a request uses it.
    """
    async with server.database.write() as session:
        sae = await lookup.get(session, Sae, id)
        job = await session.scalar(
            select(Job).where(Job.result_id == id, Job.status.in_(UNFINISHED)).limit(1)
        )
        if job is not None:
            raise Conflict(f"The job {job.id} uses this SAE; wait for its end or cancel it.", job.id)
        if server.in_use.count(id):
            raise Conflict("A generation or a top-neuron query uses this SAE; try again soon.", id)
        indexes = list(await session.scalars(select(NeuronIndex.id).where(NeuronIndex.sae_id == id)))
        for table in (NeuronIndex, Concept, ConceptRevision, ConceptConfig, SaeEvaluation, TrainingPointRow):
            await session.execute(delete_rows(table).where(table.sae_id == id))
        await session.delete(sae)
        files = [artifacts.run_directory(server.settings, index) for index in indexes]
        files.append(artifacts.sae_directory(server.settings, sae))
        files += await evaluations.kept_by(session, server.settings, id)
        await remove_after_commit(session, server.settings, files)


class TrainHandler(ArtifactHandler[TrainSae, TrainResult, Sae]):
    """TRAIN_SAE jobs."""

    kind = JobKind.TRAIN_SAE
    description = "Trains an SAE on an activation run."
    lane = "jobs"
    unit = ProgressUnit.STEPS
    task = TrainSae
    result = TrainResult
    events = (TrainingConfigChosen, TrainingPointMessage, TrainingResumed)
    makes = Sae

    @classmethod
    def describe(cls, job: Job, about: Subjects) -> JobDescription:
        """Name the class, its size and the activations."""
        wanted, sae = job.request, about.sae
        latent_count = sae.latent_count if sae else wanted.get("latent_count")
        layer = (sae.layer if sae else wanted.get("layer")) or ""
        size = f" with {latent_count:,} neurons" if latent_count else ""
        asked = {name: wanted.get(name) for name in _ASKED}
        asked |= {"layer": layer or None, "latent_count": latent_count}
        # A job of an earlier version asks for none.
        asked["exclude_first_positions"] = wanted.get("exclude_first_positions") or 0
        asked["config"] = sae.training_config if sae else None
        trained = f"Train {wanted.get('sae_class', 'an SAE')}{size}"
        return JobDescription(f"{trained} on {about.activations_of(layer)}", asked)

    async def task_of(self, session: AsyncSession, job: Job, sae: Sae) -> TrainSae:
        """Return the task; an earlier attempt's points stay until the worker says which still count."""
        wanted: dict[str, Any] = job.request
        assert sae.sae_class and sae.latent_count and sae.activation_run_id
        task = TrainSae(
            sae_id=sae.id,
            name=sae.name,
            sae_class=sae.sae_class,
            language_model_id=sae.language_model_id,
            run_id=sae.activation_run_id,
            store_dir=str(artifacts.store_directory(self._settings)),
            layer=sae.layer,
            n_latents=sae.latent_count,
            k=sae.k,
            epochs=wanted["epochs"],
            batch_size=wanted["batch_size"],
            learning_rate=wanted["learning_rate"],
            l1_lambda=wanted["l1_lambda"],
            seed=wanted["seed"],
            device=wanted["device"],
            sae_dir=str(artifacts.sae_directory(self._settings, sae)),
            shuffle_buffer_bytes=self._settings.shuffle_buffer_bytes,
            # A job of an earlier version asks for none.
            exclusions=Exclusions(
                wanted.get("exclude_first_positions", 0), wanted.get("exclude_outliers") or None
            ),
            snapshot_interval_seconds=self._settings.snapshot_interval_seconds,
            min_free_bytes=self._settings.min_free_bytes,
            attempt=job.attempt,
            group_fractions=wanted.get("group_fractions"),
        )
        training_log.log_training_started(session, job, task)
        return task

    async def record(self, session: AsyncSession, job: Job, event: Event) -> None:
        """Keep the chosen configuration and the training's points."""
        match event:
            case TrainingConfigChosen():
                sae = await session.get_one(Sae, job.artifact_id)
                sae.training_config = _fields(event)
            case TrainingPointMessage():
                session.add(_row_of(job.artifact_id, event))
                await _log_point(session, job, event)
            case TrainingResumed():
                await _resume_history(session, job, event)

    async def complete(self, session: AsyncSession, job: Job, sae: Sae, result: TrainResult) -> None:
        """Keep what was trained, and queue the indexing of its neurons if that was asked for."""
        sae.training_config = _fields(result.config)
        sae.checkpoint_path = f"{sae.directory}/sae.pt"
        sae.metadata_path = f"{sae.directory}/metadata.json"
        sae.provenance = to_json(result.provenance)
        sae.outliers = None if result.outliers is None else _fields(result.outliers)
        sae.made_with = await _made_with(session, sae, result.provenance)
        sae.completed_at = datetime.now(UTC)
        snapshot = artifacts.snapshot_path(self._settings, sae)
        after_commit(session, lambda _: asyncio.to_thread(artifacts.remove, [snapshot]))
        await training_log.log_training_ended(session, job, sae, JobStatus.SUCCEEDED)
        if job.request["index_neurons"]:
            assert sae.activation_run_id is not None
            await neuron_indexes.add(
                session, sae, sae.activation_run_id, neuron_indexes.DEFAULT_TOP_TEXTS_PER_NEURON
            )

    async def break_off(self, session: AsyncSession, job: Job, sae: Sae, status: JobStatus) -> None:
        """Keep the snapshot, which a retry goes on from."""
        await training_log.log_training_ended(session, job, sae, status)

    async def find_again(self, session: AsyncSession, job: Job) -> Sae:
        """Return the SAE; NotFound where it or its run has been deleted."""
        sae = await lookup.get(session, Sae, job.artifact_id)
        lookup.check_usable(await lookup.get(session, ActivationRun, sae.activation_run_id or ""))
        return sae


async def _resume_history(session: AsyncSession, job: Job, resumed: TrainingResumed) -> None:
    """Make the history what the training goes on from, and log that, with the points nobody has been sent."""
    of_sae = TrainingPointRow.sae_id == job.artifact_id
    sent = set(await session.scalars(select(TrainingPointRow.step).where(of_sae)))
    await session.execute(delete_rows(TrainingPointRow).where(of_sae))
    session.add_all(_row_of(job.artifact_id, point) for point in resumed.points)
    await event_log.append(session, job, JobEventType.TRAINING_RESUMED, {"step": resumed.step})
    for point in resumed.points:
        if point.step not in sent:
            await _log_point(session, job, point)


async def _log_point(session: AsyncSession, job: Job, point: TrainingPointMessage) -> None:
    await event_log.append(session, job, JobEventType.TRAINING_POINT, _fields(point))


async def _made_with(
    session: AsyncSession, sae: Sae, provenance: SaeProvenance | None
) -> dict[str, Any] | None:
    """Return whose activations it was trained on: the run's provenance says it, or else its row."""
    if provenance is not None and provenance.run is not None:
        return to_json(provenance.run.language_model)
    run = await session.get(ActivationRun, sae.activation_run_id) if sae.activation_run_id else None
    return run.made_with if run is not None else None


def _row_of(sae_id: str, point: TrainingPointMessage) -> TrainingPointRow:
    fields = {name: _finite(value) for name, value in _fields(point).items()}
    return TrainingPointRow(sae_id=sae_id, **fields)


def _fields(message: TrainingConfigChosen | TrainingPointMessage | OutlierStatistics) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
