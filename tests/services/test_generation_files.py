"""The files of top texts that generations leave: not too large, not too many."""

import json
from pathlib import Path
from typing import Any

import pytest

from gql_server.errors import InvalidInput
from gql_server.jobs.executor import TaskRun
from gql_server.protocol.results import GenerateResult
from gql_server.protocol.tasks import Generate, Task
from gql_server.services import generation
from gql_server.services.app_context import AppContext
from gql_server.services.requests import GenerateRequest
from models import Sae
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, add_run, add_sae, serving


def write(task: Task, run: TaskRun) -> None:
    """Leave a file where a worker would."""
    assert isinstance(task, Generate) and task.top_texts_path is not None
    path = Path(task.top_texts_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"of {task.prompts[0]}")
    run.finish(GenerateResult(top_texts_written=True))


async def sae_of(server: AppContext) -> Sae:
    return await add_sae(server, await add_run(server, await add_language_model(server)))


def request(sae_id: str, prompts: list[str], **more: Any) -> GenerateRequest:
    given: dict[str, Any] = {
        "language_model_id": None,
        "sae_id": sae_id,
        "prompts": prompts,
        "chat": False,
        "max_new_tokens": 20,
        "temperature": 0.0,
        "top_p": None,
        "top_k": None,
        "repetition_penalty": None,
        "stop": None,
        "seed": None,
        "steering": None,
        "compare_to_baseline": False,
        "top_log_probabilities": 0,
        "top_neurons": 5,
        "write_top_texts": True,
    }
    return GenerateRequest(**given | more)


async def test_the_oldest_file_of_an_sae_makes_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "MAX_TOP_TEXTS_FILES", 3)
    async with serving(tmp_path, FakeExecutor(write)) as server:
        sae = await sae_of(server)
        index = tmp_path / sae.directory / "top_texts" / "index_01JD3Z.json"
        index.parent.mkdir(parents=True)
        index.write_text("an index's stays")
        for number in range(5):
            await generation.generate(server, request(sae.id, [f"prompt {number}"]))
        left = {path.read_text() for path in index.parent.iterdir()}
    assert left == {"an index's stays", "of prompt 2", "of prompt 3", "of prompt 4"}


async def test_many_large_files_of_an_sae_make_room_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, FakeExecutor(write)) as server:
        sae = await sae_of(server)
        each = generation.most_bytes_of_top_texts(request(sae.id, ["x" * 1_000]))
        monkeypatch.setattr(generation, "MAX_TOP_TEXTS_BYTES_OF_SAE", each + 2_100)
        for letter in "abcde":
            await generation.generate(server, request(sae.id, [letter * 1_000]))
        left = {path.read_text()[-1] for path in (tmp_path / sae.directory / "top_texts").iterdir()}
    # What is to be written counts as it may become, what has been written as it is.
    assert left == {"c", "d", "e"}


async def test_files_that_would_be_too_large_or_find_no_room_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeExecutor(write), max_artifact_bytes=10_000_000) as server:
        sae = await sae_of(server)
        with pytest.raises(InvalidInput, match="the limit is 64 MB"):
            await generation.generate(server, request(sae.id, ["x" * 10_000] * 60, top_neurons=100))
        with pytest.raises(InvalidInput, match="there is room for"):
            await generation.generate(server, request(sae.id, ["x" * 1_000] * 30, top_neurons=20))
        await generation.generate(server, request(sae.id, ["x" * 1_000] * 2, top_neurons=20))


def test_no_file_is_larger_than_is_reckoned() -> None:
    made = request("sae", ["é" * 50] * 4)
    text = {"text": "é" * 50 + "word " * 20, "score": 1.2345678901234567, "token": "é", "token_index": 12345}
    text["variant"] = "BASELINE"
    neurons = [{"neuron": 1_048_575, "texts": [text] * 4} for _ in range(4 * 5)]
    content = {"sae_id": "sae_01JD3Z0000000000000000000", "prompts": made.prompts, "neurons": neurons}
    written = json.dumps(content, ensure_ascii=False, indent=2).encode()
    assert len(written) <= generation.most_bytes_of_top_texts(made) < 4 * len(written)
