"""The supervisor, over a real database, with the worker's side written down by the test."""

import asyncio
import dataclasses
import errno
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.artifacts.disk import FULL
from gql_server.artifacts.manifest import Manifest, ManifestDataset, ManifestLanguageModel
from gql_server.errors import Conflict, NotFound
from gql_server.jobs import event_log, queue, supervisor, transitions
from gql_server.jobs.executor import TaskCanceled, TaskFailure, TaskRun, WorkerLost, WorkerOutOfMemory
from gql_server.jobs.supervisor import STOPPED
from gql_server.protocol.events import (
    Log,
    Progress,
    Stage,
    TrainingPointMessage,
    TrainingResumed,
)
from gql_server.protocol.results import (
    Done,
    TrainResult,
)
from gql_server.protocol.tasks import (
    CaptureActivations,
    CapturePart,
    IndexNeurons,
    PlanCapture,
    Task,
    TrainSae,
)
from gql_server.protocol.wire import TaskFailed
from gql_server.services import activation_runs, jobs, neuron_indexes, saes
from gql_server.services.app_context import AppContext
from gql_server.services.requests import IndexRequest
from gql_server.services.startup import INTERRUPTED, reconcile
from models import ActivationRun, Job, JobEvent, NeuronIndex, Sae, TrainingPoint as TrainingPointRow
from models.enums import ArtifactStatus, JobEventType, JobKind, JobStatus
from tests.support.fake_executor import FakeExecutor
from tests.support.job_logs import ended
from tests.support.requests import capture_request, train_request
from tests.support.serving import add_language_model, add_run, add_sae, serving
from tests.support.task_scripts import TRAINING_CONFIG, capture_result, succeed


async def test_a_job_logs_every_step_without_gaps_and_its_artifact_becomes_ready(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeExecutor(succeed)) as server:
        lm = await add_language_model(server)
        launched = await activation_runs.capture(server, capture_request(lm.id))
        job = await ended(server, launched.job.id)
        events = [event async for event in jobs.watch(server, job.id, 0)]
        async with server.database.read() as session:
            run = await session.get_one(ActivationRun, job.result_id)
    assert job.status == JobStatus.SUCCEEDED and job.fraction == 1.0 and job.attempt == 1
    assert [event.sequence for event in events] == list(range(1, job.last_sequence + 1))
    assert [e.payload["status"] for e in events if e.type == JobEventType.STATUS] == [
        "QUEUED",
        "RUNNING",
        "SUCCEEDED",
    ]
    assert [e.payload["message"] for e in events if e.type == JobEventType.LOG] == ["begin"]
    assert run.status == ArtifactStatus.READY and run.token_count == 5 and run.job_id == job.id
    assert run.layers == [{"name": "m_layers_1", "hidden_size": 8}]


async def test_an_event_that_its_handler_does_not_declare_fails_the_job(tmp_path: Path) -> None:
    def tell(task: Task, run: TaskRun) -> None:
        run.push(Log("begin"))
        run.push(TRAINING_CONFIG)
        run.finish(capture_result())

    async with serving(tmp_path, FakeExecutor(tell)) as server:
        lm = await add_language_model(server)
        job = await ended(server, (await activation_runs.capture(server, capture_request(lm.id))).job.id)
    assert (job.status, job.error) == (JobStatus.FAILED, supervisor.INTERNAL_FAILURE)


async def test_a_training_keeps_its_points_and_queues_the_index_when_it_has_succeeded(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeExecutor(succeed)) as server:
        run = await add_run(server, await add_language_model(server))
        job = await ended(server, (await saes.train(server, train_request(run.id))).job.id)
        async with server.database.read() as session:
            sae = await session.get_one(Sae, job.result_id)
            indexing = [j for j in await session.scalars(select(Job)) if j.kind == JobKind.INDEX_NEURONS]
        index_job = await ended(server, indexing[0].id)
        async with server.database.read() as session:
            index = await session.get_one(NeuronIndex, index_job.artifact_id)
    assert sae.status == ArtifactStatus.READY and sae.latent_count == 64
    assert sae.training_config is not None and sae.training_config["learning_rate"] == 0.001
    assert len(indexing) == 1 and indexing[0].result_id == sae.id
    assert index.status == ArtifactStatus.READY and index.dead_count == 3


