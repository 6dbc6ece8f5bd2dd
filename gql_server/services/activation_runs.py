"""Activation runs: capturing and deleting."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.manifest import MANIFEST_FILE, Manifest, assemble, write_manifest
from gql_server.artifacts.provenance import to_json
from gql_server.errors import Conflict
from gql_server.jobs.descriptions import JobDescription, Subjects, texts_for_title
from gql_server.jobs.handler import ArtifactHandler
from gql_server.protocol.results import CaptureResult
from gql_server.protocol.sources import HubDataset
from gql_server.protocol.tasks import CaptureActivations
from gql_server.services import (
    artifacts,
    dataset_staging,
    launching,
    lookup,
    model_identity,
    quota,
    removals,
    texts,
)
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.language_models import check_loaded_once
from gql_server.services.requests import CaptureRequest, Launched
from gql_server.services.unused_names import unused_name
from gql_server.settings import Settings
from models import ActivationRun, Job, LanguageModel, NeuronIndex, Sae
from models.enums import ArtifactStatus, FloatType, JobKind, JobStatus, LongTexts, ProgressUnit

log = structlog.get_logger(__name__)

MAX_OFFSET = 2**31 - 1
MAX_PARTS = 64
"""Of a capture: as many as there may be job workers."""
BYTES_PER_VALUE = {FloatType.FLOAT32: 4, FloatType.FLOAT16: 2, FloatType.BFLOAT16: 2}


async def capture(server: AppContext, request: CaptureRequest) -> Launched:
    """Queue a capture; its texts are kept before the job is there.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: Nothing has been written then.
    """
    launch = await launching.begin(server, CaptureHandler, request)
    if launch.earlier:
        return launch.earlier
    async with server.database.read() as session:
        language_model = await lookup.get(session, LanguageModel, request.language_model_id)
    check_loaded_once(language_model)
    await model_identity.check_described(server, language_model)
    layers = _check(server.settings, request, language_model)
    run_id = ids.new(ids.ACTIVATION_RUN)
    most = request.max_length if request.long_texts == LongTexts.TRUNCATE else None
    async with dataset_staging.keep(
        server,
        request.dataset,
        run_id,
        language_model,
        request.sample_offset,
        request.sample_limit,
        most,
    ) as kept:
        await asyncio.to_thread(_check_room, server.settings, request, language_model, kept.texts)

        run = _new_run(request, run_id, language_model, layers, kept.texts)

        async def check(session: AsyncSession) -> None:
            await lookup.get(session, LanguageModel, language_model.id)
            await kept.hold(session)
            if request.name is None:
                run.name = await unused_name(session, ActivationRun, run.name)

        return await launch.queue(
            request={
                "language_model_id": language_model.id,
                "activation_run_id": run_id,
                "hub_dataset": dataset_staging.hub_dataset(request.dataset),
                "layers": layers,
                "parts": request.parts,
            },
            makes=run,
            check=check,
        )


def _check(settings: Settings, request: CaptureRequest, language_model: LanguageModel) -> list[str]:
    checks = Checks()
    checks.name("name", request.name)
    checks.idempotency_key(request.idempotency_key)
    checks.whole_number("batchSize", request.batch_size, 1, settings.max_batch_size)
    checks.whole_number("parts", request.parts, 1, MAX_PARTS)
    longest = min(settings.max_length, language_model.context_length or settings.max_length)
    checks.whole_number("maxLength", request.max_length, 1, longest)
    checks.whole_number("sampleOffset", request.sample_offset, 0, MAX_OFFSET)
    if request.sample_limit is not None:
        checks.whole_number("sampleLimit", request.sample_limit, 1, settings.max_texts)
    known = [layer["name"] for layer in language_model.layers or []]
    checks.require(len(request.layers) > 0, "layers", "Name at least one layer of the language model.")
    for place, layer in enumerate(request.layers):
        checks.require(
            layer in known,
            ["layers", place],
            f"The language model has no layer {layer!r} that runs once for each text and gives a vector "
            "for each token; LanguageModel.layers(kind: null) lists those that do.",
        )
        checks.require(
            layer not in request.layers[:place], ["layers", place], f"The layer {layer!r} is named twice."
        )
    checks.done()
    return sorted(request.layers, key=known.index)


def _check_room(
    settings: Settings, request: CaptureRequest, language_model: LanguageModel, dataset: texts.Texts
) -> None:
    """Refuse a capture that will not fit; of a Hub dataset nothing is known before the job."""
    if dataset.taken is None or dataset.taken.n_tokens is None or language_model.hidden_size is None:
        return
    # Of models that an older server has loaded, the width of what is inside the blocks is not known.
    widths = {layer["name"]: layer.get("width") for layer in language_model.layers or []}
    values = sum(widths.get(layer) or language_model.hidden_size for layer in request.layers)
    width = values * BYTES_PER_VALUE[request.dtype]
    quota.check("dataset", int(dataset.taken.n_tokens * width), "The activations", settings)


def _new_run(
    request: CaptureRequest,
    run_id: str,
    language_model: LanguageModel,
    layers: list[str],
    dataset: texts.Texts,
) -> ActivationRun:
    return ActivationRun(
        id=run_id,
        name=request.name or f"{language_model.name} on {texts_for_title(dataset.description)}"[:200],
        language_model_id=language_model.id,
        dataset_kind=dataset.kind,
        dataset_description=dataset.description,
        dataset_id=request.dataset.dataset_id,
        dataset_sample_count=dataset.count,
        dataset_skipped_count=dataset.skipped.count,
        layers=[{"name": layer, "hidden_size": None} for layer in layers],
        batch_size=request.batch_size,
        max_length=request.max_length,
        long_texts=request.long_texts,
        dtype=request.dtype,
        sample_offset=request.sample_offset,
        sample_limit=request.sample_limit,
    )


async def delete(server: AppContext, id: str) -> None:
    """Delete a run, its tensors and its texts for good.

    Raises:
        Conflict: A job, an SAE or a neuron index uses it.
    """
    async with server.database.write() as session:
        run = await lookup.get(session, ActivationRun, id)
        job = await launching.unfinished_user(session, "activation_run_id", id)
        if job is not None:
            raise Conflict(f"The job {job.id} uses this run; wait for its end or cancel it.", job.id)
        sae = await _sae_using(session, id)
        if sae is not None:
            raise Conflict(f"The SAE {sae.name!r} ({sae.id}) uses this run; delete it first.", sae.id)
        # An index over it that failed keeps no run alive.
        await session.execute(
            update(NeuronIndex).where(NeuronIndex.activation_run_id == id).values(activation_run_id=None)
        )
        await session.delete(run)
        await removals.remove_after_commit(
            session,
            server.settings,
            [
                artifacts.run_directory(server.settings, id),
                artifacts.dataset_directory(server.settings, id),
            ],
        )


async def _sae_using(session: AsyncSession, run_id: str) -> Sae | None:
    ready = NeuronIndex.status == ArtifactStatus.READY
    indexed = select(NeuronIndex.sae_id).where(NeuronIndex.activation_run_id == run_id, ready)
    query = select(Sae).where(or_(Sae.activation_run_id == run_id, Sae.id.in_(indexed)))
    return await session.scalar(query.limit(1))


class CaptureHandler(ArtifactHandler[CaptureActivations, CaptureResult, ActivationRun]):
    """CAPTURE_ACTIVATIONS jobs."""

    kind = JobKind.CAPTURE_ACTIVATIONS
    description = "Captures an activation run."
    lane = "jobs"
    unit = ProgressUnit.TEXTS
    task = CaptureActivations
    result = CaptureResult
    makes = ActivationRun
    pairs = ActivationRun

    @classmethod
    def describe(cls, job: Job, about: Subjects) -> JobDescription:
        """Name the layers, the language model and the texts; the run's row has all that was asked for."""
        run = about.activation_run
        layers = [layer["name"] for layer in run.layers] if run else job.request.get("layers", [])
        what = f"{len(layers)} layers" if layers else "activations"
        if len(layers) == 1:
            what = about.layer_name(layers[0])
        texts = f" on {texts_for_title(run.dataset_description)}" if run else ""
        asked = ("batch_size", "max_length", "long_texts", "dtype", "sample_offset", "sample_limit")
        return JobDescription(
            f"Capture {what} of {about.language_model_name}{texts}",
            {"layers": layers, "parts": job.request.get("parts", 1)}
            | {name: getattr(run, name) if run else None for name in asked},
        )

    async def task_of(self, session: AsyncSession, job: Job, run: ActivationRun) -> CaptureActivations:
        """Return the task, which goes on after the batches that are there."""
        language_model = await session.get_one(LanguageModel, run.language_model_id)
        hub_dataset = job.request["hub_dataset"]
        return CaptureActivations(
            run_id=run.id,
            language_model=artifacts.language_model_source(self._settings, language_model),
            layers=[layer["name"] for layer in run.layers],
            dataset_dir=str(artifacts.dataset_directory(self._settings, run.id)),
            hub_dataset=HubDataset(**hub_dataset) if hub_dataset else None,
            dataset_kind=run.dataset_kind,
            dataset_description=run.dataset_description,
            sample_offset=run.sample_offset,
            sample_limit=run.sample_limit,
            batch_size=run.batch_size,
            max_length=run.max_length,
            long_texts=run.long_texts.value,
            dtype=run.dtype,
            store_dir=str(artifacts.store_directory(self._settings)),
            max_texts=self._settings.max_texts,
            min_free_bytes=self._settings.min_free_bytes,
            artifact_dir=str(self._settings.artifact_dir.resolve()),
            max_artifact_bytes=self._settings.max_artifact_bytes,
            attempt=job.attempt,
            # A job of an earlier version asks for none.
            parts=job.request.get("parts", 1),
        )

    async def complete(
        self, session: AsyncSession, job: Job, run: ActivationRun, result: CaptureResult
    ) -> None:
        """Keep the counts of the run."""
        run.layers = [{"name": layer.name, "hidden_size": layer.hidden_size} for layer in result.layers]
        run.dataset_sample_count = result.dataset_sample_count
        run.dataset_skipped_count = result.dataset_skipped_count
        run.piece_count = result.piece_count
        run.truncated_text_count = result.truncated_text_count
        run.sample_count = result.sample_count
        run.batch_count = result.batch_count
        run.token_count = result.token_count
        run.byte_size = result.byte_size
        run.manifest_path = f"store/runs/{run.id}/{MANIFEST_FILE}"
        run.provenance = to_json(result.provenance)
        run.made_with = to_json(result.provenance and result.provenance.language_model)
        run.completed_at = datetime.now(UTC)

    async def break_off(self, session: AsyncSession, job: Job, run: ActivationRun, status: JobStatus) -> None:
        """Tell of the batches that are there: they can be used, and a retry goes on after them."""
        directory = artifacts.run_directory(self._settings, run.id)
        manifest = await asyncio.to_thread(_write_what_is_there, directory)
        if manifest is not None:
            run.layers = [{"name": layer.name, "hidden_size": layer.hidden_size} for layer in manifest.layers]
            run.dataset_sample_count = manifest.dataset.sample_count
            run.dataset_skipped_count = manifest.dataset.skipped_row_count
            run.piece_count = manifest.piece_count
            run.truncated_text_count = manifest.truncated_text_count
            run.sample_count = manifest.sample_count
            run.batch_count = len(manifest.batches)
            run.token_count = manifest.token_count
            run.byte_size = manifest.byte_size
            run.manifest_path = f"store/runs/{run.id}/{MANIFEST_FILE}"
            run.provenance = to_json(manifest.provenance)
            run.made_with = to_json(manifest.provenance and manifest.provenance.language_model)

    async def find_again(self, session: AsyncSession, job: Job) -> ActivationRun:
        """Return the run; NotFound where it has been deleted."""
        return await lookup.get(session, ActivationRun, job.artifact_id)


def _write_what_is_there(directory: Path) -> Manifest | None:
    """Write the manifest of a capture that has not come to its end; None where it has not begun."""
    manifest = assemble(directory)
    if manifest is not None:
        try:
            write_manifest(directory / MANIFEST_FILE, manifest)
        except OSError:
            # Such as a full disk, which may be why the capture has failed: its end must be written down.
            log.exception("manifest not written", directory=str(directory))
    return manifest
