"""Evaluations: how well an SAE stands in for its layer, measured on texts."""

from pathlib import Path
from typing import Any

from sqlalchemy import Select, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.errors import Conflict
from gql_server.jobs.descriptions import JobDescription, Subjects, texts_for_title
from gql_server.jobs.handler import JobHandler
from gql_server.protocol.results import EvaluationResult
from gql_server.protocol.sources import HubDataset
from gql_server.protocol.tasks import EvaluateSae
from gql_server.services import artifacts, dataset_staging, exclusions, launching, lookup, model_identity
from gql_server.services.activation_runs import MAX_OFFSET
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.language_models import check_loaded_once
from gql_server.services.removals import remove_after_commit
from gql_server.services.requests import EvaluateRequest, Launched
from gql_server.services.texts import Texts
from gql_server.settings import Settings
from models import ActivationRun, Job, LanguageModel, Sae, SaeEvaluation
from models.enums import UNFINISHED, JobKind, ProgressUnit

MAX_EVALUATIONS = 100
"""Of an SAE that are kept."""


async def evaluate(server: AppContext, request: EvaluateRequest) -> Launched:
    """Queue an evaluation; its texts are kept before the job is there.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: Nothing has been written then.
    """
    launch = await launching.begin(server, EvaluationHandler, request)
    if launch.earlier:
        return launch.earlier
    _check(server.settings, request)
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
        lookup.check_ready(sae)
        language_model = await session.get_one(LanguageModel, sae.language_model_id)
    check_loaded_once(language_model)
    await model_identity.check(server, language_model, sae)
    offset, limit = request.sample_offset, request.sample_limit
    job_id = ids.new(ids.JOB)
    async with dataset_staging.keep(
        server, request.dataset, job_id, language_model, offset, limit, keeps_rest=False
    ) as kept:

        async def check(session: AsyncSession) -> None:
            lookup.check_ready(await lookup.get(session, Sae, sae.id))
            await kept.hold(session)

        return await launch.queue(
            request=_kept_request(request, sae, kept.texts), works_on=sae.id, job_id=job_id, check=check
        )


def _check(settings: Settings, request: EvaluateRequest) -> None:
    checks = Checks()
    checks.idempotency_key(request.idempotency_key)
    checks.whole_number("sampleOffset", request.sample_offset, 0, MAX_OFFSET)
    checks.whole_number("sampleLimit", request.sample_limit, 1, settings.max_texts)
    exclusions.check(checks, request.exclude_first_positions, request.exclude_outliers)
    checks.done()


def _kept_request(request: EvaluateRequest, sae: Sae, dataset: Texts) -> dict[str, Any]:
    return {
        "language_model_id": sae.language_model_id,
        "dataset_kind": dataset.kind,
        "dataset_description": dataset.description,
        "dataset_sample_count": dataset.count,
        "dataset_id": request.dataset.dataset_id,
        "hub_dataset": dataset_staging.hub_dataset(request.dataset),
        "sample_offset": request.sample_offset,
        "sample_limit": request.sample_limit,
        "texts_kept": True,
        "exclude_first_positions": request.exclude_first_positions,
        "exclude_outliers": request.exclude_outliers,
    }


async def kept_by(session: AsyncSession, settings: Settings, sae_id: str) -> list[Path]:
    """Return the directories of all texts that are kept for evaluations of an SAE."""
    kept = _keepers().where(Job.result_id == sae_id)
    return [artifacts.dataset_directory(settings, job.id) for job in await session.scalars(kept)]


async def keepers(session: AsyncSession) -> set[str]:
    """Return the IDs of the jobs that texts are kept for."""
    return {job.id for job in await session.scalars(_keepers())}


def _keepers() -> Select[Job]:
    return select(Job).where(Job.kind == JobKind.EVALUATE_SAE, Job.request["texts_kept"].as_boolean())


def _noted(result: EvaluationResult, job: Job) -> dict[str, Any]:
    """Return a result with what the worker is not told: the job, and the stored dataset of its texts."""
    found = result.to_json()
    dataset = found["dataset"] | {"dataset_id": job.request.get("dataset_id")}
    return found | {"job_id": job.id, "dataset": dataset}