@pytest.mark.parametrize(
    ("outcome", "job_status", "run_status", "sentence"),
    [
        (TaskFailure(TaskFailed(1, "FAILED", "No layer.", [], "")), "FAILED", "FAILED", "No layer."),
        (WorkerLost("The worker was killed."), "INTERRUPTED", "PARTIAL", "The worker was killed."),
    ],
)
async def test_a_task_that_ends_badly_says_why_and_the_next_job_runs(
    tmp_path: Path, outcome: WorkerLost, job_status: str, run_status: str, sentence: str
) -> None:
    executor = FakeExecutor(lambda task, run: run.finish(outcome))
    async with serving(tmp_path, executor) as server:
        lm = await add_language_model(server)
        job = await ended(server, (await activation_runs.capture(server, capture_request(lm.id))).job.id)
        async with server.database.read() as session:
            run = await session.get_one(ActivationRun, job.result_id)
        executor.script = succeed
        again = await jobs.retry(server, job.id)
        retried = await ended(server, again.job.id)
    assert (job.status, run.status, job.error) == (job_status, run_status, sentence)
    assert (retried.status, retried.attempt, retried.error) == (JobStatus.SUCCEEDED, 2, None)
    assert retried.id == job.id and retried.last_sequence > job.last_sequence


async def test_canceling_a_waiting_job_ends_it_at_once_and_a_running_one_when_its_task_stops(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, FakeExecutor()) as server:
        lm = await add_language_model(server)
        first = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        async for event in jobs.watch(server, first, 0):
            if event.payload.get("status") == "RUNNING":
                break
        second = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        assert (await jobs.cancel(server, second)).status == JobStatus.CANCELED
        await jobs.cancel(server, first)
        assert (await ended(server, first)).status == JobStatus.CANCELED
        with pytest.raises(Conflict, match="ended already"):
            await jobs.cancel(server, first)
        statuses = [
            e.payload["status"] async for e in jobs.watch(server, first, 0) if e.type == JobEventType.STATUS
        ]
    assert statuses == ["QUEUED", "RUNNING", "CANCELING", "CANCELED"]


async def test_the_same_key_gives_the_same_job_and_another_request_a_conflict(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeExecutor(succeed)) as server:
        lm = await add_language_model(server)
        first = await activation_runs.capture(server, capture_request(lm.id, key="a"))
        await ended(server, first.job.id)
        second = await activation_runs.capture(server, capture_request(lm.id, key="a"))
        with pytest.raises(Conflict) as conflict:
            await activation_runs.capture(server, capture_request(lm.id, key="a", text="other"))
        texts = list((tmp_path / "datasets").iterdir())
    assert (first.replayed, second.replayed) == (False, True)
    assert second.job.id == first.job.id
    assert conflict.value.code == "IDEMPOTENCY_KEY_MISMATCH"
    assert [path.name for path in texts] == [first.job.result_id]


async def test_a_cursor_gives_only_what_came_after_it(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeExecutor(succeed)) as server:
        lm = await add_language_model(server)
        job = await ended(server, (await activation_runs.capture(server, capture_request(lm.id))).job.id)
        everything = [event.sequence async for event in jobs.watch(server, job.id, 0)]
        for after in range(len(everything) + 2):
            rest = [event.sequence async for event in jobs.watch(server, job.id, after)]
            assert rest == everything[after:]
        with pytest.raises(NotFound):
            await anext(jobs.watch(server, "job_01ARZ3NDEKTSV4RRFFQ69G5FAV", 0))


