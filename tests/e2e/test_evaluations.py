"""Evaluations over the public API with real workers: figures, progress, refusals, canceling, the next one."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gql_server.artifacts.datasets import built_in_python_reference
from tests.compute.evaluation_by_hand import FIGURES, ByHand, NumpySae
from tests.e2e.client import Api, api, load_model
from tests.e2e.test_cancel import cancel, launch, retried
from tests.support.server_process import RunningServer, server_process

BLOCK = "llamaforcausallm_model_layers_0"
OFFSET, LIMIT, MAX_LENGTH = 40, 12, 20
EVALUATION = """query($id: ID!) { sae(id: $id) { evaluation {
  dataset { kind description sampleCount } sampleOffset sampleCount maxLength tokenCount predictedTokenCount
  mse explainedVariance l0 deadFraction deadWindowTokens cosineSimilarity relativeReconstructionBias
  ceLossOriginal ceLossReconstructed ceLossZeroAblated ceLossRecovered klDivergenceReconstructed
  metricDefinitionsVersion evaluatedAt } metadataPath } }"""


def given(sae: str, **more: Any) -> dict[str, Any]:
    input = {"saeId": sae, "dataset": {"builtIn": "PYTHON_REFERENCE"}, "sampleOffset": OFFSET}
    return {"input": ("EvaluateSaeInput!", input | {"sampleLimit": LIMIT} | more)}


async def make_sae(client: Api, tiny_model_dir: Path) -> str:
    """Load, capture and train; returns the SAE's ID."""
    capture = {
        "languageModelId": await load_model(client, str(tiny_model_dir), "tiny"),
        "layers": [BLOCK],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": OFFSET,
        "maxLength": MAX_LENGTH,
    }
    run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", capture))
    train = {
        "activationRunId": run,
        "saeClass": "TopKSae",
        "latentCount": 64,
        "k": 4,
        "batchSize": 64,
        "indexNeurons": False,
    }
    sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", train))
    return sae


@pytest.fixture(scope="module")
async def sae(tiny_server: RunningServer, tiny_model_dir: Path) -> str:
    async with api(tiny_server.url) as client:
        return await make_sae(client, tiny_model_dir)


async def shown(client: Api, sae: str) -> Any:
    return (await client.ask(EVALUATION, id=sae))["sae"]["evaluation"]


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


async def test_the_figures_are_those_of_plain_transformers_and_numpy_on_the_held_out_texts(
    client: Api, sae: str, tiny_server: RunningServer, tiny_model_dir: Path
) -> None:
    assert await shown(client, sae) is None
    made, events = await client.run_job("evaluateSae", **given(sae))
    found = await shown(client, sae)
    directory = next((tiny_server.artifact_dir / "sae").glob(f"*/{sae}"))
    by_hand = ByHand(tiny_model_dir, "model.layers.0", NumpySae.of_checkpoint(directory / "sae.pt", k=4))
    texts = built_in_python_reference()
    figures = by_hand.figures(texts[OFFSET : OFFSET + LIMIT], MAX_LENGTH)
    assert made == sae
    assert {name: found[camel(name)] for name in figures} == pytest.approx(figures, rel=1e-5, abs=1e-5)
    assert {camel(name) for name in FIGURES} < set(found) and found["ceLossRecovered"] > 0
    assert found["dataset"] == {
        "kind": "BUILT_IN",
        "description": "PYTHON_REFERENCE",
        "sampleCount": len(texts),
    }
    assert (found["sampleOffset"], found["sampleCount"], found["maxLength"]) == (OFFSET, LIMIT, MAX_LENGTH)
    assert found["deadWindowTokens"] == found["tokenCount"]
    noted = json.loads((directory / "metadata.json").read_text())["evaluation"]
    assert noted["evaluated_at"] == found["evaluatedAt"] and noted["l0"] == found["l0"]
    assert not list((tiny_server.artifact_dir / "datasets").glob("job_*")), "its texts are of no more use"
    said = [event["message"] for event in events if event["__typename"] == "JobLogged"]
    assert f"cut at {MAX_LENGTH} tokens, as in the run" in said[0] and "recovered" in said[-1]
    progress = [event["progress"] for event in events if event["__typename"] == "JobProgressed"]
    assert progress[-1] == {"fraction": 1, "completed": LIMIT, "total": LIMIT, "unit": "TEXTS"}


