"""Neuron indexes: a pass over a run that finds out what an SAE's neurons fire on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.provenance import to_json
from gql_server.errors import Conflict, InvalidInput
from gql_server.jobs import queue
from gql_server.jobs.descriptions import JobDescription, Subjects
from gql_server.jobs.handler import ArtifactHandler
from gql_server.protocol.results import IndexResult
from gql_server.protocol.tasks import IndexNeurons
from gql_server.services import artifacts, exclusions, launching, lookup, model_identity
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.removals import remove_after_commit
from gql_server.services.requests import IndexRequest, Launched
from models import ActivationRun, Job, LanguageModel, NeuronIndex, Sae
from models.enums import UNFINISHED, JobKind, ProgressUnit

DEFAULT_TOP_TEXTS_PER_NEURON = 10
MAX_TOP_TEXTS_PER_NEURON = 100


async def index(server: AppContext, request: IndexRequest) -> Launched:
    """Queue an indexing.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: Nothing has been written then.
    """
    launch = await launching.begin(server, IndexHandler, request)
    if launch.earlier:
        return launch.earlier
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

    async def check(session: AsyncSession) -> None:
        lookup.check_usable(await lookup.get(session, ActivationRun, run.id))
        lookup.check_ready(await lookup.get(session, Sae, sae.id))

    return await launch.queue(
        request=_request(sae, run.id, request.top_texts_per_neuron)
        | {
            "exclude_first_positions": request.exclude_first_positions,
            "exclude_outliers": request.exclude_outliers,
        },
        makes=_new_index(sae, run.id, request.top_texts_per_neuron),
        result_id=sae.id,
        check=check,
    )


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
    row = _new_index(sae, run_id, top_texts_per_neuron)
    request = _request(sae, run_id, top_texts_per_neuron)
    job = launching.new_job(IndexHandler, artifact_id=row.id, result_id=sae.id, request=request)
    row.job_id = job.id
    await queue.add(session, job)
    await session.flush()
    session.add(row)


def _request(sae: Sae, run_id: str, top_texts_per_neuron: int) -> dict[str, Any]:
    return {
        "language_model_id": sae.language_model_id,
        "activation_run_id": run_id,
        "top_texts_per_neuron": top_texts_per_neuron,
    }


def _new_index(sae: Sae, run_id: str, top_texts_per_neuron: int) -> NeuronIndex:
    return NeuronIndex(
        id=ids.new(ids.NEURON_INDEX),
        sae_id=sae.id,
        activation_run_id=run_id,
        top_texts_per_neuron=top_texts_per_neuron,
    )


def top_texts_path(sae: Sae, id: str) -> str:
    """Return where the top-texts file of an index or request lies, relative to the artifact directory."""
    return f"{sae.directory}/top_texts/{id}.json"


class IndexHandler(ArtifactHandler[IndexNeurons, IndexResult, NeuronIndex]):
    """INDEX_NEURONS jobs. One that does not succeed leaves the SAE as it was, with the index it had."""

    kind = JobKind.INDEX_NEURONS
    description = "Passes over an activation run to find out about an SAE's neurons."
    lane = "jobs"
    unit = ProgressUnit.TOKENS
    task = IndexNeurons
    result = IndexResult
    makes = NeuronIndex
    pairs = Sae

    @classmethod
    def describe(cls, job: Job, about: Subjects) -> JobDescription:
        """Name the SAE and the run; what is left out is the SAE's own unless it was asked for."""
        wanted = job.request
        positions, outliers = wanted.get("exclude_first_positions"), wanted.get("exclude_outliers")
        own = exclusions.of_sae(about.sae) if about.sae else None
        return JobDescription(
            f"Index {about.sae_name} over {about.activation_run_name}",
            {
                "top_texts_per_neuron": wanted.get("top_texts_per_neuron"),
                "exclude_first_positions": own.first_positions if own and positions is None else positions,
                "exclude_outliers": own.outliers if own and outliers is None else outliers or None,
            },
        )

    async def task_of(self, session: AsyncSession, job: Job, row: NeuronIndex) -> IndexNeurons:
        """Return the task, with the exclusions of the SAE's training unless others were asked for."""
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

    async def complete(self, session: AsyncSession, job: Job, row: NeuronIndex, result: IndexResult) -> None:
        """Keep what was found; the index before goes."""
        sae = await session.get_one(Sae, row.sae_id)
        await self._remove_others(session, sae, row)
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

    async def find_again(self, session: AsyncSession, job: Job) -> NeuronIndex:
        """Return the index; NotFound where its SAE has been deleted."""
        row = await session.get(NeuronIndex, job.artifact_id)
        await lookup.get(session, Sae, row.sae_id if row else job.result_id)
        if row is None:
            raise Conflict("The index has been replaced by a newer one; call indexNeurons instead.")
        if row.activation_run_id is None:
            raise Conflict("The run that it was to go over has been deleted; call indexNeurons with another.")
        lookup.check_usable(await lookup.get(session, ActivationRun, row.activation_run_id))
        lookup.check_ready(await lookup.get(session, Sae, row.sae_id))
        return row
