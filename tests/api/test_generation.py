"""A generation as its subscription tells of it."""

from pathlib import Path
from typing import Any

import pytest

from gql_server.jobs.executor import TaskFailure, TaskRun
from gql_server.protocol.events import (
    GeneratedToken,
    GenerationStarted,
    OutputFinished,
    PromptToken,
    TokenGenerated,
)
from gql_server.protocol.results import GenerateResult
from gql_server.protocol.tasks import Generate, Task
from gql_server.protocol.wire import TaskFailed
from models.enums import LanguageModelStatus
from tests.api.asking import follow
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, add_run, add_sae, serving

DOCUMENT = """subscription($input: GenerateInput!) { generation(input: $input) { __typename
  ... on GenerationQueued { position loading }
  ... on GenerationStarted { seed promptTokens { index tokenId text label special } }
  ... on GenerationToken { promptIndex variant token { text watched } }
  ... on GenerationFinished { output { text watched } }
  ... on Error { code } } }"""
TOKEN = GeneratedToken(0, 7, "x", -1.0, [], [], [0.5, 0.0])
PROMPT = [PromptToken(0, 1, "<bos>", True, "<bos>"), PromptToken(1, 5, "a", False)]
OUTPUT = OutputFinished(
    0, "a", "BASELINE", "x", [TOKEN], "LENGTH", [], 3.0, [[0.0, 0.0], [0.5, 0.0], [0.0, 2.0]]
)


def write(task: Task, run: TaskRun) -> None:
    """Do what a worker does that two others keep waiting."""
    assert isinstance(task, Generate)
    assert task.watch_neurons == [9, 4]
    run.waiting_before = 2
    for event in (GenerationStarted(task.seed, [PROMPT]), TokenGenerated(0, "BASELINE", TOKEN), OUTPUT):
        run.push(event)
    run.finish(GenerateResult(False))


def fail(task: Task, run: TaskRun) -> None:
    run.finish(TaskFailure(TaskFailed(1, "CONFLICT", "It cannot be loaded.", [], "")))


async def events(tmp_path: Path, script: Any, status: LanguageModelStatus) -> list[dict[str, Any]]:
    async with serving(tmp_path, FakeExecutor(script)) as server:
        language_model = await add_language_model(server, status=status)
        sae = await add_sae(server, await add_run(server, language_model))
        given = {"saeId": sae.id, "prompts": ["a"], "seed": 12, "watchNeurons": [9, 4]}
        results = await follow(server, DOCUMENT, input=given)
    assert all(result.errors is None for result in results)
    return [result.data["generation"] for result in results if result.data]


@pytest.mark.parametrize(
    ("status", "loading"), [(LanguageModelStatus.LOADED, False), (LanguageModelStatus.UNLOADED, True)]
)
async def test_it_is_queued_started_and_told_of_token_by_token(
    tmp_path: Path, status: LanguageModelStatus, loading: bool
) -> None:
    queued, started, token, finished = await events(tmp_path, write, status)
    assert queued == {"__typename": "GenerationQueued", "position": 2, "loading": loading}
    assert started["__typename"] == "GenerationStarted"
    assert (started["seed"], len(started["promptTokens"])) == (12, 1)
    assert [(one["text"], one["label"], one["special"]) for one in started["promptTokens"][0]] == [
        ("<bos>", "<bos>", True),
        ("a", "a", False),
    ]
    assert token["token"] == {"text": "x", "watched": [0.5, 0.0]}
    assert finished["output"]["watched"] == [[0.0, 0.0], [0.5, 0.0], [0.0, 2.0]]


async def test_a_refusal_by_the_worker_comes_after_the_queue(tmp_path: Path) -> None:
    found = await events(tmp_path, fail, LanguageModelStatus.UNLOADED)
    assert [event["__typename"] for event in found] == ["GenerationQueued", "Conflict"]
