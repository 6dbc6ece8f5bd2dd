"""Evaluations from request to row, with the worker's side written down by the test."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gql_server import ids
from gql_server.artifacts.datasets import TextDataset
from gql_server.errors import Conflict, NotFound
from gql_server.jobs.executor import TaskRun, WorkerLost
from gql_server.protocol.results import Done, EvaluatedDataset, EvaluationResult
from gql_server.protocol.sources import HubDataset
from gql_server.protocol.tasks import DownloadTexts, EvaluateSae, Task
from gql_server.services import artifacts, evaluations, jobs, saes, startup, stored_datasets
from gql_server.services.app_context import AppContext
from gql_server.services.requests import DatasetRequest, EvaluateRequest
from models import Job, LanguageModel, Sae, SaeEvaluation
from models.enums import ArtifactStatus, DatasetKind, JobKind, JobStatus
from tests.api.asking import ask, counted_statements, first_error
from tests.support.artifact_files import write_tokenizer
from tests.support.fake_executor import FakeExecutor
from tests.support.job_logs import ended
from tests.support.refusals import problem_paths, refused
from tests.support.serving import add_language_model, add_run, add_sae, serving

TEXTS = ["left out", "one", "two", "three", "four"]
REQUEST = EvaluateRequest("", DatasetRequest(DatasetKind.INLINE, texts=TEXTS), 1, 2, None)
FIGURES: dict[str, Any] = {
    "truncated_text_count": 1,
    "mse": 0.25, "explained_variance": 0.75, "l0": 3.5, "dead_fraction": 0.125, "cosine_similarity": 0.9,
    "relative_reconstruction_bias": None, "ce_loss_original": 2.0, "ce_loss_reconstructed": 2.5,
    "ce_loss_zero_ablated": 7.0, "ce_loss_recovered": 0.9, "kl_divergence_reconstructed": 0.5,
}  # fmt: skip
SHOWN = """query($id: ID!) { sae(id: $id) { evaluation {
  dataset { kind description sampleCount skippedRowCount } sampleOffset sampleCount maxLength tokenCount
  predictedTokenCount truncatedTextCount
  mse explainedVariance l0 deadFraction deadWindowTokens cosineSimilarity relativeReconstructionBias
  ceLossOriginal ceLossReconstructed ceLossZeroAblated ceLossRecovered klDivergenceReconstructed
  metricDefinitionsVersion evaluatedAt } } }"""


def result_of(task: EvaluateSae) -> EvaluationResult:
    return EvaluationResult(
        dataset=EvaluatedDataset(
            task.dataset_kind,
            task.dataset_description,
            task.dataset_sample_count or 9,
            task.sample_offset,
            task.sample_limit,
            "abc",
        ),
        sample_count=2,
        max_length=task.trained_max_length or 128,
        token_count=2**40,
        predicted_token_count=30,
        dead_window_tokens=2**40,
        metric_definitions_version=1,
        evaluated_at="2026-11-23T10:00:00+00:00",
        **FIGURES,
    )


def succeed(task: Task, run: TaskRun) -> None:
    if isinstance(task, DownloadTexts):
        run.finish(Done())
        return
    assert isinstance(task, EvaluateSae)
    run.finish(result_of(task))


def fail(task: Task, run: TaskRun) -> None:
    run.finish(WorkerLost("The worker was killed."))


@asynccontextmanager
async def prepared(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[AppContext, Sae, FakeExecutor]]:
    executor = FakeExecutor(succeed)
    async with serving(tmp_path, executor, **settings) as server:
        sae = await add_sae(server, await add_run(server, await add_language_model(server)))
        yield server, sae, executor


def of(sae: Sae, **changes: Any) -> EvaluateRequest:
    return dataclasses.replace(REQUEST, sae_id=sae.id, **changes)


def staged_texts(server: AppContext) -> set[str]:
    directory = server.settings.artifact_dir / "datasets"
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


async def evaluation_of(server: AppContext, sae: Sae) -> dict[str, Any] | None:
    async with server.database.read() as session:
        return (await session.get_one(Sae, sae.id)).evaluation


async def run_it(server: AppContext, request: EvaluateRequest) -> Job:
    return await ended(server, (await evaluations.evaluate(server, request)).job.id)


async def test_the_task_gets_the_texts_that_it_may_need_and_the_figures_are_shown_with_the_sae(
    tmp_path: Path,
) -> None:
    async with prepared(tmp_path) as (server, sae, executor):
        read: list[list[str]] = []

        def read_and_succeed(task: Task, run: TaskRun) -> None:
            assert isinstance(task, EvaluateSae)
            read.append(list(TextDataset(Path(task.dataset_dir))))
            succeed(task, run)

        executor.script = read_and_succeed
        job = await run_it(server, of(sae))
        assert staged_texts(server) == set()
        shown = (await ask(server, SHOWN, id=sae.id))["sae"]["evaluation"]
        result = await ask(
            server, "query($id: ID!) { job(id: $id) { result { ... on Sae { id } } } }", id=job.id
        )
    assert read == [TEXTS[:3]]
    (lane, task), *_ = executor.tasks
    assert isinstance(task, EvaluateSae) and lane == "jobs"
    assert (task.sample_offset, task.sample_limit, task.trained_max_length, task.attempt) == (1, 2, 16, 1)
    assert task.dataset_dir.endswith(f"/datasets/{job.id}") and task.sae.layer == "m_layers_1"
    assert (job.kind, job.status, result["job"]["result"]) == (
        JobKind.EVALUATE_SAE,
        JobStatus.SUCCEEDED,
        {"id": sae.id},
    )
    camel = {
        name.split("_")[0] + "".join(map(str.title, name.split("_")[1:])): v for name, v in FIGURES.items()
    }
    assert shown == camel | {
        "dataset": {"kind": "INLINE", "description": "5 texts", "sampleCount": 5, "skippedRowCount": 0},
        "sampleOffset": 1,
        "sampleCount": 2,
        "maxLength": 16,
        "tokenCount": 2**40,
        "predictedTokenCount": 30,
        "deadWindowTokens": 2**40,
        "metricDefinitionsVersion": 1,
        "evaluatedAt": "2026-11-23T10:00:00+00:00",
    }


async def test_texts_of_the_hub_are_got_before_the_task(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, executor):
        hub = DatasetRequest(DatasetKind.HUGGING_FACE, repository="owner/name", text_field="body")
        job = await run_it(server, of(sae, dataset=hub))
        assert job.status == JobStatus.SUCCEEDED and staged_texts(server) == set()
    (lane, download), (_, task) = executor.tasks
    assert isinstance(task, EvaluateSae)
    source = HubDataset("owner/name", None, "train", "body", None)
    wanted = task.sample_offset + task.sample_limit
    most, patience = server.settings.max_texts, server.settings.download_patience_seconds
    assert (lane, download) == ("downloads", DownloadTexts(source, task.dataset_dir, wanted, most, patience))
    assert task.hub_dataset == source
    assert (task.dataset_sample_count, task.max_texts) == (None, server.settings.max_texts)


async def test_an_sae_that_was_trained_elsewhere_has_no_length_to_be_cut_at(tmp_path: Path) -> None:
    async with serving(tmp_path, executor := FakeExecutor(succeed)) as server:
        run = await add_run(server, await add_language_model(server))
        await run_it(server, of(await add_sae(server, run, activation_run_id=None)))
    task = executor.tasks[0][1]
    assert isinstance(task, EvaluateSae) and task.trained_max_length is None


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"sample_limit": 0}, ["sampleLimit"]),
        ({"sample_limit": 11}, ["sampleLimit"]),
        ({"sample_offset": -1}, ["sampleOffset"]),
        ({"sample_offset": 5}, ["sampleOffset"]),
        ({"idempotency_key": ""}, ["idempotencyKey"]),
        ({"dataset": DatasetRequest(DatasetKind.INLINE, texts=[])}, ["dataset", "texts"]),
        ({"dataset": DatasetRequest(DatasetKind.INLINE, texts=["", ""])}, ["dataset"]),
        ({"dataset": DatasetRequest(DatasetKind.INLINE, texts=["x"] * 11)}, ["dataset", "texts"]),
        ({"dataset": DatasetRequest(DatasetKind.FILE, path="/etc/passwd")}, ["dataset", "file", "path"]),
        (
            {"dataset": DatasetRequest(DatasetKind.UPLOAD, file_name="x.csv", content=BytesIO(b"a\n1"))},
            ["dataset", "upload"],
        ),
        (
            {"dataset": DatasetRequest(DatasetKind.HUGGING_FACE, repository="/etc")},
            ["dataset", "huggingFace", "repository"],
        ),
    ],
)
async def test_an_evaluation_that_cannot_be_right_is_refused_and_nothing_is_written(
    tmp_path: Path, tiny_model_dir: Path, changes: dict[str, Any], path: list[str]
) -> None:
    async with prepared(tmp_path, max_texts=10) as (server, sae, _):
        write_tokenizer(server, sae.language_model_id, tiny_model_dir)
        refusal = await refused(server, lambda: evaluations.evaluate(server, of(sae, **changes)))
        assert problem_paths(refusal) == [path] and staged_texts(server) == set()


@pytest.mark.parametrize("status", [one for one in ArtifactStatus if one != ArtifactStatus.READY])
async def test_only_a_ready_sae_is_evaluated(tmp_path: Path, status: ArtifactStatus) -> None:
    async with serving(tmp_path) as server:
        sae = await add_sae(server, await add_run(server, await add_language_model(server)), status=status)
        refusal = await refused(server, lambda: evaluations.evaluate(server, of(sae)))
        assert isinstance(refusal, Conflict) and f"is {status}, not READY" in str(refusal)
        unknown = dataclasses.replace(REQUEST, sae_id=ids.new(ids.SAE))
        assert isinstance(await refused(server, lambda: evaluations.evaluate(server, unknown)), NotFound)


async def test_a_model_that_was_never_loaded_is_to_be_loaded_first(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, _):
        async with server.database.write() as session:
            (await session.get_one(LanguageModel, sae.language_model_id)).layers = None
        refusal = await refused(server, lambda: evaluations.evaluate(server, of(sae)))
        assert isinstance(refusal, Conflict) and "loadLanguageModel first" in str(refusal)


async def test_the_same_key_gives_the_same_job_and_keeps_no_texts_twice(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, executor):
        executor.script = lambda task, run: None
        first, second = await asyncio.gather(
            *(evaluations.evaluate(server, of(sae, idempotency_key="a")) for _ in range(2))
        )
        assert first.job.id == second.job.id and {first.replayed, second.replayed} == {True, False}
        assert staged_texts(server) == {first.job.id}
        with pytest.raises(Conflict) as conflict:
            await evaluations.evaluate(server, of(sae, idempotency_key="a", sample_limit=1))
        assert conflict.value.code == "IDEMPOTENCY_KEY_MISMATCH"
        assert staged_texts(server) == {first.job.id}


async def test_one_that_ends_badly_leaves_the_figures_and_a_retry_takes_its_texts_up(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, executor):
        await run_it(server, of(sae))
        before = await evaluation_of(server, sae)
        executor.script = fail
        broken = await run_it(server, of(sae, sample_limit=1))
        assert broken.status == JobStatus.INTERRUPTED and await evaluation_of(server, sae) == before
        assert staged_texts(server) == {broken.id}
        await startup.clean_up(server.database, server.settings, 2**40)
        assert staged_texts(server) == {broken.id}, "texts that are kept belong to somebody"
        executor.script = succeed
        await jobs.retry(server, broken.id)
        assert (await ended(server, broken.id)).status == JobStatus.SUCCEEDED
        after = await evaluation_of(server, sae)
        assert staged_texts(server) == set()
        with pytest.raises(Conflict, match="only one that did not succeed"):
            await jobs.retry(server, broken.id)
    assert (
        before and after and (before["dataset"]["sample_limit"], after["dataset"]["sample_limit"]) == (2, 1)
    )
    task = executor.tasks[-1][1]
    assert isinstance(task, EvaluateSae) and task.attempt == 2


async def test_the_next_one_that_succeeds_takes_the_place_of_those_that_ended_and_no_others(
    tmp_path: Path,
) -> None:
    async with prepared(tmp_path) as (server, sae, executor):
        executor.script = fail
        broken = await run_it(server, of(sae))
        runs: asyncio.Queue[tuple[EvaluateSae, TaskRun]] = asyncio.Queue()
        executor.script = lambda task, run: runs.put_nowait((task, run))  # type: ignore[arg-type]
        first, second = [(await evaluations.evaluate(server, of(sae))).job.id for _ in range(2)]
        assert staged_texts(server) == {broken.id, first, second}
        task, run = await asyncio.wait_for(runs.get(), 10)
        run.finish(result_of(task))
        await ended(server, first)
        assert staged_texts(server) == {second}
        with pytest.raises(Conflict, match="call evaluateSae instead"):
            await jobs.retry(server, broken.id)
        task, run = await asyncio.wait_for(runs.get(), 10)
        run.finish(result_of(task))
        await ended(server, second)
        assert staged_texts(server) == set()


async def test_an_sae_under_evaluation_is_not_deleted_and_its_kept_texts_go_with_it(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, executor):
        executor.script = lambda task, run: None
        job = (await evaluations.evaluate(server, of(sae))).job
        with pytest.raises(Conflict, match=job.id):
            await saes.delete(server, sae.id)
        await jobs.cancel(server, job.id)
        assert (await ended(server, job.id)).status == JobStatus.CANCELED
        assert staged_texts(server) == {job.id}
        await saes.delete(server, sae.id)
        assert staged_texts(server) == set()
        with pytest.raises(NotFound):
            await jobs.retry(server, job.id)


async def test_texts_that_nobody_keeps_any_more_are_orphans(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, _):
        job = await run_it(server, of(sae))
        left = artifacts.dataset_directory(server.settings, job.id) / "texts.arrow"
        left.parent.mkdir()
        left.write_bytes(b"x")
        await startup.clean_up(server.database, server.settings, 2**40)
        assert not left.exists()
    assert (tmp_path / "orphans" / "datasets" / job.id / "texts.arrow").exists()


# ------------------------------------------------------------------------- earlier evaluations

KEPT = """query($first: Int! = 20) { saes(first: 5) { nodes { id evaluation { sampleLimit }
  evaluations(first: $first) { sampleLimit sampleOffset excludeFirstPositions job { id }
    dataset { kind description storedDataset { name } texts } } } } }"""


async def test_all_evaluations_are_kept_newest_first_with_what_they_were_measured_on(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, executor):
        upload = DatasetRequest(DatasetKind.UPLOAD, file_name="x.txt", content=BytesIO(b"a\nb\n"))
        dataset = await stored_datasets.upload(server, upload, "two")
        first = await run_it(server, of(sae, sample_limit=3))
        stored = DatasetRequest(DatasetKind.STORED, dataset_id=dataset.id)
        second = await run_it(server, of(sae, dataset=stored, sample_offset=0, sample_limit=1))
        executor.script = fail
        await run_it(server, of(sae))
        (shown,) = (await ask(server, KEPT))["saes"]["nodes"]
        (newest,) = (await ask(server, KEPT, first=1))["saes"]["nodes"][0]["evaluations"]
    of_stored = {"kind": "STORED", "description": "two", "storedDataset": {"name": "two"}, "texts": None}
    inline = {"kind": "INLINE", "description": "5 texts", "storedDataset": None, "texts": None}
    assert shown["evaluation"] == {"sampleLimit": 1}
    assert [one["job"]["id"] for one in shown["evaluations"]] == [second.id, first.id]
    assert [one["dataset"] for one in shown["evaluations"]] == [of_stored, inline]
    assert [(one["sampleOffset"], one["sampleLimit"]) for one in shown["evaluations"]] == [(0, 1), (1, 3)]
    assert newest == shown["evaluations"][0]


async def test_the_oldest_evaluations_go_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluations, "MAX_EVALUATIONS", 2)
    async with prepared(tmp_path) as (server, sae, _):
        other = await add_sae(server, await add_run(server, await add_language_model(server, "other")))
        await run_it(server, of(other, sample_limit=4))
        for limit in (1, 2, 3):
            await run_it(server, of(sae, sample_limit=limit))
        shown = {node["id"]: node["evaluations"] for node in (await ask(server, KEPT))["saes"]["nodes"]}
        assert [one["sampleLimit"] for one in shown[sae.id]] == [3, 2]
        assert [one["sampleLimit"] for one in shown[other.id]] == [4]
        await saes.delete(server, sae.id)
        async with server.database.read() as session:
            assert len(list(await session.scalars(select(SaeEvaluation)))) == 1


async def test_the_evaluations_of_a_page_of_saes_take_one_statement(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, _):
        run = await add_run(server, await add_language_model(server, "other"))
        for one in (sae, *[await add_sae(server, run) for _ in range(3)]):
            for _ in range(2):
                await run_it(server, of(one))
        with counted_statements(server) as statements:
            nodes = (await ask(server, KEPT))["saes"]["nodes"]
        assert [len(node["evaluations"]) for node in nodes] == [2] * 4
        assert len(statements) == 3, "the SAEs, their evaluations, the jobs"


async def test_an_evaluation_of_an_earlier_version_is_shown_without_what_it_lacks(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, sae, _):
        await run_it(server, of(sae))
        async with server.database.write() as session:
            (row,) = await session.scalars(select(SaeEvaluation))
            dataset = {name: value for name, value in row.result["dataset"].items() if name != "dataset_id"}
            rest = {name: value for name, value in row.result.items() if name != "job_id"}
            row.result = rest | {"dataset": dataset}
        (shown,) = (await ask(server, KEPT))["saes"]["nodes"][0]["evaluations"]
    assert (shown["job"], shown["dataset"]["storedDataset"], shown["sampleLimit"]) == (None, None, 2)


@pytest.mark.parametrize("first", [0, 101])
async def test_a_number_of_evaluations_that_cannot_be_is_refused(tmp_path: Path, first: int) -> None:
    async with prepared(tmp_path) as (server, _, _):
        error = await first_error(server, KEPT, first=first)
    assert error["extensions"]["code"] == "INVALID_INPUT"