async def test_watching_all_jobs_tells_of_each_change_of_status(tmp_path: Path) -> None:
    runs: asyncio.Queue[TaskRun] = asyncio.Queue()
    seen: dict[str, list[JobStatus]] = {}
    async with serving(tmp_path, FakeExecutor(lambda task, run: runs.put_nowait(run))) as server:
        lm = await add_language_model(server)
        first, second = [
            (await activation_runs.capture(server, capture_request(lm.id))).job.id for _ in range(2)
        ]
        running = await asyncio.wait_for(runs.get(), 10)  # The second waits in the queue meanwhile.
        async with asyncio.timeout(10):
            async for job in jobs.watch_all(server, [JobKind.CAPTURE_ACTIVATIONS]):
                statuses = seen.setdefault(job.id, [])
                if job.status not in statuses[-1:]:
                    statuses.append(job.status)
                if (job.id, job.status) == (second, JobStatus.QUEUED):
                    running.finish(capture_result())
                elif (job.id, job.status) == (second, JobStatus.RUNNING):
                    (await runs.get()).finish(capture_result())
                elif (job.id, job.status) == (second, JobStatus.SUCCEEDED):
                    break
    assert seen == {
        first: [JobStatus.RUNNING, JobStatus.SUCCEEDED],
        second: [JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.SUCCEEDED],
    }


async def test_a_job_that_ran_when_the_server_was_stopped_says_so_and_can_be_retried(tmp_path: Path) -> None:
    executor = FakeExecutor()
    async with serving(tmp_path, executor) as server:
        lm = await add_language_model(server)
        job_id = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        async for event in jobs.watch(server, job_id, 0):
            if event.payload.get("status") == "RUNNING":
                break
    async with serving(tmp_path, FakeExecutor(succeed)) as server:
        async with server.database.read() as session:
            job = await session.get_one(Job, job_id)
        assert (job.status, job.error) == (JobStatus.INTERRUPTED, STOPPED)
        await jobs.retry(server, job_id)
        assert (await ended(server, job_id)).status == JobStatus.SUCCEEDED


async def test_a_job_that_a_killed_server_left_running_is_interrupted_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, FakeExecutor(succeed)) as server:
        lm = await add_language_model(server)
        job = await ended(server, (await activation_runs.capture(server, capture_request(lm.id))).job.id)
        async with server.database.write() as session:
            (await session.get_one(Job, job.id)).status = JobStatus.RUNNING
        await reconcile(server.database, server.settings)
        async with server.database.read() as session:
            found = await session.get_one(Job, job.id)
            run = await session.get_one(ActivationRun, job.result_id)
        sequences = [event.sequence async for event in jobs.watch(server, job.id, 0)]
    assert (found.status, found.error) == (JobStatus.INTERRUPTED, INTERRUPTED)
    assert run.status == ArtifactStatus.PARTIAL
    assert sequences == list(range(1, found.last_sequence + 1))


async def test_a_lane_goes_on_after_the_database_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_AFTER_ERROR_SECONDS", 0.01)
    executor = FakeExecutor(succeed)
    async with serving(tmp_path, executor) as server:
        lm = await add_language_model(server)
        write, failures = server.database.write, 3

        def failing() -> AbstractAsyncContextManager[AsyncSession]:
            nonlocal failures
            if failures:
                failures -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
            return write()

        first = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        monkeypatch.setattr(server.database, "write", failing)
        broken = await ended(server, first)
        second = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        fine = await ended(server, second)
    assert (broken.status, broken.error) == (JobStatus.FAILED, FULL)
    assert fine.status == JobStatus.SUCCEEDED


def interrupt(*losses: WorkerLost) -> tuple[FakeExecutor, list[int]]:
    """Return an executor whose tasks lose their workers so often, and the attempts that it was given."""
    attempts, left = [], list(losses)

    def script(task: Task, run: TaskRun) -> None:
        assert isinstance(task, CaptureActivations)
        attempts.append(task.attempt)
        if left:
            run.finish(left.pop(0))
        else:
            succeed(task, run)

    return FakeExecutor(script), attempts


def statuses_of(events: list[JobEvent]) -> list[tuple[str, int]]:
    changes = [event.payload for event in events if event.type == JobEventType.STATUS]
    return [(change["status"], change["attempt"]) for change in changes]


