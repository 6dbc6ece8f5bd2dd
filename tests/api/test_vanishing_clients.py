"""Clients that go in the middle of a mutation: it comes to its end, and the database is free for others."""

import asyncio
import random
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from gql_server.api.context import Context
from gql_server.api.schema import schema
from gql_server.jobs.executor import TaskRun
from gql_server.services import artifacts
from gql_server.services.app_context import AppContext
from models import ActivationRun, Job, Removal
from models.enums import JobStatus
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, add_run, add_sae
from tests.support.waiting import until

CAPTURE = """mutation($input: CaptureActivationsInput!) { captureActivations(input: $input) {
  __typename ... on JobLaunched { job { id } } } }"""
CANCEL = "mutation($id: ID!) { cancelJob(id: $id) { __typename } }"
INPUT = {"layers": ["m_layers_1"], "maxLength": 16, "dataset": {"texts": ["one text"]}}
TRIES = 60


async def vanish(server: AppContext, document: str, turns: int, **variables: Any) -> None:
    """Send a mutation and go after so many turns of the loop, as a socket that closes does."""
    operation = asyncio.ensure_future(schema.execute(document, variables, Context(server)))
    for _ in range(turns):
        await asyncio.sleep(0)
    operation.cancel()
    await asyncio.gather(operation, return_exceptions=True)


async def free_to_write(server: AppContext) -> None:
    async with asyncio.timeout(5), server.database.write() as session:
        session.add(Removal(path="a note"))
    async with server.database.write() as session:
        await session.delete(await session.get_one(Removal, "a note"))


async def test_mutations_whose_clients_vanish_leave_nothing_half_done(server: AppContext) -> None:
    lm = await add_language_model(server)
    given = {"languageModelId": lm.id, "layers": ["m_layers_1"], "maxLength": 16} | {
        "dataset": {"texts": ["one text"]}
    }
    drawn = random.Random(0)
    for _ in range(TRIES):
        await vanish(server, CAPTURE, drawn.randrange(400), input=given)
    await free_to_write(server)
    await asyncio.gather(*_unfinished())
    async with server.database.read() as session:
        jobs = list(await session.scalars(select(Job)))
        runs = list(await session.scalars(select(ActivationRun)))
        notes = list(await session.scalars(select(Removal)))
    assert len(jobs) == len(runs) > TRIES // 2 and not notes
    directory = artifacts.dataset_directory(server.settings, "").parent / "datasets"
    assert {path.name for path in directory.iterdir()} == {run.id for run in runs}


async def test_cancelations_whose_clients_vanish_are_done(server: AppContext) -> None:
    lm = await add_language_model(server)
    given = {"languageModelId": lm.id, "layers": ["m_layers_1"], "maxLength": 16} | {
        "dataset": {"texts": ["one text"]}
    }
    for turns in range(0, 60, 4):
        launched = await schema.execute(CAPTURE, {"input": given}, Context(server))
        assert launched.data is not None
        id = launched.data["captureActivations"]["job"]["id"]
        await vanish(server, CANCEL, turns, id=id)
        await asyncio.gather(*_unfinished())
        async with asyncio.timeout(10):
            while True:
                async with server.database.read() as session:
                    status = (await session.get_one(Job, id)).status
                if status == JobStatus.CANCELED or turns == 0:
                    break
                assert status in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.CANCELING)
                await asyncio.sleep(0.01)
    await free_to_write(server)


def _unfinished() -> list[asyncio.Task[Any]]:
    """Return the mutations that go on although nobody waits for them."""
    from gql_server.api.common import MutationExtension

    return list(MutationExtension._running)


GENERATE = """mutation($input: GenerateInput!) { generate(input: $input) { __typename } }"""
TOP_NEURONS = """query($id: ID!) { topNeurons(saeId: $id, prompts: ["a"]) { __typename } }"""


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("what", ["generate", "topNeurons"])
async def test_what_computes_for_a_client_ends_when_it_goes(
    server: AppContext, address: tuple[str, int], what: str, accept: str
) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    asked = {
        "generate": {"query": GENERATE, "variables": {"input": {"saeId": sae.id, "prompts": ["a"]}}},
        "topNeurons": {"query": TOP_NEURONS, "variables": {"id": sae.id}},
    }
    executor = server.executor
    assert isinstance(executor, FakeExecutor)
    started, canceled = asyncio.Event(), asyncio.Event()
    executor.script = lambda task, run: started.set()
    cancel = executor.cancel

    async def noted(run: TaskRun) -> None:
        await cancel(run)
        canceled.set()

    executor.cancel = noted  # type: ignore[method-assign]
    async with httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}") as client:
        sending = asyncio.ensure_future(
            client.post("/graphql", json=asked[what], headers={"Accept": accept}, timeout=60)
        )
        await asyncio.wait_for(started.wait(), 30)
        assert server.in_use.requests == 1
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    await asyncio.wait_for(canceled.wait(), 30)
    await until(lambda: server.in_use.requests == 0)
