"""Memory and disk that run out: the job says so, and the next one runs."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gql_server.artifacts.disk import FULL
from gql_server.compute.worker.failures import OUT_OF_MEMORY
from tests.e2e.client import Api, api, load_model
from tests.e2e.test_cancel import built_in, launch, result, retried, training
from tests.support.server_process import server_process

DISK_BYTES = 24_000_000
LOOKS_AT_FULL_DISK = 300
"""Queries that are answered meanwhile."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of a few megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


async def failed(client: Api, mutation: str, arguments: dict[str, Any]) -> tuple[str, str]:
    """Launch a job that must fail; returns its error and its ID."""
    job = await launch(client, mutation, arguments)
    events = await client.follow(job)
    assert events[-1]["status"] == "FAILED", events[-1]
    return events[-1]["error"], job


async def test_a_task_that_wants_more_memory_than_a_worker_may_have_fails_and_the_next_runs(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "WORKER_MEMORY_BYTES": "2500000000"}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            run, _ = await client.run_job("captureActivations", **built_in(language_model, 100))
            worker = server.worker("jobs")
            input = {"activationRunId": run, "latentCount": 1_000_000, "k": 8, "batchSize": 1024}
            error, _ = await failed(client, "trainSae", {"input": ("TrainSaeInput!", input)})
            assert error == OUT_OF_MEMORY
            await client.run_job("trainSae", **training(run, 1))
            assert server.worker("jobs") == worker


async def test_a_job_that_fills_the_disk_fails_and_the_next_runs(
    tiny_model_dir: Path, small_disk: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "MIN_FREE_BYTES": "4000000"}
    with server_process(small_disk, **settings) as server:
        async with api(server.url) as client:
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            small, _ = await client.run_job("captureActivations", **built_in(language_model, 50))
            # The launch still finds room enough; what fills the disk comes after it.
            job = await launch(client, "captureActivations", built_in(language_model, 900, batch_size=4))
            ballast = fill(small_disk, but=7_000_000)
            events = await client.follow(job)
            assert (events[-1]["status"], events[-1]["error"]) == ("FAILED", FULL)
            run = await result(client, job, "... on ActivationRun { status batchCount }")
            assert run["status"] == "FAILED" and run["batchCount"] > 0
            input = {"activationRunId": small, "latentCount": 30_000, "k": 8, "batchSize": 16}
            refused = await client.do("trainSae", "__typename", input=("TrainSaeInput!", input))
            assert refused["__typename"] == "InvalidInput" and "there is room for" in refused["message"]
            ballast.unlink()
            await client.run_job("trainSae", **training(small, 1))
            assert "Going on where an earlier attempt ended" in " ".join(await retried(client, job))


async def test_a_disk_without_a_byte_left_stops_nothing_but_the_job(
    tiny_model_dir: Path, small_disk: Path
) -> None:
    """Not even the database can be written: reading goes on, and the job's end is told when there is room."""
    settings = {"MODEL_DIRS": str(tiny_model_dir), "MIN_FREE_BYTES": "0"}
    with server_process(small_disk, **settings) as server:
        async with api(server.url) as client:
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            job = await launch(client, "captureActivations", built_in(language_model, 900, batch_size=4))
            ballast = fill(small_disk, but=2_000_000)
            looks = 0
            while looks < LOOKS_AT_FULL_DISK:
                found = await client.ask("query($id: ID!) { job(id: $id) { status } }", id=job)
                assert found["job"]["status"] in ("QUEUED", "RUNNING", "FAILED")
                looks += shutil.disk_usage(small_disk).free < 100_000
            ballast.unlink()
            events = await client.follow(job)
            assert (events[-1]["status"], events[-1]["error"]) == ("FAILED", FULL)
            await client.run_job("captureActivations", **built_in(language_model, 20))


def fill(disk: Path, but: int) -> Path:
    """Write a file that leaves so many bytes free."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - but)))
    return ballast


async def test_a_limit_on_the_artifacts_bytes_refuses_what_will_not_fit(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "MAX_ARTIFACT_BYTES": "8000000"}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            everything = built_in(language_model, None)
            refused = await client.do(
                "captureActivations", "... on InvalidInput { fields { path } }", **everything
            )
            assert refused["fields"] == [{"path": ["dataset"]}]
            assert not any((tmp_path / "datasets").glob("*"))
            await client.run_job("captureActivations", **built_in(language_model, 50))