async def test_a_server_set_to_resume_takes_a_lost_workers_job_up_again_and_no_watcher_leaves(
    tmp_path: Path,
) -> None:
    executor, attempts = interrupt(WorkerLost("gone"), WorkerLost("gone"))
    async with serving(tmp_path, executor, resume_jobs=True) as server:
        lm = await add_language_model(server)
        job_id = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        async with asyncio.timeout(10):
            events = [event async for event in jobs.watch(server, job_id, 0)]
    assert attempts == [1, 2, 3]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    interrupted = [[("QUEUED", n), ("RUNNING", n), ("INTERRUPTED", n)] for n in (1, 2)]
    assert statuses_of(events) == [
        *interrupted[0],
        *interrupted[1],
        ("QUEUED", 3),
        ("RUNNING", 3),
        ("SUCCEEDED", 3),
    ]


async def test_a_job_that_loses_every_worker_is_given_up_until_somebody_retries_it(tmp_path: Path) -> None:
    executor, attempts = interrupt(*[WorkerLost("gone")] * 5)
    async with serving(tmp_path, executor, resume_jobs=True) as server:
        lm = await add_language_model(server)
        job = await ended(server, (await activation_runs.capture(server, capture_request(lm.id))).job.id)
        assert (job.status, attempts) == (JobStatus.INTERRUPTED, [1, 2, 3, 4])
        await jobs.retry(server, job.id)
        assert (await ended(server, job.id)).status == JobStatus.SUCCEEDED
    assert attempts == [1, 2, 3, 4, 5, 6]


async def test_a_worker_that_the_system_ended_for_want_of_memory_fails_its_job(tmp_path: Path) -> None:
    executor, attempts = interrupt(WorkerOutOfMemory("No memory was left."))
    async with serving(tmp_path, executor, resume_jobs=True) as server:
        lm = await add_language_model(server)
        job = await ended(server, (await activation_runs.capture(server, capture_request(lm.id))).job.id)
    assert (job.status, job.error, attempts) == (JobStatus.FAILED, "No memory was left.", [1])


async def test_a_job_that_a_stop_interrupted_is_taken_up_again_before_those_that_waited(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, FakeExecutor(), resume_jobs=True) as server:
        lm = await add_language_model(server)
        first, second = [
            (await activation_runs.capture(server, capture_request(lm.id))).job.id for _ in range(2)
        ]
        async for event in jobs.watch(server, first, 0):
            if event.payload.get("status") == "RUNNING":
                break
    executor, attempts = interrupt()
    async with serving(tmp_path, executor, resume_jobs=True) as server:
        assert (await ended(server, second)).status == JobStatus.SUCCEEDED
        assert (await ended(server, first)).status == JobStatus.SUCCEEDED
    assert attempts == [2, 1]


async def test_a_job_that_a_killed_server_left_running_is_taken_up_again_where_so_set(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeExecutor()) as server:
        lm = await add_language_model(server)
        job = (await activation_runs.capture(server, capture_request(lm.id))).job
        async for event in jobs.watch(server, job.id, 0):
            if event.payload.get("status") == "RUNNING":
                break
        resuming = server.settings.model_copy(update={"resume_jobs": True})
        await reconcile(server.database, resuming)
        async with server.database.read() as session:
            found = await session.get_one(Job, job.id)
            run = await session.get_one(ActivationRun, job.result_id)
    assert (found.status, found.attempt) == (JobStatus.QUEUED, 2)
    assert run.status == ArtifactStatus.PENDING


async def test_a_worker_that_is_lost_while_its_job_is_canceled_leaves_it_canceled(tmp_path: Path) -> None:
    runs: list[TaskRun] = []
    async with serving(tmp_path, FakeExecutor(lambda _, run: runs.append(run)), resume_jobs=True) as server:
        lm = await add_language_model(server)
        job_id = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        async for event in jobs.watch(server, job_id, 0):
            if event.payload.get("status") == "RUNNING":
                break
        async with server.database.write() as session:  # What cancelJob does before the worker hears of it.
            (await session.get_one(Job, job_id)).status = JobStatus.CANCELING
        runs[0].finish(WorkerLost("gone"))
        job = await ended(server, job_id)
    assert (job.status, job.error, job.attempt) == (JobStatus.CANCELED, None, 1)


