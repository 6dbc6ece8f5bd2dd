"""topNeurons of chats: the template, and what is refused."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gql_server.jobs.executor import TaskRun
from gql_server.model_files.chat_templates import CHAT_FILE
from gql_server.protocol.results import PromptNeurons, TopNeuronsResult
from gql_server.protocol.tasks import FindTopNeurons, Task
from gql_server.services import artifacts
from gql_server.services.app_context import AppContext
from models import Sae
from tests.api.asking import ask
from tests.support.artifact_files import write_tokenizer
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, add_run, add_sae, serving

QUERY = """query($id: ID!, $prompts: [String!]!, $chat: Boolean! = false) {
  found: topNeurons(saeId: $id, prompts: $prompts, chat: $chat) {
    ... on TopNeurons { prompts { prompt } } ... on InvalidInput { fields { path message } } } }"""
Asked = tuple[AppContext, FakeExecutor, Sae]


def script(task: Task, run: TaskRun) -> None:
    assert isinstance(task, FindTopNeurons)
    run.finish(TopNeuronsResult([PromptNeurons(prompt, [], [], []) for prompt in task.prompts]))


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    executor = FakeExecutor(script)
    async with serving(tmp_path, executor) as server:
        run = await add_run(server, await add_language_model(server, context_length=8))
        yield server, executor, await add_sae(server, run)


def write_template(server: AppContext, sae: Sae, template: str | None) -> None:
    copy = artifacts.copy_directory(server.settings, sae.language_model_id)
    copy.mkdir(parents=True, exist_ok=True)
    (copy / CHAT_FILE).write_text(json.dumps({"template": template, "tokens": {}}))


async def find(asked: Asked, prompts: list[str], chat: bool) -> dict[str, Any]:
    server, _, sae = asked
    found: dict[str, Any] = (await ask(server, QUERY, id=sae.id, prompts=prompts, chat=chat))["found"]
    return found


async def test_chats_go_through_the_template(asked: Asked) -> None:
    server, executor, sae = asked
    write_template(server, sae, "{% for message in messages %}<{{ message.content }}>{% endfor %}")
    for chat, rendered in ((False, None), (True, ["<a>", "<b>"])):
        found = await find(asked, ["a", "b"], chat)
        task = executor.tasks[-1][1]
        assert isinstance(task, FindTopNeurons) and (task.prompts, task.chats) == (["a", "b"], rendered)
        assert found["prompts"] == [{"prompt": "a"}, {"prompt": "b"}]


async def test_a_model_without_a_template_has_no_chats(asked: Asked) -> None:
    server, executor, sae = asked
    write_template(server, sae, None)
    found = await find(asked, ["a"], True)
    assert [field["path"] for field in found["fields"]] == [["chat"]] and executor.tasks == []


async def test_a_chat_counts_with_what_the_template_writes(asked: Asked, tiny_model_dir: Path) -> None:
    server, executor, sae = asked
    write_tokenizer(server, sae.language_model_id, tiny_model_dir)
    write_template(server, sae, "one two three four five six seven eight nine {{ messages[0].content }}")
    assert "prompts" in await find(asked, ["a"], False)
    found = await find(asked, ["a"], True)
    assert [field["path"] for field in found["fields"]] == [["prompts", "0"]]
    assert "takes 8" in found["fields"][0]["message"] and len(executor.tasks) == 1
