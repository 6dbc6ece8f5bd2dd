"""Jobs that need something from the Hub first, with the workers' side written down by the test."""

import asyncio
import dataclasses
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gql_server.artifacts import disk
from gql_server.jobs import downloads, supervisor
from gql_server.jobs.executor import TaskFailure, TaskRun, WorkerLost
from gql_server.protocol.events import Stage
from gql_server.protocol.results import Done
from gql_server.protocol.tasks import CaptureActivations, DownloadTexts, Task
from gql_server.protocol.wire import TaskFailed
from gql_server.services import activation_runs, jobs
from gql_server.services.app_context import AppContext
from gql_server.services.requests import DatasetRequest
from models import Job
from models.enums import DatasetKind, JobStatus
from tests.support.fake_executor import FakeExecutor
from tests.support.job_logs import ended
from tests.support.requests import capture_request
from tests.support.serving import add_language_model, serving
from tests.support.task_scripts import capture_result

HUB = DatasetRequest(DatasetKind.HUGGING_FACE, repository="owner/name")


class Workers(FakeExecutor):
    """Keeps the runs of tasks, by kind; the test ends them."""

    def __init__(self) -> None:
        super().__init__(self._keep)
        self.downloads: list[TaskRun] = []
        self.captures: list[TaskRun] = []

    def _keep(self, task: Task, run: TaskRun) -> None:
        if isinstance(task, DownloadTexts):
            run.push(Stage("getting texts", 7, None))
            self.downloads.append(run)
        else:
            assert isinstance(task, CaptureActivations)
            self.captures.append(run)


@asynccontextmanager
async def prepared(tmp_path: Path) -> AsyncIterator[tuple[AppContext, Workers, str]]:
    async with serving(tmp_path, workers := Workers()) as server:
        yield server, workers, (await add_language_model(server)).id


async def launch(server: AppContext, language_model: str, dataset: DatasetRequest | None = None) -> str:
    request = capture_request(language_model)
    if dataset is not None:
        request = dataclasses.replace(request, dataset=dataset)
    return str((await activation_runs.capture(server, request)).job.id)


async def until(server: AppContext, job_id: str, status: JobStatus, stage: str | None) -> Job:
    async with asyncio.timeout(10):
        while True:
            async with server.database.read() as session:
                job = await session.get_one(Job, job_id)
            if (job.status, job.stage) == (status, stage):
                return job
            await asyncio.sleep(0.005)


async def more(runs: list[TaskRun], number: int) -> TaskRun:
    async with asyncio.timeout(10):
        while len(runs) < number:  # noqa: ASYNC110 (the supervisor's loop tells nobody)
            await asyncio.sleep(0.005)
    return runs[number - 1]


async def test_a_lane_goes_on_while_a_job_waits_for_the_hub_which_then_waits_for_the_lane(
    tmp_path: Path,
) -> None:
    async with prepared(tmp_path) as (server, workers, language_model):
        of_hub = await launch(server, language_model, HUB)
        other = await launch(server, language_model)
        await until(server, of_hub, JobStatus.RUNNING, "getting texts")
        capture = await more(workers.captures, 1)
        workers.downloads[0].finish(Done())
        await until(server, of_hub, JobStatus.RUNNING, supervisor.WAITING)
        assert len(workers.captures) == 1
        capture.finish(capture_result())
        assert (await ended(server, other)).status == JobStatus.SUCCEEDED
        (await more(workers.captures, 2)).finish(capture_result())
        assert (await ended(server, of_hub)).status == JobStatus.SUCCEEDED
        lanes = [(lane, type(task)) for lane, task in workers.tasks]
        assert sorted(lanes, key=str) == [
            ("downloads", DownloadTexts),
            ("jobs", CaptureActivations),
            ("jobs", CaptureActivations),
        ]
        last = await launch(server, language_model)
        (await more(workers.captures, 3)).finish(capture_result())
        assert (await ended(server, last)).status == JobStatus.SUCCEEDED