@pytest.mark.parametrize("canceled", [True, False])
async def test_a_task_that_stops_with_the_server_leaves_its_job_canceled_where_that_was_asked_for(
    tmp_path: Path, canceled: bool
) -> None:
    class Patient(FakeExecutor):
        """Tasks stop when the server does, not before."""

        async def cancel(self, run: TaskRun) -> None:
            run.cancel_requested = True

        async def close(self, grace_seconds: float) -> None:
            for run in self._runs:
                run.finish(TaskCanceled())

    async with serving(tmp_path, Patient()) as server:
        lm = await add_language_model(server)
        job_id = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        async for event in jobs.watch(server, job_id, 0):
            if event.payload.get("status") == "RUNNING":
                break
        if canceled:
            await jobs.cancel(server, job_id)
    async with serving(tmp_path) as server, server.database.read() as session:
        job = await session.get_one(Job, job_id)
    expected = (JobStatus.CANCELED, None) if canceled else (JobStatus.INTERRUPTED, STOPPED)
    assert (job.status, job.error) == expected


async def test_a_retried_job_comes_behind_those_that_wait_though_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(task: Task, run: TaskRun) -> None:
        if len(executor.tasks) == 1:
            run.finish(WorkerLost("gone"))

    executor = FakeExecutor(script)
    async with serving(tmp_path, executor) as server:
        lm = await add_language_model(server)

        async def launch() -> str:
            return str((await activation_runs.capture(server, capture_request(lm.id))).job.id)

        lost = await launch()
        await ended(server, lost)
        await launch()
        waiting = [await launch() for _ in range(2)]
        monkeypatch.setattr(queue, "now", lambda: datetime(2020, 1, 1, tzinfo=UTC))
        await jobs.retry(server, lost)
        async with server.database.read() as session:
            in_line = select(Job.id).where(Job.status == JobStatus.QUEUED).order_by(Job.queued_at)
            assert list(await session.scalars(in_line))[-3:] == [*waiting, lost]


async def test_a_manifest_that_cannot_be_written_does_not_keep_a_job_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    executor = FakeExecutor(lambda _, run: run.finish(TaskFailure(TaskFailed(1, "FAILED", "Full.", [], ""))))
    manifest = Manifest(
        2, "run", ManifestLanguageModel("", "", "", None, ""), [],
        ManifestDataset("", "", "", 0, None, 9, ""), 16, 2, "FLOAT32", [], 3, 5, 7, [], {}, "", False,
    )  # fmt: skip
    monkeypatch.setattr(activation_runs, "assemble", lambda _: manifest)
    monkeypatch.setattr(activation_runs, "write_manifest", forbidden)
    async with serving(tmp_path, executor) as server:
        lm = await add_language_model(server)
        job = await ended(server, (await activation_runs.capture(server, capture_request(lm.id))).job.id)
        async with server.database.read() as session:
            run = await session.get_one(ActivationRun, job.result_id)
    assert (job.status, job.error) == (JobStatus.FAILED, "Full.")
    assert (run.sample_count, run.token_count) == (3, 5)


def point_at(step: int) -> TrainingPointMessage:
    return TrainingPointMessage(step, 1, 100 * step, 0.5, 0.4, 0.9, 4.0, None, 0.001, 1000.0)


async def steps_kept(server: AppContext, sae_id: str) -> list[int]:
    async with server.database.read() as session:
        query = select(TrainingPointRow.step).where(TrainingPointRow.sae_id == sae_id)
        return list(await session.scalars(query.order_by(TrainingPointRow.step)))


async def until(server: AppContext, job_id: str, **payload: object) -> None:
    """Wait for an event that says this."""
    async with asyncio.timeout(10):
        async for event in jobs.watch(server, job_id, 0):
            if payload.items() <= event.payload.items():
                return


