"""Several job workers: jobs side by side that come to what they come to alone, each lost for itself."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.e2e.client import Api, api, load_model
from tests.support.server_process import server_process

BLOCK = "llamaforcausallm_model_layers_0"
JOBS = "query($ids: [ID!]!) { nodes(ids: $ids) { ... on Job { status error } } }"
WORKERS = "{ server { status { workers { lanes busyWith { id } } } } }"


async def train(client: Api, run: str, epochs: int, **more: Any) -> str:
    """Launch a training; returns the job's ID."""
    given = {"activationRunId": run, "latentCount": 256, "k": 8, "batchSize": 64, "indexNeurons": False}
    launched = await client.do(
        "trainSae",
        "... on JobLaunched { job { id } }",
        input=("TrainSaeInput!", given | {"epochs": epochs} | more),
    )
    return str(launched["job"]["id"])


async def statuses(client: Api, jobs: list[str]) -> list[str]:
    return [job["status"] for job in (await client.ask(JOBS, ids=jobs))["nodes"]]


async def reach(client: Api, jobs: list[str], wanted: list[str]) -> None:
    """Wait until jobs have these statuses."""
    async with asyncio.timeout(60):
        while await statuses(client, jobs) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def busy(client: Api, count: int) -> list[set[str]]:
    """Return the jobs of each job worker once as many of them as given have one."""
    async with asyncio.timeout(60):
        while True:
            found = (await client.ask(WORKERS))["server"]["status"]["workers"]
            having = [{job["id"] for job in one["busyWith"]} for one in found if one["lanes"] == ["jobs"]]
            if sum(map(bool, having)) == count:
                return having
            await asyncio.sleep(0.2)


async def a_run(client: Api, model: Path) -> str:
    return await capture(client, await load_model(client, str(model), "tiny"), sampleLimit=100)


async def capture(client: Api, language_model: str, **more: Any) -> str:
    """Capture a block; returns the run's ID."""
    run, _ = await client.run_job("captureActivations", **capture_input(language_model, **more))
    return run


def capture_input(language_model: str, **more: Any) -> dict[str, tuple[str, Any]]:
    given = {
        "languageModelId": language_model,
        "layers": [BLOCK],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
    }
    return {"input": ("CaptureActivationsInput!", given | more)}


async def checksums(client: Api, jobs: list[str]) -> list[str]:
    """Return the SHA-256 of the weights that trainings have made."""
    found = []
    for job in jobs:
        assert (await client.follow(job))[-1].get("status") == "SUCCEEDED"
        document = """query($id: ID!) { job(id: $id) { result {
          ... on Sae { provenance { checkpointSha256 } } } } }"""
        result = (await client.ask(document, id=job))["job"]["result"]
        found.append(result["provenance"]["checkpointSha256"])
    return found


async def test_trainings_on_one_run_go_side_by_side_and_are_lost_one_by_one(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with server_process(tmp_path, MODEL_DIRS=str(tiny_model_dir), JOB_WORKERS="2") as server:
        async with api(server.url) as client:
            run = await a_run(client, tiny_model_dir)
            first, second, third = jobs = [await train(client, run, 1000, seed=n) for n in range(3)]
            await reach(client, jobs, ["RUNNING", "RUNNING", "QUEUED"])
            having = await busy(client, 2)
            assert sorted(having, key=sorted) == sorted(({first}, {second}), key=sorted)

            os.kill(server.workers("jobs")[having.index({first})], signal.SIGKILL)
            await reach(client, jobs, ["INTERRUPTED", "RUNNING", "RUNNING"])
            await client.do("cancelJob", "__typename", id=("ID!", second))
            await reach(client, jobs, ["INTERRUPTED", "CANCELED", "RUNNING"])
            await client.do("retryJob", "__typename", id=("ID!", first))
            await reach(client, jobs, ["RUNNING", "CANCELED", "RUNNING"])
            for job in (first, third):
                await client.do("cancelJob", "__typename", id=("ID!", job))
            await reach(client, jobs, ["CANCELED"] * 3)


async def test_what_is_trained_side_by_side_is_what_is_trained_alone(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with server_process(tmp_path, MODEL_DIRS=str(tiny_model_dir), JOB_WORKERS="2") as server:
        async with api(server.url) as client:
            run = await a_run(client, tiny_model_dir)
            alone = await checksums(client, [await train(client, run, 4, seed=1)])
            together = await checksums(client, [await train(client, run, 4, seed=n) for n in (1, 1, 2)])
    assert together[:2] == 2 * alone and together[2] != alone[0]


async def test_a_capture_in_four_parts_is_the_same_run_and_goes_on_after_a_kill(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with server_process(tmp_path, MODEL_DIRS=str(tiny_model_dir), JOB_WORKERS="2") as server:
        async with api(server.url) as client:
            model = await load_model(client, str(tiny_model_dir), "tiny")
            single = await capture(client, model, batchSize=4)
            launched = await client.do(
                "captureActivations",
                "... on JobLaunched { job { id result { ... on Node { id } } } }",
                **capture_input(model, batchSize=4, parts=4),
            )
            job, divided = launched["job"]["id"], launched["job"]["result"]["id"]
            having = await busy(client, 2)
            assert having == [{job}, {job}]
            os.kill(server.workers("jobs")[1], signal.SIGKILL)
            assert (await client.follow(job))[-1]["status"] == "INTERRUPTED"
            await client.do("retryJob", "__typename", id=("ID!", job))
            events = await client.follow(job)
            assert events[-1]["status"] == "SUCCEEDED"
            again = [event.get("status") for event in events].index("INTERRUPTED")
            fractions = [event["progress"]["fraction"] for event in events[again:] if "progress" in event]
            assert len(fractions) > 3 and fractions == sorted(fractions)
    first, second = (stored(tmp_path / "store" / "runs" / run, run) for run in (single, divided))
    assert first == second


def stored(directory: Path, run: str) -> dict[str, bytes | dict[str, Any]]:
    """Return a run's tensors as they are, and its manifest without what every run has of its own."""
    found: dict[str, bytes | dict[str, Any]] = {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*.safetensors")
    }
    assert len(found) > 100
    manifest = json.loads((directory / "manifest.json").read_text().replace(run, "RUN"))
    return found | {"manifest": manifest | {"created_at": None}}