@pytest.mark.parametrize("waits_for", ["the Hub", "a turn to download", "the lane"])
async def test_a_job_is_canceled_at_once_whatever_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    monkeypatch.setattr(downloads, "AT_ONCE", 1)
    async with prepared(tmp_path) as (server, workers, language_model):
        job = await launch(server, language_model, HUB)
        if waits_for == "a turn to download":
            await until(server, job, JobStatus.RUNNING, "getting texts")
            job = await launch(server, language_model, HUB)
            await until(server, job, JobStatus.RUNNING, None)
        else:
            await until(server, job, JobStatus.RUNNING, "getting texts")
        other = await launch(server, language_model)
        capture = await more(workers.captures, 1)
        if waits_for == "the lane":
            workers.downloads[0].finish(Done())
            await until(server, job, JobStatus.RUNNING, supervisor.WAITING)
        await jobs.cancel(server, job)
        assert (await ended(server, job)).status == JobStatus.CANCELED
        assert workers.downloads[0].cancel_requested is (waits_for == "the Hub")
        assert len(workers.downloads) == len(workers.captures) == 1
        capture.finish(capture_result())
        assert (await ended(server, other)).status == JobStatus.SUCCEEDED


async def test_a_download_that_ends_badly_ends_its_job_so(tmp_path: Path) -> None:
    async with prepared(tmp_path) as (server, workers, language_model):
        first = await launch(server, language_model, HUB)
        reason = "The dataset owner/name could not be had from the Hub: no."
        (await more(workers.downloads, 1)).finish(TaskFailure(TaskFailed(1, "CONFLICT", reason, [], "")))
        second = await launch(server, language_model, HUB)
        (await more(workers.downloads, 2)).finish(WorkerLost("The worker ended by signal SIGSEGV."))
        found = [await ended(server, job) for job in (first, second)]
    assert [(job.status, job.error) for job in found] == [
        (JobStatus.FAILED, reason),
        (JobStatus.INTERRUPTED, "The worker ended by signal SIGSEGV."),
    ]
    assert workers.captures == []


@pytest.mark.parametrize(
    ("mistake", "problem"),
    [(RuntimeError("no"), supervisor.INTERNAL_FAILURE), (OSError(errno.ENOSPC, "full"), disk.FULL)],
)
async def test_a_mistake_beside_a_lane_fails_its_job_and_the_lane_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: Exception, problem: str
) -> None:
    async def fail(*_: object) -> None:
        raise mistake

    monkeypatch.setattr(downloads.Downloads, "get", fail)
    async with prepared(tmp_path) as (server, workers, language_model):
        job = await ended(server, await launch(server, language_model, HUB))
        assert (job.status, job.error) == (JobStatus.FAILED, problem)
        other = await launch(server, language_model)
        (await more(workers.captures, 1)).finish(capture_result())
        assert (await ended(server, other)).status == JobStatus.SUCCEEDED


@pytest.mark.parametrize("waits_for_lane", [True, False])
async def test_a_server_that_stops_interrupts_what_waits_beside_a_lane(
    tmp_path: Path, waits_for_lane: bool
) -> None:
    async with prepared(tmp_path) as (server, workers, language_model):
        job = await launch(server, language_model, HUB)
        await until(server, job, JobStatus.RUNNING, "getting texts")
        await launch(server, language_model)
        await more(workers.captures, 1)
        if waits_for_lane:
            workers.downloads[0].finish(Done())
            await until(server, job, JobStatus.RUNNING, supervisor.WAITING)
    async with serving(tmp_path) as server, server.database.read() as session:
        found = await session.get_one(Job, job)
    assert (found.status, found.error) == (JobStatus.INTERRUPTED, supervisor.STOPPED)
    assert len(workers.captures) == 1


async def test_no_more_jobs_wait_beside_a_lane_than_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_BESIDE", 2)
    async with prepared(tmp_path) as (server, _, language_model):
        launched = [await launch(server, language_model, HUB) for _ in range(3)]
        for job in launched[:2]:
            await until(server, job, JobStatus.RUNNING, "getting texts")
        await until(server, launched[2], JobStatus.QUEUED, None)
        await jobs.cancel(server, launched[0])
        await until(server, launched[2], JobStatus.RUNNING, "getting texts")
