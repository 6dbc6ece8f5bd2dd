"""Neuron indexes: a pass over a run that finds out what an SAE's neurons fire on."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.provenance import to_json
from gql_server.errors import Conflict, InvalidInput
from gql_server.jobs import queue
from gql_server.protocol.events import Event
from gql_server.protocol.results import IndexResult, Result
from gql_server.protocol.tasks import IndexNeurons
from gql_server.protocol.wire import Lane
from gql_server.services import artifacts, exclusions, launching, lookup, model_identity
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.removals import remove_after_commit
from gql_server.services.requests import IndexRequest, Launched
from gql_server.settings import Settings
from models import ActivationRun, Job, LanguageModel, NeuronIndex, Sae
from models.enums import UNFINISHED, ArtifactStatus, JobKind, JobStatus, ProgressUnit

DEFAULT_TOP_TEXTS_PER_NEURON = 10
MAX_TOP_TEXTS_PER_NEURON = 100


async def index(server: AppContext, request: IndexRequest) -> Launched:
    """Queue an indexing.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: Nothing has been written then.
    """
    hash = launching.request_hash(JobKind.INDEX_NEURONS, request)
    if earlier := await launching.find_earlier(server, request.idempotency_key, hash):
        return earlier
    checks = Checks()
    checks.idempotency_key(request.idempotency_key)
    checks.whole_number("topTextsPerNeuron", request.top_texts_per_neuron, 1, MAX_TOP_TEXTS_PER_NEURON)
    exclusions.check(checks, request.exclude_first_positions, request.exclude_outliers)
    checks.done()
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
        lookup.check_ready(sae)
        run_id = request.activation_run_id or sae.activation_run_id
        if run_id is None:
            raise InvalidInput.at(
                "activationRunId", "The SAE was not trained here; name a run to index over."
            )
        run = await lookup.get(session, ActivationRun, run_id)
        language_model = await session.get_one(LanguageModel, sae.language_model_id)
    _check_run(sae, run)
    model_identity.check_two(sae, run, language_model)
    await model_identity.check(server, language_model, sae)
    row, job = _new(sae, run.id, request.top_texts_per_neuron)
    job.request |= {
        "exclude_first_positions": request.exclude_first_positions,
        "exclude_outliers": request.exclude_outliers,
    }
    job.idempotency_key, job.request_hash = request.idempotency_key, hash

    async def add_index(session: AsyncSession) -> None:
        lookup.check_usable(await lookup.get(session, ActivationRun, run.id))
        lookup.check_ready(await lookup.get(session, Sae, sae.id))
        session.add(row)

    return await launching.launch(server, job, add_index)


def _check_run(sae: Sae, run: ActivationRun) -> None:
    lookup.check_usable(run)
    if run.language_model_id != sae.language_model_id:
        raise Conflict(
            f"The run {run.name!r} is of another language model than the SAE; name one of the same.", run.id
        )
    if sae.layer not in [layer["name"] for layer in run.layers]:
        raise InvalidInput.at(
            "activationRunId",
            f"The run {run.name!r} lacks the SAE's layer {sae.layer}; name one that has it.",
        )


async def add(session: AsyncSession, sae: Sae, run_id: str, top_texts_per_neuron: int) -> None:
    """Queue an indexing in a transaction that is under way, whether the queue is full or not."""
    row, job = _new(sae, run_id, top_texts_per_neuron)
    await queue.add(session, job)
    await session.flush()
    session.add(row)


def _new(sae: Sae, run_id: str, top_texts_per_neuron: int) -> tuple[NeuronIndex, Job]:
    index_id = ids.new(ids.NEURON_INDEX)
    job = launching.new_job(
        JobKind.INDEX_NEURONS,
        "jobs",
        IndexHandler.unit,
        index_id,
        sae.id,
        {"language_model_id": sae.language_model_id, "activation_run_id": run_id},
    )
    row = NeuronIndex(
        id=index_id,
        sae_id=sae.id,
        activation_run_id=run_id,
        job_id=job.id,
        top_texts_per_neuron=top_texts_per_neuron,
    )
    return row, job


def top_texts_path(sae: Sae, id: str) -> str:
    """Return where the top-texts file of an index or request lies, relative to the artifact directory."""
    return f"{sae.directory}/top_texts/{id}.json"


class IndexHandler:
    """INDEX_NEURONS jobs."""

    lane: Lane = "jobs"
    unit = ProgressUnit.TOKENS

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def begin(self, session: AsyncSession, job: Job) -> IndexNeurons:
        """Mark the index as BUILDING and return the task."""
        row = await session.get_one(NeuronIndex, job.artifact_id)
        row.status = ArtifactStatus.BUILDING
        sae = await session.get_one(Sae, row.sae_id)
        language_model = await session.get_one(LanguageModel, sae.language_model_id)
        assert row.activation_run_id is not None
        wanted = job.request
        left_out = await exclusions.chosen(
            session, sae, wanted.get("exclude_first_positions"), wanted.get("exclude_outliers")
        )
        return IndexNeurons(
            index_id=row.id,
            sae=artifacts.sae_source(self._settings, sae),
            run_id=row.activation_run_id,
            store_dir=str(artifacts.store_directory(self._settings)),
            dataset_dir=str(artifacts.dataset_directory(self._settings, row.activation_run_id)),
            tokenizer_dir=str(artifacts.copy_directory(self._settings, sae.language_model_id)),
            top_texts_per_neuron=row.top_texts_per_neuron,
            top_texts_path=str(self._settings.artifact_dir.resolve() / top_texts_path(sae, row.id)),
            min_free_bytes=self._settings.min_free_bytes,
            attempt=job.attempt,
            exclusions=left_out,
            language_model=artifacts.language_model_source(self._settings, language_model),
            made_with=model_identity.made_with(sae, language_model),
        )

    async def record(self, session: AsyncSession, job: Job, event: Event) -> None:
        """Nothing beside the log."""

    async def succeed(self, session: AsyncSession, job: Job, result: Result) -> None:
        """Mark the index as READY; the one before goes."""
        assert isinstance(result, IndexResult)
        row = await session.get_one(NeuronIndex, job.artifact_id)
        sae = await session.get_one(Sae, row.sae_id)
        await self._remove_others(session, sae, row)
        row.status = ArtifactStatus.READY
        row.token_count = result.token_count
        row.sample_count = result.sample_count
        row.dead_count = result.dead_count
        histogram = result.frequency_histogram
        row.frequency_histogram = {"edges": histogram.edges, "counts": histogram.counts}
        row.top_texts_path = top_texts_path(sae, row.id)
        row.provenance = to_json(result.provenance)
        row.built_at = datetime.now(UTC)

    async def _remove_others(self, session: AsyncSession, sae: Sae, row: NeuronIndex) -> None:
        """Remove the SAE's other indexes, but those that a job still works on."""
        unfinished = select(Job.artifact_id).where(Job.status.in_(UNFINISHED))
        query = select(NeuronIndex).where(
            NeuronIndex.sae_id == sae.id, NeuronIndex.id != row.id, NeuronIndex.id.not_in(unfinished)
        )
        files: list[Path] = []
        for earlier in await session.scalars(query):
            files.append(artifacts.run_directory(self._settings, earlier.id))
            files.append(self._settings.artifact_dir.resolve() / top_texts_path(sae, earlier.id))
            await session.delete(earlier)
        await remove_after_commit(session, self._settings, files)

    async def fail(self, session: AsyncSession, job: Job, status: JobStatus) -> None:
        """The index is not usable; the SAE stays as it was."""
        row = await session.get_one(NeuronIndex, job.artifact_id)
        row.status = ArtifactStatus.FAILED if status == JobStatus.FAILED else ArtifactStatus.PARTIAL

    async def is_lost(self, session: AsyncSession, job: Job) -> bool:
        """Whether the index's files are missing that were there."""
        row = await session.get(NeuronIndex, job.artifact_id)
        return row is not None and row.status == ArtifactStatus.FAILED

    async def requeue(self, session: AsyncSession, job: Job) -> None:
        """Mark the index as PENDING; NotFound where its SAE has been deleted."""
        row = await session.get(NeuronIndex, job.artifact_id)
        await lookup.get(session, Sae, row.sae_id if row else job.result_id)
        if row is None:
            raise Conflict("The index has been replaced by a newer one; call indexNeurons instead.")
        if row.activation_run_id is None:
            raise Conflict("The run that it was to go over has been deleted; call indexNeurons with another.")
        lookup.check_usable(await lookup.get(session, ActivationRun, row.activation_run_id))
        lookup.check_ready(await lookup.get(session, Sae, row.sae_id))
        row.status = ArtifactStatus.PENDING