async def test_a_retried_training_keeps_its_history_until_the_worker_says_from_where_it_goes_on(
    tmp_path: Path,
) -> None:
    def begin(task: Task, run: TaskRun) -> None:
        run.push(TRAINING_CONFIG)
        for step in (1, 2, 3) if isinstance(task, TrainSae) and task.attempt == 1 else ():
            run.push(point_at(step))

    async with serving(tmp_path, FakeExecutor(begin)) as server:
        run = await add_run(server, await add_language_model(server))
        job = (await saes.train(server, train_request(run.id))).job
        await until(server, job.id, step=3)
        await jobs.cancel(server, job.id)
        await ended(server, job.id)
        await jobs.retry(server, job.id)
        await until(server, job.id, status="RUNNING", attempt=2)
        await jobs.cancel(server, job.id)
        assert (await ended(server, job.id)).status == JobStatus.CANCELED
        assert await steps_kept(server, job.result_id) == [1, 2, 3]


async def test_a_resumed_training_drops_points_beyond_its_snapshot_and_sends_those_nobody_had(
    tmp_path: Path,
) -> None:
    """The first attempt's worker went before point 3, which is in its snapshot, was written down."""

    def script(task: Task, task_run: TaskRun) -> None:
        assert isinstance(task, TrainSae)
        task_run.push(TRAINING_CONFIG)
        if task.attempt == 1:
            for step in (1, 2, 5):
                task_run.push(point_at(step))
            task_run.finish(WorkerLost("gone"))
        else:
            task_run.push(TrainingResumed(3, [point_at(1), point_at(2), point_at(3)]))
            task_run.push(point_at(4))
            task_run.finish(TrainResult(8, TRAINING_CONFIG, point_at(4)))

    async with serving(tmp_path, FakeExecutor(script)) as server:
        run = await add_run(server, await add_language_model(server))
        request = dataclasses.replace(train_request(run.id), index_neurons=False)
        job = (await saes.train(server, request)).job
        assert (await ended(server, job.id)).status == JobStatus.INTERRUPTED
        last = (await ended(server, job.id)).last_sequence
        await jobs.retry(server, job.id)
        async with asyncio.timeout(10):
            events = [event async for event in jobs.watch(server, job.id, last)]
        assert await steps_kept(server, job.result_id) == [1, 2, 3, 4]
    told = [(event.type, event.payload["step"]) for event in events if "step" in event.payload]
    assert told == [
        (JobEventType.TRAINING_RESUMED, 3),
        (JobEventType.TRAINING_POINT, 3),
        (JobEventType.TRAINING_POINT, 4),
    ]


async def test_a_stage_is_told_with_the_progress_and_left_by_what_is_counted_next(tmp_path: Path) -> None:
    def script(_: Task, run: TaskRun) -> None:
        for event in (Progress(1, 4, 2.0), Stage("looking", 1, 9), Stage("looking", 2, 9)):
            run.push(event)
        run.push(Log("between"))
        run.push(Progress(4, 4, 2.0))
        run.push(Stage("writing", 0, None))
        run.finish(capture_result())

    async with serving(tmp_path, FakeExecutor(script)) as server:
        lm = await add_language_model(server)
        job_id = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        job = await ended(server, job_id)
        events = [event async for event in jobs.watch(server, job_id, 0)]
    progress = [event.payload for event in events if event.type == JobEventType.PROGRESS]
    stages = [(one["completed"], one["eta_seconds"], one["stage"]) for one in progress]
    writing = {"name": "writing", "completed": 0, "total": None}
    assert stages[-2:] == [(4, None, writing), (4, 0.0, None)]
    assert (4, 0.0, None) in stages[:-2]
    assert (job.stage, job.fraction) == (None, 1.0)


async def test_a_clock_that_is_set_back_makes_no_negative_durations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, FakeExecutor()) as server:
        lm = await add_language_model(server)
        job_id = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        await until(server, job_id, status="RUNNING")
        yesterday = datetime.now(UTC) - timedelta(days=1)
        monkeypatch.setattr(supervisor, "now", lambda: yesterday)
        monkeypatch.setattr(transitions, "now", lambda: yesterday)
        executor = server.executor
        assert isinstance(executor, FakeExecutor)
        executor.push(Progress(1, 2), Progress(2, 2))
        executor.finish(capture_result())
        job = await ended(server, job_id)
        events = [event async for event in jobs.watch(server, job_id, 0)]
    assert job.started_at is not None and job.finished_at is not None
    assert timedelta() <= job.finished_at - job.started_at < timedelta(hours=1)
    assert sum(event.type == JobEventType.PROGRESS for event in events) >= 2


