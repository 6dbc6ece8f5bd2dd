"""Language models come from the Hub beside the lanes, and a Hub that hangs holds nobody up."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fuzz.making import Maker
from tests.support.fake_hub import REPOSITORY, FakeHub, fake_hub
from tests.support.server_process import server_process

ADD = """mutation ($input: AddLanguageModelInput!) { addLanguageModel(input: $input) {
  __typename ... on LanguageModelAdded { languageModel { id } } } }"""
LOAD = "mutation ($id: ID!) { loadLanguageModel(id: $id) { ... on JobLaunched { job { id } } } }"
STATUS = "query ($id: ID!) { languageModel(id: $id) { status statusMessage } }"
JOB = "query ($id: ID!) { job(id: $id) { status error progress { stage { name completed } } } }"
CANCEL = "mutation ($id: ID!) { cancelJob(id: $id) { __typename } }"
GENERATE = """mutation ($input: GenerateInput!) { generate(input: $input) { __typename
  ... on Generation { outputs { text } } ... on Conflict { message } } }"""
PATIENCE_SECONDS = 4


@pytest.fixture
def hub(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """Run a Hub, for servers that begin from now on, with a cache of their own."""
    with fake_hub(tiny_model_dir) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@asynccontextmanager
async def serving(tmp_path: Path, tiny_model_dir: Path) -> AsyncIterator[Maker]:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "DOWNLOAD_PATIENCE_SECONDS": str(PATIENCE_SECONDS)}
    with server_process(tmp_path / "artifacts", WARM_UP="false", **settings) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            yield Maker(client, str(tiny_model_dir))


async def add(maker: Maker, repository: str = REPOSITORY) -> str:
    given = {"name": f"of the Hub {repository}", "source": {"huggingFace": {"repository": repository}}}
    answer = await maker.ask(ADD, input=given)
    return str(answer["addLanguageModel"]["languageModel"]["id"])


async def load(maker: Maker, language_model: str) -> str:
    return str((await maker.ask(LOAD, id=language_model))["loadLanguageModel"]["job"]["id"])


async def until(maker: Maker, job: str, *statuses: str, stage: str | None = None) -> dict[str, Any]:
    """Return a job once it has one of the statuses, and is in the stage."""
    async with asyncio.timeout(90):
        while True:
            found: dict[str, Any] = (await maker.ask(JOB, id=job))["job"]
            now = (found["progress"]["stage"] or {}).get("name")
            if found["status"] in statuses and (stage is None or now == stage):
                return found
            await asyncio.sleep(0.1)


async def hanging_load(maker: Maker, hub: FakeHub) -> str:
    """Begin a load whose weights do not come; returns its job once it waits for them."""
    hub.answers.clear()
    job = await load(maker, await add(maker))
    await until(maker, job, "RUNNING", stage="downloading the language model")
    return job


async def texts(maker: Maker, language_model: str) -> dict[str, Any]:
    given = {"languageModelId": language_model, "prompts": ["True and"], "maxNewTokens": 5}
    answer: dict[str, Any] = (await maker.ask(GENERATE, input=given))["generate"]
    return answer


def partial_files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "hub").rglob("*.incomplete"))


async def test_a_language_model_of_the_hub_is_got_and_loaded(
    hub: FakeHub, tmp_path: Path, tiny_model_dir: Path
) -> None:
    async with serving(tmp_path, tiny_model_dir) as maker:
        language_model = await add(maker)
        assert (await until(maker, await load(maker, language_model), "SUCCEEDED", "FAILED"))["error"] is None
        here = await maker.language_model()
        assert await texts(maker, language_model) == await texts(maker, here)
        weights = [path for path in hub.asked if path.endswith(".safetensors")]
        assert await until(maker, await load(maker, language_model), "SUCCEEDED", "FAILED")
        assert [path for path in hub.asked if path.endswith(".safetensors")] == weights


async def test_a_capture_gets_the_model_that_it_needs_and_a_generation_says_what_does(
    hub: FakeHub, tmp_path: Path, tiny_model_dir: Path
) -> None:
    async with serving(tmp_path, tiny_model_dir) as maker:
        there = await add(maker)
        assert "call loadLanguageModel first" in (await texts(maker, there))["message"]
        assert hub.asked == []
        await until(maker, await load(maker, there), "SUCCEEDED")
    shutil.rmtree(tmp_path / "hub")
    async with serving(tmp_path, tiny_model_dir) as maker:
        assert "call loadLanguageModel first" in (await texts(maker, there))["message"]
        await maker.run(there)
        assert (await texts(maker, there))["__typename"] == "Generation"


async def test_a_hub_that_hangs_holds_up_neither_generations_nor_jobs(
    hub: FakeHub, tmp_path: Path, tiny_model_dir: Path
) -> None:
    hub.answers.clear()
    async with serving(tmp_path, tiny_model_dir) as maker:
        here, there = await maker.language_model(), await add(maker)
        await maker.load(here)
        hanging = await load(maker, there)
        await until(maker, hanging, "RUNNING", stage="downloading the language model")
        await maker.load(here)
        assert (await texts(maker, here))["__typename"] == "Generation"
        assert (await until(maker, hanging, "RUNNING", "FAILED"))["status"] == "RUNNING"
        failed = await until(maker, hanging, "FAILED")
        sentence = (
            f"The language model {REPOSITORY} could not be loaded: nothing has come for {PATIENCE_SECONDS} "
            "seconds. Try again later."
        )
        assert failed["error"] == sentence
        found = (await maker.ask(STATUS, id=there))["languageModel"]
        assert found == {"status": "FAILED", "statusMessage": sentence}
        hub.answers.set()
        await until(maker, await load(maker, there), "SUCCEEDED")
        assert (await texts(maker, there))["__typename"] == "Generation"


async def test_a_load_is_canceled_while_the_hub_hangs(
    hub: FakeHub, tmp_path: Path, tiny_model_dir: Path
) -> None:
    async with serving(tmp_path, tiny_model_dir) as maker:
        hanging = await hanging_load(maker, hub)
        await maker.ask(CANCEL, id=hanging)
        assert (await until(maker, hanging, "CANCELED", "FAILED"))["status"] == "CANCELED"
        async with asyncio.timeout(30):
            while partial_files(tmp_path):  # noqa: ASYNC110 (another process removes them)
                await asyncio.sleep(0.1)


async def test_a_server_that_stops_during_a_download_leaves_none_of_it(
    hub: FakeHub, tmp_path: Path, tiny_model_dir: Path
) -> None:
    async with serving(tmp_path, tiny_model_dir) as maker:
        hanging = await hanging_load(maker, hub)
    assert partial_files(tmp_path) == []
    async with serving(tmp_path, tiny_model_dir) as maker:
        assert (await until(maker, hanging, "INTERRUPTED"))["status"] == "INTERRUPTED"


async def test_a_repository_that_is_not_there_is_told(
    hub: FakeHub, tmp_path: Path, tiny_model_dir: Path
) -> None:
    async with serving(tmp_path, tiny_model_dir) as maker:
        there = await add(maker, "owner/other")
        failed = await until(maker, await load(maker, there), "FAILED")
        sentence = "The language model owner/other could not be loaded: The Hub has no such repository"
        assert failed["error"].startswith(sentence)