@pytest.mark.parametrize(
    ("change", "typename"),
    [
        ({"sampleLimit": 0}, "InvalidInput"),
        ({"sampleOffset": 10**6}, "InvalidInput"),
        ({"dataset": {"texts": []}}, "InvalidInput"),
        ({"dataset": {"texts": ["", ""]}, "sampleOffset": 0}, "InvalidInput"),
        ({"saeId": "sae_01ARZ3NDEKTSV4RRFFQ69G5FAV"}, "NotFound"),
        ({"saeId": "nothing"}, "NotFound"),
    ],
)
async def test_what_cannot_be_evaluated_is_refused_at_once(
    client: Api, sae: str, change: dict[str, Any], typename: str
) -> None:
    refusal = await client.do("evaluateSae", "... on JobLaunched { job { id } }", **given(sae, **change))
    assert refusal["__typename"] == typename, refusal


async def test_the_next_evaluation_takes_the_place_of_the_one_before(client: Api, sae: str) -> None:
    await client.run_job("evaluateSae", **given(sae))
    before = await shown(client, sae)
    await client.run_job(
        "evaluateSae", **given(sae, dataset={"texts": ["A string.", "Another one."]}, sampleOffset=0)
    )
    after = await shown(client, sae)
    assert after["dataset"] == {"kind": "INLINE", "description": "2 texts", "sampleCount": 2}
    assert after["evaluatedAt"] > before["evaluatedAt"] and after["sampleCount"] == 2
    await client.run_job("evaluateSae", **given(sae))
    again = await shown(client, sae)
    assert {**again, "evaluatedAt": ""} == {**before, "evaluatedAt": ""}, "the same texts, the same figures"


@pytest.mark.timeout(300)
async def test_one_that_is_canceled_or_loses_its_worker_leaves_the_figures_and_begins_anew_when_retried(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "PROGRESS_INTERVAL_SECONDS": "0.01"}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            sae = await make_sae(client, tiny_model_dir)
            await client.run_job("evaluateSae", **given(sae))
            before = await shown(client, sae)
            everything = given(sae, sampleOffset=0, sampleLimit=2000)
            worker = server.worker("jobs")
            canceled = await launch(client, "evaluateSae", everything)
            await cancel(client, canceled, 2)
            assert server.worker("jobs") == worker, "a worker that reacts is not to be killed"
            assert await shown(client, sae) == before

            lost = await launch(client, "evaluateSae", everything)
            refused = await client.do("deleteSae", "... on Deleted { deletedId }", id=("ID!", sae))
            assert refused["__typename"] == "Conflict" and lost in refused["message"]
            await kill_when_it_gets_on(client, server, lost)
            assert await shown(client, sae) == before

            said = await retried(client, lost)
            assert said[0] == "An evaluation is made in one go, so it begins anew."
            assert (await shown(client, sae))["sampleCount"] > before["sampleCount"]
            again = await client.do("retryJob", "... on JobLaunched { job { id } }", id=("ID!", canceled))
            assert again["__typename"] == "Conflict" and "evaluateSae instead" in again["message"]
            assert not list((tmp_path / "datasets").glob("job_*"))
            deleted = await client.do("deleteSae", "... on Deleted { deletedId }", id=("ID!", sae))
            assert deleted["__typename"] == "Deleted"


async def kill_when_it_gets_on(client: Api, server: RunningServer, job: str) -> None:
    """Kill the worker of a job at its first progress, and wait for the job's end."""
    document = """subscription($id: ID!) { jobProgress(id: $id) {
      __typename ... on JobStatusChanged { status } } }"""
    statuses, worker = [], server.worker("jobs")
    async for data in client.listen(document, id=job):
        event = data["jobProgress"]
        statuses += [event["status"]] if "status" in event else []
        if event["__typename"] == "JobProgressed" and worker is not None:
            os.kill(worker, signal.SIGKILL)
            worker = None
    assert statuses[-1] == "INTERRUPTED"