async def test_an_attempt_of_an_earlier_server_does_not_end_before_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, FakeExecutor()) as server:
        lm = await add_language_model(server)
        job_id = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        await until(server, job_id, status="RUNNING")
        monkeypatch.setattr(transitions, "now", lambda: datetime.now(UTC) - timedelta(days=1))
        await reconcile(server.database, server.settings)
        async with server.database.read() as session:
            job = await session.get_one(Job, job_id)
    assert (job.status, job.finished_at) == (JobStatus.INTERRUPTED, job.started_at)


async def begun(executor: FakeExecutor, n_tasks: int) -> None:
    """Wait until so many tasks have been handed to workers."""
    async with asyncio.timeout(20):
        while len(executor.tasks) < n_tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def statuses(server: AppContext, *ids: str) -> list[JobStatus]:
    async with server.database.read() as session:
        return [(await session.get_one(Job, id)).status for id in ids]


async def test_as_many_jobs_run_at_once_as_there_are_workers(tmp_path: Path) -> None:
    executor = FakeExecutor()
    async with serving(tmp_path, executor, job_workers=2) as server:
        run = await add_run(server, await add_language_model(server))
        launched = [(await saes.train(server, train_request(run.id))).job for _ in range(4)]
        ids = [job.id for job in launched]
        await begun(executor, 2)
        await asyncio.sleep(0.1)
        running, queued = JobStatus.RUNNING, JobStatus.QUEUED
        assert await statuses(server, *ids) == [running, running, queued, queued]
        await jobs.cancel(server, ids[1])
        await begun(executor, 3)
        assert await statuses(server, *ids) == [running, JobStatus.CANCELED, running, queued]
        await jobs.cancel(server, ids[0])
        await begun(executor, 4)
        trained = [task.sae_id for _, task in executor.tasks if isinstance(task, TrainSae)]
    assert set(trained[:2]) == {job.result_id for job in launched[:2]}
    assert trained[2:] == [job.result_id for job in launched[2:]]


async def test_jobs_of_one_sae_run_one_after_the_other_though_a_worker_is_free(tmp_path: Path) -> None:
    executor = FakeExecutor()
    async with serving(tmp_path, executor, job_workers=3) as server:
        run = await add_run(server, await add_language_model(server))
        sae, another = await add_sae(server, run), await add_sae(server, run)
        asked = [
            IndexRequest(one.id, None, n, None, None, None) for n, one in enumerate((sae, sae, another), 1)
        ]
        ids = [(await neuron_indexes.index(server, request)).job.id for request in asked]
        await begun(executor, 2)
        await asyncio.sleep(0.1)
        assert await statuses(server, *ids) == [JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.RUNNING]
        await jobs.cancel(server, ids[0])
        await begun(executor, 3)
        tasks = [task for _, task in executor.tasks]
    assert isinstance(tasks[2], IndexNeurons) and tasks[2].top_texts_per_neuron == 2


async def test_a_job_that_another_process_asks_to_stop_is_stopped(tmp_path: Path) -> None:
    executor = FakeExecutor()
    async with serving(tmp_path, executor) as server:
        lm = await add_language_model(server)
        job_id = (await activation_runs.capture(server, capture_request(lm.id))).job.id
        await begun(executor, 1)
        async with server.database.write() as session:
            job = await session.get_one(Job, job_id)
            await event_log.append_status(session, job, JobStatus.CANCELING)
        assert (await ended(server, job_id)).status == JobStatus.CANCELED


class PartsExecutor(FakeExecutor):
    """Plans and completes captures at once; their parts wait for the test."""

    def __init__(self) -> None:
        super().__init__(self._do)
        self.parts: dict[int, TaskRun] = {}

    def _do(self, task: Task, run: TaskRun) -> None:
        match task:
            case PlanCapture():
                run.push(Log("planned"))
                run.finish(Done())
            case CapturePart():
                self.parts[task.part] = run
            case CaptureActivations():
                run.finish(capture_result())

    @property
    def kinds(self) -> list[str]:
        return [type(task).__name__ for _, task in self.tasks]


