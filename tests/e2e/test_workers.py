"""Workers come and go; jobs and requests are told."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Api, api, load_model
from tests.support.server_process import server_process

STATUS = """subscription($id: ID!) { jobProgress(id: $id) {
  __typename ... on JobStatusChanged { status error } ... on JobProgressed { progress { completed } } } }"""
CANCEL = "... on JobCancelRequested { job { status } }"
BLOCK = "llamaforcausallm_model_layers_0"


def workers(pid: int) -> list[int]:
    """Return the worker processes of a server, which has others that read."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if b"compute.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


async def start_capture(client: Api, model: Path, **more: Any) -> str:
    """Launch a capture in many small batches; returns the job's ID."""
    given = {
        "languageModelId": await load_model(client, str(model), "tiny"),
        "layers": [BLOCK],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "batchSize": 1,
    }
    launched = await client.do(
        "captureActivations",
        "... on JobLaunched { job { id } }",
        input=("CaptureActivationsInput!", given | more),
    )
    return str(launched["job"]["id"])


async def test_a_killed_worker_interrupts_its_job_and_a_retry_goes_on(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with server_process(tmp_path, MODEL_DIRS=str(tiny_model_dir)) as server:
        async with api(server.url) as client:
            job = await start_capture(client, tiny_model_dir, sampleLimit=1500)
            events = []
            async for data in client.listen(STATUS, id=job):
                events.append(data["jobProgress"])
                if events[-1]["__typename"] == "JobProgressed" and len(workers(server.pid)) == 2:
                    for child in workers(server.pid):
                        os.kill(child, signal.SIGKILL)
            assert events[-1]["status"] == "INTERRUPTED"
            assert "killed" in events[-1]["error"]
            async with asyncio.timeout(30):  # The interactive worker's end is told on its own, perhaps later.
                while (await client.ask("{ languageModels { status } }"))["languageModels"] != [
                    {"status": "UNLOADED"}
                ]:
                    pass
            retried = await client.do("retryJob", "... on JobLaunched { job { attempt } }", id=("ID!", job))
            assert retried["job"]["attempt"] == 2
            assert (await client.follow(job))[-1]["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("sign", "sentence"),
    [
        (signal.SIGSEGV, "The worker ended by signal SIGSEGV."),
        (signal.SIGSTOP, "The worker gave no sign of life any more, and was ended."),
    ],
)
async def test_a_worker_that_crashes_or_hangs_interrupts_its_job_and_a_retry_goes_on(
    tiny_model_dir: Path, tmp_path: Path, sign: signal.Signals, sentence: str
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "WORKER_SILENCE_SECONDS": "4"}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            job = await start_capture(client, tiny_model_dir, sampleLimit=1500)
            hit = False
            async for data in client.listen(STATUS, id=job):
                event = data["jobProgress"]
                worker = server.worker("jobs")
                is_under_way = event.get("progress", {}).get("completed", 0) > 0
                if is_under_way and worker is not None and not hit:
                    os.kill(worker, sign)
                    hit = True
            assert (event["status"], event["error"]) == ("INTERRUPTED", sentence)
            await client.do("retryJob", "... on JobLaunched { job { attempt } }", id=("ID!", job))
            events = await client.follow(job)
            assert events[-1]["status"] == "SUCCEEDED"
            said = [event["message"] for event in events if "message" in event]
            assert any(message.startswith("Going on where an earlier attempt ended") for message in said)


async def test_a_running_capture_is_canceled(tiny_model_dir: Path, tmp_path: Path) -> None:
    with server_process(tmp_path, MODEL_DIRS=str(tiny_model_dir)) as server:
        async with api(server.url) as client:
            job = await start_capture(client, tiny_model_dir)
            statuses, asked = [], False
            async for data in client.listen(STATUS, id=job):
                event = data["jobProgress"]
                statuses += [event["status"]] if "status" in event else []
                if event.get("progress", {}).get("completed", 0) > 0 and not asked:
                    asked = True
                    await client.do("cancelJob", CANCEL, id=("ID!", job))
    assert statuses == ["QUEUED", "RUNNING", "CANCELING", "CANCELED"]


def test_only_one_server_owns_an_artifact_directory(tmp_path: Path) -> None:
    with server_process(tmp_path):
        command = [sys.executable, "-m", "gql_server", "serve", "--port", "0", "--artifacts", str(tmp_path)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"uses {tmp_path}" in second.stderr


async def test_workers_compute_where_and_how_the_settings_say(tiny_model_dir: Path, tmp_path: Path) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "WORKER_MATMUL_PRECISION": "high"}
    with server_process(tmp_path / "high", WORKER_DEVICE="cpu", **settings) as server:
        async with api(server.url) as client:
            job = await start_capture(client, tiny_model_dir, sampleLimit=30, batchSize=8)
            assert (await client.follow(job))[-1]["status"] == "SUCCEEDED"
            data = await client.ask(
                "{ activationRuns { nodes { id provenance { matmulPrecision } } } server { devices } }"
            )
            run = data["activationRuns"]["nodes"][0]
            assert run["provenance"]["matmulPrecision"] == "high" and data["server"]["devices"][0] == "cpu"
            train = {"activationRunId": run["id"], "latentCount": 64, "k": 4, "batchSize": 64}
            sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", train))
            document = "query($id: ID!) { sae(id: $id) { provenance { training { matmulPrecision } } } }"
            trained = (await client.ask(document, id=sae))["sae"]
            assert trained["provenance"]["training"]["matmulPrecision"] == "high"


async def test_a_device_that_is_not_there_is_named(tiny_model_dir: Path, tmp_path: Path) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "WORKER_DEVICE": "cuda:99"}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            added = await client.do(
                "addLanguageModel",
                "... on LanguageModelAdded { languageModel { id } }",
                input=("AddLanguageModelInput!", {"name": "tiny", "source": {"path": str(tiny_model_dir)}}),
            )
            launched = await client.do(
                "loadLanguageModel",
                "... on JobLaunched { job { id } }",
                id=("ID!", added["languageModel"]["id"]),
            )
            failed = (await client.follow(launched["job"]["id"]))[-1]
            assert failed["status"] == "FAILED"
            assert "WORKER_DEVICE is wrong. There is no device 'cuda:99' here" in failed["error"]


async def test_the_servers_status_tells_what_its_workers_hold_and_do(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    document = """subscription { serverStatus { artifactBytes workers {
      lanes isRunning device memoryBytes busyWith { id title } languageModels { name } } } }"""
    with server_process(tmp_path, MODEL_DIRS=str(tiny_model_dir)) as server:
        async with api(server.url) as client:
            job = await start_capture(client, tiny_model_dir)
            async with asyncio.timeout(120):
                async for data in client.listen(document):
                    by_lane = {worker["lanes"][0]: worker for worker in data["serverStatus"]["workers"]}
                    if by_lane["jobs"]["busyWith"] and by_lane["jobs"]["languageModels"]:
                        break
            await client.do("cancelJob", CANCEL, id=("ID!", job))
    assert set(by_lane) == {"interactive", "jobs"}
    assert [one["id"] for one in by_lane["jobs"]["busyWith"]] == [job]
    assert by_lane["interactive"]["busyWith"] == []
    for worker in by_lane.values():
        assert worker["isRunning"] and worker["device"] == "cpu"
        assert worker["languageModels"] == [{"name": "tiny"}]
        assert worker["memoryBytes"] > 100_000_000, "torch alone takes more"
