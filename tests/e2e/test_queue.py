"""A hundred jobs queued at once, beside loads and generations in the other lane."""

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Api, api, load_model
from tests.e2e.test_cancel import built_in, launch
from tests.support.server_process import server_process

JOBS = 100
NEWEST = """{ jobs(first: 100, kind: [CAPTURE_ACTIVATIONS, TRAIN_SAE]) {
  nodes { id status startedAt finishedAt } } }"""


@pytest.mark.timeout(600)
async def test_a_hundred_jobs_run_in_order_one_at_a_time_while_the_other_lane_answers(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "MAX_QUEUED_JOBS": str(JOBS)}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            run, _ = await client.run_job("captureActivations", **built_in(language_model, 40))
            sae, _ = await client.run_job("trainSae", **training(run))
            # This one runs while the others are queued.
            first = await launch(client, "captureActivations", built_in(language_model, None, batch_size=1))
            await begun(client, first)
            wanted = random.Random(0).choices(["captureActivations", "trainSae"], k=JOBS)
            inputs = {
                "captureActivations": built_in(language_model, 20),
                "trainSae": training(run),
            }
            jobs = [await launch(client, mutation, inputs[mutation]) for mutation in wanted]
            await check_positions(client, jobs)
            for mutation, arguments in inputs.items():
                full = await client.do(mutation, "... on QueueFull { retryAfterSeconds }", **arguments)
                assert full["__typename"] == "QueueFull"
                assert 1 <= full["retryAfterSeconds"] <= 120
            print(f"the one above the limit: retry after {full['retryAfterSeconds']} s")
            await client.do("cancelJob", "... on JobCancelRequested { job { id } }", id=("ID!", first))
            answers = asyncio.ensure_future(use_the_other_lane(client, language_model, sae, jobs[-1]))
            for job in jobs:
                assert (await client.follow(job))[-1]["status"] == "SUCCEEDED"
            print(f"{await answers} loads and generations meanwhile")
            ended = (await client.ask(NEWEST))["jobs"]["nodes"]
    in_order = sorted(ended, key=lambda job: str(job["startedAt"]))
    assert [job["id"] for job in in_order] == jobs
    for one, next in itertools.pairwise(in_order):
        assert one["finishedAt"] <= next["startedAt"]


def training(run: str) -> dict[str, Any]:
    given = {"activationRunId": run, "latentCount": 64, "k": 4, "batchSize": 64, "indexNeurons": False}
    return {"input": ("TrainSaeInput!", given)}


async def begun(client: Api, job: str) -> None:
    document = "subscription($id: ID!) { jobProgress(id: $id) { __typename } }"
    async for data in client.listen(document, id=job):
        if data["jobProgress"]["__typename"] == "JobProgressed":
            return


async def check_positions(client: Api, jobs: list[str]) -> None:
    document = "query($id: ID!) { job(id: $id) { queuePosition } }"
    for place in (0, 1, len(jobs) // 2, len(jobs) - 1):
        found = await client.ask(document, id=jobs[place])
        assert found["job"]["queuePosition"] == place


async def use_the_other_lane(client: Api, language_model: str, sae: str, last: str) -> int:
    """Load and generate until the last job has ended; returns how often. Each must succeed."""
    generation = {"prompts": ["The for statement"], "saeId": sae, "maxNewTokens": 4, "seed": 0}
    count = 0
    while True:
        await client.run_job("loadLanguageModel", id=("ID!", language_model))
        found = await client.do(
            "generate",
            "... on Generation { outputs { text } }",
            input=("GenerateInput!", {"languageModelId": language_model} | generation),
        )
        assert found["__typename"] == "Generation", found
        count += 2
        status = (await client.ask("query($id: ID!) { job(id: $id) { status } }", id=last))["job"]["status"]
        if status == "SUCCEEDED":
            return count