async def capture_in_parts(server: AppContext, executor: PartsExecutor, n_begun: int) -> str:
    """Launch a capture in four parts, and wait until so many of them have begun; returns the job's ID."""
    request = dataclasses.replace(capture_request((await add_language_model(server)).id), parts=4)
    launched = await activation_runs.capture(server, request)
    await begun(executor, 1 + n_begun)
    return str(launched.job.id)


async def test_a_captures_parts_go_to_as_many_workers_as_are_free(tmp_path: Path) -> None:
    executor = PartsExecutor()
    async with serving(tmp_path, executor, job_workers=3) as server:
        job_id = await capture_in_parts(server, executor, 3)
        assert set(executor.parts) == {0, 1, 2}
        executor.parts[0].push(Progress(1, 10, 2.0))
        executor.parts[1].push(Progress(2, 10, 3.0))
        executor.parts[0].push(Progress(4, 10, 2.5))
        async with asyncio.timeout(20):
            async for _ in jobs.watch(server, job_id, 0):
                async with server.database.read() as session:
                    job = await session.get_one(Job, job_id)
                if job.completed == 6:
                    break
        assert (job.total, job.rate_per_second) == (10, 5.5)

        # Who waits in the queue has the next turn that is free, before the last part.
        run = await add_run(server, await add_language_model(server, "another"))
        training = (await saes.train(server, train_request(run.id))).job.id
        await asyncio.sleep(0.1)
        assert await statuses(server, training) == [JobStatus.QUEUED]
        executor.parts[1].finish(Done())
        await begun(executor, 5)
        assert executor.kinds[4:] == ["TrainSae"]
        for part in (0, 2):
            executor.parts[part].finish(Done())
        await begun(executor, 6)
        assert executor.kinds[5:] == ["CapturePart"] and set(executor.parts) == {0, 1, 2, 3}
        executor.parts[3].finish(Done())
        assert (await ended(server, job_id)).status == JobStatus.SUCCEEDED
        events = [event async for event in jobs.watch(server, job_id, 0)]
        messages = [event.payload["message"] for event in events if event.type == JobEventType.LOG]
    assert messages == ["planned"] and executor.kinds[-1] == "CaptureActivations"


async def test_one_worker_does_all_parts_one_after_the_other(tmp_path: Path) -> None:
    executor = PartsExecutor()
    async with serving(tmp_path, executor) as server:
        job_id = await capture_in_parts(server, executor, 1)
        for part in range(4):
            await begun(executor, 2 + part)
            await asyncio.sleep(0.05)
            assert set(executor.parts) == {*range(part + 1)}
            executor.parts[part].finish(Done())
        assert (await ended(server, job_id)).status == JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (None, JobStatus.CANCELED, None),
        (TaskFailure(TaskFailed(1, "FAILED", "It broke.", [], "")), JobStatus.FAILED, "It broke."),
        (WorkerLost("The worker went."), JobStatus.INTERRUPTED, "The worker went."),
    ],
)
async def test_a_capture_whose_part_ends_badly_stops_the_others_and_frees_their_workers(
    tmp_path: Path, outcome: TaskFailure | WorkerLost | None, status: JobStatus, error: str | None
) -> None:
    executor = PartsExecutor()
    async with serving(tmp_path, executor, job_workers=3) as server:
        job_id = await capture_in_parts(server, executor, 3)
        if outcome is None:
            await jobs.cancel(server, job_id)
        else:
            executor.parts[1].finish(outcome)
        job = await ended(server, job_id)
        assert (job.status, job.error) == (status, error)
        for part in executor.parts.values():
            assert part.cancel_requested or part is executor.parts[1]
            await part.ended()
        assert executor.kinds[-1] == "CapturePart"
        run = await add_run(server, await add_language_model(server, "another"))
        for _ in range(3):
            await saes.train(server, train_request(run.id))
        await begun(executor, 7)
    assert executor.kinds[4:] == ["TrainSae"] * 3
