"""Interactive requests while a capture runs on the same model: neither sees the other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.client import Api, api, load_model
from tests.support.close_answers import assert_close
from tests.support.server_process import RunningServer, server_process

BLOCK = "llamaforcausallm_model_layers_0"
GENERATION = "... on Generation { outputs { text variant tokens { tokenId logProbability } } }"
NEURONS = "... on TopNeurons { prompts { neurons { neuron { index } activation tokenIndex } } }"
STATUS = "subscription($id: ID!) { jobProgress(id: $id) { ... on JobStatusChanged { status } } }"
REQUESTS = 20


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_twenty_requests_during_a_capture_disturb_nothing(
    tiny_model_dir: Path, tmp_path: Path, workers: str
) -> None:
    with server_process(tmp_path / "artifacts", MODEL_DIRS=str(tiny_model_dir), WORKERS=workers) as server:
        async with api(server.url) as client:
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            undisturbed = await capture(client, language_model, sample_limit=400)
            sae = await train(client, undisturbed)
            requests = [request(client, sae, number) for number in range(REQUESTS)]
            idle = [await ask for ask in requests]
            launched = await client.do(
                "captureActivations",
                "... on JobLaunched { job { id } }",
                **capture_input(language_model, 400),
            )
            job = launched["job"]["id"]
            busy, statuses = await ask_while_running(client, sae, job)
            assert (await client.follow(job))[-1]["status"] == "SUCCEEDED"
            result = await client.ask(
                "query($id: ID!) { job(id: $id) { result { ... on Node { id } } } }", id=job
            )
    assert statuses.count("RUNNING") >= REQUESTS // 2, "the capture was too short to be disturbed"
    assert_close(busy, idle)
    same_tensors(server, undisturbed, result["job"]["result"]["id"])


def capture_input(language_model: str, sample_limit: int) -> dict[str, tuple[str, Any]]:
    given = {
        "languageModelId": language_model,
        "layers": [BLOCK],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": sample_limit,
        "batchSize": 1,
        "maxLength": 64,
    }
    return {"input": ("CaptureActivationsInput!", given)}


async def capture(client: Api, language_model: str, sample_limit: int) -> str:
    return (await client.run_job("captureActivations", **capture_input(language_model, sample_limit)))[0]


async def train(client: Api, run: str) -> str:
    given = {
        "activationRunId": run,
        "saeClass": "TopKSae",
        "latentCount": 64,
        "k": 4,
        "batchSize": 128,
        "indexNeurons": False,
    }
    return (await client.run_job("trainSae", input=("TrainSaeInput!", given)))[0]


async def request(client: Api, sae: str, number: int) -> dict[str, Any]:
    prompt = "An identifier " + "and another " * (number % 5)
    if number % 2:
        return await client.get(
            "topNeurons", NEURONS, saeId=("ID!", sae), prompts=("[String!]!", [prompt, "short"])
        )
    edits = [{"neuronIndex": number, "multiplier": 2, "bias": 3}]
    given = {"saeId": sae, "prompts": [prompt], "maxNewTokens": 5, "steering": {"source": {"edits": edits}}}
    return await client.do(
        "generate", GENERATION, input=("GenerateInput!", given | {"compareToBaseline": True})
    )


async def ask_while_running(client: Api, sae: str, job: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Send the requests one after the other, noting after each whether the capture still runs."""
    document = "query($id: ID!) { job(id: $id) { status } }"
    async for event in client.listen(STATUS, id=job):
        if event["jobProgress"].get("status") == "RUNNING":
            break
    answers, statuses = [], []
    for number in range(REQUESTS):
        answers.append(await request(client, sae, number))
        statuses.append((await client.ask(document, id=job))["job"]["status"])
    return answers, statuses


def same_tensors(server: RunningServer, first: str, second: str) -> None:
    runs = server.artifact_dir / "store" / "runs"
    files = sorted(path.relative_to(runs / first) for path in (runs / first).rglob("*.safetensors"))
    assert files
    assert files == sorted(path.relative_to(runs / second) for path in (runs / second).rglob("*.safetensors"))
    for file in files:
        assert torch.equal(
            load_file(runs / first / file)["tensor"], load_file(runs / second / file)["tensor"]
        )
