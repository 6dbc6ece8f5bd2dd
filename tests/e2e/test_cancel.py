"""Jobs of each kind are canceled at any moment: what was finished stays, and the worker is free at once."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from gql_server.tour.steps import model_file
from tests.e2e.client import Api, api, load_model
from tests.support.server_process import RunningServer, server_process

BLOCK = "llamaforcausallm_model_layers_0"
STATUS = """subscription($id: ID!, $after: Int!) { jobProgress(id: $id, after: $after) {
  __typename sequence ... on JobStatusChanged { status attempt } ... on JobLogged { message } } }"""
TIMES = int(os.environ.get("GQL_SERVER_TEST_CANCELS", "2"))
"""How often each kind of job is canceled."""


def built_in(language_model: str, sample_limit: int | None, batch_size: int = 16) -> dict[str, Any]:
    given = {
        "languageModelId": language_model,
        "layers": [BLOCK],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "batchSize": batch_size,
        "maxLength": 64,
    }
    return {
        "input": ("CaptureActivationsInput!", given | ({"sampleLimit": sample_limit} if sample_limit else {}))
    }


def training(run: str, epochs: int) -> dict[str, Any]:
    given = {"activationRunId": run, "latentCount": 2048, "k": 8, "epochs": epochs, "batchSize": 256}
    return {"input": ("TrainSaeInput!", given | {"indexNeurons": False})}


async def launch(client: Api, mutation: str, arguments: dict[str, Any]) -> str:
    launched = await client.do(mutation, "... on JobLaunched { job { id } }", **arguments)
    assert launched["__typename"] == "JobLaunched", launched
    return str(launched["job"]["id"])


async def cancel(client: Api, job: str, progress_events: int) -> float:
    """Cancel a job after so many of its progress events; returns the seconds that it took to end."""
    asked, seen, statuses = 0.0, 0, []
    async for data in client.listen(STATUS, id=job, after=0):
        event = data["jobProgress"]
        statuses += [event["status"]] if "status" in event else []
        seen += event["__typename"] == "JobProgressed"
        if not asked and "RUNNING" in statuses and seen >= progress_events:
            asked = time.monotonic()
            await client.do("cancelJob", "... on JobCancelRequested { job { status } }", id=("ID!", job))
    assert statuses == ["QUEUED", "RUNNING", "CANCELING", "CANCELED"]
    return time.monotonic() - asked


async def canceled_at_random(client: Api, mutation: str, arguments: dict[str, Any], most: int) -> list[str]:
    """Cancel jobs of a kind at their start and at random later moments; returns their IDs."""
    drawn = random.Random(0)
    moments = [0, *(drawn.randint(1, most) for _ in range(TIMES - 1))]
    jobs, seconds = [], []
    for moment in moments:
        jobs.append(await launch(client, mutation, arguments))
        seconds.append(await cancel(client, jobs[-1], moment))
    print(f"{mutation}: canceled after {moments} progress events, ended {max(seconds):.3f} s later at most")
    return jobs


async def retried(client: Api, job: str) -> list[str]:
    """Retry a job, which must succeed; returns the sentences of its second attempt."""
    last = (await client.ask("query($id: ID!) { job(id: $id) { lastSequence } }", id=job))["job"][
        "lastSequence"
    ]
    again = await client.do("retryJob", "... on JobLaunched { job { attempt } }", id=("ID!", job))
    assert again["job"]["attempt"] == 2
    events = [data["jobProgress"] async for data in client.listen(STATUS, id=job, after=last)]
    assert events[-1]["status"] == "SUCCEEDED" and events[-1]["attempt"] == 2
    return [event["message"] for event in events if "message" in event]


async def result(client: Api, job: str, selection: str) -> dict[str, Any]:
    document = f"query($id: ID!) {{ job(id: $id) {{ result {{ {selection} }} }} }}"
    found: dict[str, Any] = (await client.ask(document, id=job))["job"]["result"]
    return found


@pytest.mark.timeout(300 + 20 * TIMES)
async def test_jobs_are_canceled_in_every_phase_and_their_worker_takes_the_next(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "PROGRESS_INTERVAL_SECONDS": "0.01"}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            run, _ = await client.run_job("captureActivations", **built_in(language_model, 600))
            worker = server.worker("jobs")
            captures = await canceled_at_random(
                client, "captureActivations", built_in(language_model, None, batch_size=1), 40
            )
            await check_capture(client, server, captures[-1])
            trainings = await canceled_at_random(client, "trainSae", training(run, 200), 40)
            sae, _ = await client.run_job("trainSae", **training(run, 1))
            arguments = {"input": ("IndexNeuronsInput!", {"saeId": sae, "topTextsPerNeuron": 100})}
            indexes = await canceled_at_random(client, "indexNeurons", arguments, 3)
            assert server.worker("jobs") == worker, "a worker that reacts is not to be killed"
            assert any("from the snapshot" in said for said in await shortened(client, server, trainings[-1]))
            assert any("begins anew" in said for said in await retried(client, indexes[-1]))


async def check_capture(client: Api, server: RunningServer, job: str) -> None:
    """What a canceled capture has stored is told, and can be trained on."""
    counts = "... on ActivationRun { id status sampleCount batchCount tokenCount byteSize manifestPath }"
    run = await result(client, job, counts)
    assert run["status"] == "PARTIAL" and run["batchCount"] == run["sampleCount"] > 0
    manifest = json.loads((server.artifact_dir / run["manifestPath"]).read_text())
    assert not manifest["complete"] and len(manifest["batches"]) == run["batchCount"]
    stored = list((server.artifact_dir / run["manifestPath"]).parent.glob("batch_*"))
    assert len(stored) == run["batchCount"]
    assert int(run["tokenCount"]) == sum(batch["token_count"] for batch in manifest["batches"])
    input = {"activationRunId": run["id"], "latentCount": 64, "k": 4, "batchSize": 16}
    sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", input))
    document = "query($id: ID!) { sae(id: $id) { neuronIndex { status tokenCount } } }"
    async for data in client.listen("subscription { jobs(kind: [INDEX_NEURONS]) { status } }"):
        if data["jobs"]["status"] == "SUCCEEDED":
            break
    index = (await client.ask(document, id=sae))["sae"]["neuronIndex"]
    assert index["status"] == "READY" and index["tokenCount"] == run["tokenCount"]


async def shortened(client: Api, server: RunningServer, job: str) -> list[str]:
    """Retry a long training and cancel it once it has said where it goes on; returns what it said."""
    await client.do("retryJob", "... on JobLaunched { job { attempt } }", id=("ID!", job))
    said = []
    async for data in client.listen(STATUS, id=job, after=0):
        event = data["jobProgress"]
        said += [event["message"]] if "message" in event else []
        if "Going on" in (said or [""])[-1]:
            await client.do("cancelJob", "... on JobCancelRequested { job { status } }", id=("ID!", job))
    return said


async def test_a_canceled_load_ends_its_worker_and_the_next_one_loads(tmp_path: Path) -> None:
    model = model_file()
    with server_process(tmp_path, MODEL_DIRS=str(model.parent)) as server:
        async with api(server.url) as client:
            added = await client.do(
                "addLanguageModel",
                "... on LanguageModelAdded { languageModel { id } }",
                input=("AddLanguageModelInput!", {"name": "SmolLM2", "source": {"path": model.name}}),
            )
            id = added["languageModel"]["id"]
            job = await launch(client, "loadLanguageModel", {"id": ("ID!", id)})
            print(f"loadLanguageModel: ended {await cancel(client, job, 1):.3f} s later")
            assert not any((tmp_path / "models").rglob("converted"))
            await client.run_job("loadLanguageModel", id=("ID!", id))
