"""What the log tells of jobs and trainings, from their launch to their end."""

from pathlib import Path
from typing import Any

from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.testing import capture_logs

from gql_server.jobs.executor import TaskFailure, TaskRun
from gql_server.protocol.events import TrainingPointMessage
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import TaskFailed
from gql_server.services import jobs, saes
from gql_server.services.app_context import AppContext
from models.enums import JobStatus
from tests.support.fake_executor import FakeExecutor, Script
from tests.support.job_logs import ended
from tests.support.requests import train_request
from tests.support.serving import add_language_model, add_run, serving
from tests.support.task_scripts import TRAINING_CONFIG, succeed

POINT = TrainingPointMessage(40, 2, 4000, 0.5, 0.4, 0.875, 4.0, 0.25, 0.001, 1000.0)


def fail_at_step_40(task: Task, run: TaskRun) -> None:
    run.push(TRAINING_CONFIG)
    run.push(POINT)
    run.finish(TaskFailure(TaskFailed(1, "FAILED", "The disk is full.", [], "")))


async def trained(server: AppContext) -> tuple[str, str, str]:
    """Train, under a request's reference; returns the IDs of the run, the SAE and the job that has ended."""
    run = await add_run(server, await add_language_model(server))
    with bound_contextvars(request="asked"):
        launched = await saes.train(server, train_request(run.id))
    job = await ended(server, launched.job.id)
    return run.id, job.result_id, job.id


async def logged(directory: Path, script: Script) -> tuple[list[Any], tuple[str, str, str]]:
    async with serving(directory, FakeExecutor(script)) as server:
        with capture_logs([merge_contextvars]) as logs:
            found = await trained(server)
            if script is fail_at_step_40:
                await jobs.retry(server, found[2])
                await ended(server, found[2])
    return logs, found


def events(logs: list[Any], job: str) -> list[str]:
    return [line["event"] for line in logs if line.get("job") == job]


async def test_a_job_is_told_from_its_launch_to_its_end_and_from_the_request_to_its_index(
    tmp_path: Path,
) -> None:
    logs, (_, sae, job) = await logged(tmp_path, succeed)
    expected = ["job queued", "training started", "job started", "training ended", "job ended"]
    assert events(logs, job) == expected
    queued = [line for line in logs if line["event"] == "job queued"]
    assert queued[0] | {"request": "asked", "job": job, "kind": "TRAIN_SAE", "sae": sae} == queued[0]
    assert [line["kind"] for line in queued] == ["TRAIN_SAE", "INDEX_NEURONS"]
    assert queued[1]["sae"] == sae and queued[1]["neuron_index"].startswith("index_")
    (end,) = [line for line in logs if line["event"] == "job ended" and line["job"] == job]
    assert (end["status"], end["attempt"], end["error"]) == ("SUCCEEDED", 1, None)
    assert end["seconds"] >= 0
    started = next(line for line in logs if line["event"] == "job started")
    assert "request" not in started


async def test_a_training_is_told_with_its_figures_however_it_ends(tmp_path: Path) -> None:
    logs, (run, sae, job) = await logged(tmp_path, fail_at_step_40)
    started, again = (line for line in logs if line["event"] == "training started")
    assert started.items() >= {"job": job, "sae": sae, "run": run, "latents": 64, "k": 4}.items()
    assert again["job"] == job
    first, second = (line for line in logs if line["event"] == "training ended")
    figures = {
        "status": JobStatus.FAILED,
        "latents": 64,
        "k": 4,
        "steps": 40,
        "tokens": 4000,
        "tokens_per_second": 1000.0,
        "explained_variance": 0.875,
        "l0": 4.0,
        "dead_fraction": 0.25,
    }
    assert first.items() >= figures.items() and second.items() >= figures.items()
    assert first["seconds"] >= 0
    attempts = [line["attempt"] for line in logs if line["event"] == "job ended"]
    assert attempts == [1, 2]


async def test_figures_that_are_no_numbers_are_none(tmp_path: Path) -> None:
    logs, _ = await logged(tmp_path, succeed)
    (end,) = [line for line in logs if line["event"] == "training ended"]
    assert (end["status"], end["explained_variance"]) == ("SUCCEEDED", None)