async def _forget_oldest(session: AsyncSession, sae_id: str) -> None:
    """Keep the newest MAX_EVALUATIONS of an SAE."""
    of_sae = select(SaeEvaluation.id).where(SaeEvaluation.sae_id == sae_id)
    newest_first = of_sae.order_by(SaeEvaluation.created_at.desc(), SaeEvaluation.id.desc())
    oldest = list(await session.scalars(newest_first.offset(MAX_EVALUATIONS)))
    await session.execute(delete(SaeEvaluation).where(SaeEvaluation.id.in_(oldest)))


class EvaluationHandler(JobHandler[EvaluateSae, EvaluationResult]):
    """EVALUATE_SAE jobs. Until one succeeds, the SAE shows the evaluation before; texts stay for a retry."""

    kind = JobKind.EVALUATE_SAE
    description = "Measures an SAE in its layer's place."
    lane = "jobs"
    unit = ProgressUnit.TEXTS
    task = EvaluateSae
    result = EvaluationResult
    pairs = Sae

    @classmethod
    def describe(cls, job: Job, about: Subjects) -> JobDescription:
        """Name the SAE and the texts; what is left out is the SAE's own unless it was asked for."""
        wanted = job.request
        dataset = wanted.get("dataset_description")
        texts = f" on {texts_for_title(dataset)}" if dataset is not None else ""
        positions, outliers = wanted.get("exclude_first_positions"), wanted.get("exclude_outliers")
        own = exclusions.of_sae(about.sae) if about.sae else None
        names = (
            "dataset_kind",
            "dataset_description",
            "dataset_sample_count",
            "dataset_id",
            "sample_offset",
            "sample_limit",
        )
        return JobDescription(
            f"Evaluate {about.sae_name}{texts}",
            {name: wanted.get(name) for name in names}
            | {
                "exclude_first_positions": own.first_positions if own and positions is None else positions,
                "exclude_outliers": own.outliers if own and outliers is None else outliers or None,
            },
        )

    async def begin(self, session: AsyncSession, job: Job) -> EvaluateSae:
        """Return the task."""
        sae = await session.get_one(Sae, job.artifact_id)
        language_model = await session.get_one(LanguageModel, sae.language_model_id)
        run = await session.get(ActivationRun, sae.activation_run_id) if sae.activation_run_id else None
        wanted: dict[str, Any] = job.request
        hub = wanted["hub_dataset"]
        return EvaluateSae(
            sae=artifacts.sae_source(self._settings, sae),
            language_model=artifacts.language_model_source(self._settings, language_model),
            dataset_dir=str(artifacts.dataset_directory(self._settings, job.id)),
            hub_dataset=HubDataset(**hub) if hub else None,
            dataset_kind=wanted["dataset_kind"],
            dataset_description=wanted["dataset_description"],
            dataset_sample_count=wanted["dataset_sample_count"],
            sample_offset=wanted["sample_offset"],
            sample_limit=wanted["sample_limit"],
            trained_max_length=run.max_length if run else None,
            max_texts=self._settings.max_texts,
            attempt=job.attempt,
            exclusions=await exclusions.chosen(
                session, sae, wanted.get("exclude_first_positions"), wanted.get("exclude_outliers")
            ),
            made_with=model_identity.made_with(sae, language_model),
        )

    async def keep(self, session: AsyncSession, job: Job, result: EvaluationResult) -> None:
        """Show the figures with the SAE; texts of evaluations that have ended are of no more use."""
        sae = await session.get_one(Sae, job.artifact_id)
        sae.evaluation = _noted(result, job)
        session.add(SaeEvaluation(id=ids.new(ids.EVALUATION), sae_id=sae.id, result=sae.evaluation))
        await session.flush()
        await _forget_oldest(session, sae.id)
        ended = or_(Job.status.not_in(UNFINISHED), Job.id == job.id)
        files = []
        for keeper in await session.scalars(_keepers().where(Job.result_id == sae.id, ended)):
            keeper.request = keeper.request | {"texts_kept": False}
            files.append(artifacts.dataset_directory(self._settings, keeper.id))
        await remove_after_commit(session, self._settings, files)

    async def requeue(self, session: AsyncSession, job: Job) -> None:
        """Refuse where the SAE or the texts have gone."""
        lookup.check_ready(await lookup.get(session, Sae, job.artifact_id))
        if not job.request["texts_kept"]:
            raise Conflict("A later evaluation has taken the place of this one; call evaluateSae instead.")
