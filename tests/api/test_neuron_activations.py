"""What the API makes of neurons' activations on prompts."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gql_server import ids
from gql_server.api.operations.execution import Execution
from gql_server.jobs.executor import TaskRun
from gql_server.model_files.chat_templates import CHAT_FILE
from gql_server.protocol.events import PromptToken
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import NeuronActivationsResult, PromptLatentRows
from gql_server.protocol.tasks import ReadNeuronActivations, Task
from gql_server.services import artifacts
from gql_server.services.app_context import AppContext
from models import Concept, Sae
from models.enums import ArtifactStatus, ConceptSource
from tests.api.asking import ask, counted_statements, execute
from tests.support.artifact_files import write_tokenizer
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, add_run, add_sae, serving

WORDS = ["<bos>", "the", " end"]
LATENTS = np.array([[0, 0.5, 1.25], [0, 0, 0]], "<f4")
QUERY = """query($id: ID!, $prompts: [String!]!, $neurons: [Int!]!, $chat: Boolean! = false,
                 $first: Int, $outliers: Float) {
  found: neuronActivations(saeId: $id, prompts: $prompts, neuronIndices: $neurons, chat: $chat,
                           excludeFirstPositions: $first, excludeOutliers: $outliers) {
    __typename
    ... on NeuronActivations { prompts { prompt tokens { index tokenId text label special }
                               rows { values max neuron { index concept { name } } } } }
    ... on InvalidInput { fields { path message } }
    ... on NotFound { message } ... on Conflict { message } } }"""
PAGE = """query($id: ID!, $prompts: [String!]!, $neurons: [Int!]!) {
  neuronActivations(saeId: $id, prompts: $prompts, neuronIndices: $neurons) {
    ... on NeuronActivations { prompts {
      tokens { text label special } rows { values max neuron { id } } } } } }"""


def script(task: Task, run: TaskRun) -> None:
    """Give the same latents for each prompt."""
    assert isinstance(task, ReadNeuronActivations)
    tokens = [PromptToken(n, 7 + n, word, n == 0, word) for n, word in enumerate(WORDS)]
    rows = np.resize(LATENTS, (len(task.neuron_indices), len(WORDS))).astype("<f4").tobytes()
    run.finish(NeuronActivationsResult([PromptLatentRows(prompt, tokens, rows) for prompt in task.prompts]))


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[tuple[AppContext, FakeExecutor, Sae]]:
    executor = FakeExecutor(script)
    async with serving(tmp_path, executor, max_prompts=3, max_text_characters=60) as server:
        config = {"exclude_first_positions": 2, "exclude_outliers": 7.5, "median_norm": 3.25}
        run = await add_run(server, await add_language_model(server))
        yield server, executor, await add_sae(server, run, training_config=config, latent_count=100)


Asked = tuple[AppContext, FakeExecutor, Sae]


async def test_a_row_of_numbers_for_each_neuron_and_prompt(asked: Asked) -> None:
    server, executor, sae = asked
    found = (await ask(server, QUERY, id=sae.id, prompts=["the end", "again"], neurons=[31, 4]))["found"]
    assert [one["prompt"] for one in found["prompts"]] == ["the end", "again"]
    for one in found["prompts"]:
        assert [token["text"] for token in one["tokens"]] == WORDS
        assert [token["special"] for token in one["tokens"]] == [True, False, False]
        assert [(row["neuron"]["index"], row["values"], row["max"]) for row in one["rows"]] == [
            (31, [0, 0.5, 1.25], 1.25),
            (4, [0, 0, 0], 0),
        ]
    ((lane, task),) = executor.tasks
    assert lane == "interactive" and isinstance(task, ReadNeuronActivations)
    assert (task.neuron_indices, task.chats, task.exclusions) == ([31, 4], None, Exclusions(2, 7.5, 3.25))


async def test_a_prompt_without_tokens_has_rows_without_numbers(asked: Asked) -> None:
    server, executor, sae = asked
    executor.script = lambda task, run: run.finish(
        NeuronActivationsResult([PromptLatentRows("\u200b", [], b"")])
    )
    found = (await ask(server, QUERY, id=sae.id, prompts=["\u200b"], neurons=[1, 2]))["found"]
    assert [(row["values"], row["max"]) for row in found["prompts"][0]["rows"]] == [([], 0)] * 2


async def test_numbers_are_not_completed_one_by_one(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    server, _, sae = asked
    complete, entries = Execution.complete_list_item_value, list[Any]()

    def counted(self: Execution, item: Any, *args: Any) -> bool:
        entries.append(item)
        return complete(self, item, *args)

    monkeypatch.setattr(Execution, "complete_list_item_value", counted)
    await ask(server, QUERY, id=sae.id, prompts=["a"], neurons=list(range(64)))
    assert len(entries) == 1 + len(WORDS) + 64


async def test_a_request_says_itself_what_is_left_out(asked: Asked) -> None:
    server, executor, sae = asked
    await ask(server, QUERY, id=sae.id, prompts=["a"], neurons=[0], first=1, outliers=0)
    task = executor.tasks[-1][1]
    assert isinstance(task, ReadNeuronActivations) and task.exclusions == Exclusions(1, None, 3.25)


async def test_chats_go_through_the_template(asked: Asked) -> None:
    server, executor, sae = asked
    refused = (await ask(server, QUERY, id=sae.id, prompts=["a"], neurons=[0], chat=False))["found"]
    assert refused["__typename"] == "NeuronActivations"
    copy = artifacts.copy_directory(server.settings, sae.language_model_id)
    copy.mkdir(parents=True)
    template = "{% for message in messages %}<{{ message.content }}>{% endfor %}"
    (copy / CHAT_FILE).write_text(json.dumps({"template": template, "tokens": {}}))
    found = (await ask(server, QUERY, id=sae.id, prompts=["a", "b"], neurons=[0], chat=True))["found"]
    task = executor.tasks[-1][1]
    assert isinstance(task, ReadNeuronActivations)
    assert (task.prompts, task.chats) == (["a", "b"], ["<a>", "<b>"])
    assert [one["prompt"] for one in found["prompts"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"prompts": []}, ["prompts"]),
        ({"prompts": ["a"] * 4}, ["prompts"]),
        ({"prompts": ["a", " "]}, ["prompts", "1"]),
        ({"prompts": ["a" * 61]}, ["prompts", "0"]),
        ({"neurons": []}, ["neuronIndices"]),
        ({"neurons": list(range(65))}, ["neuronIndices"]),
        ({"neurons": [0, 100]}, ["neuronIndices", "1"]),
        ({"neurons": [-1]}, ["neuronIndices", "0"]),
        ({"neurons": [3, 4, 3]}, ["neuronIndices", "2"]),
        ({"first": -1}, ["excludeFirstPositions"]),
        ({"outliers": 0.5}, ["excludeOutliers"]),
        ({"chat": True}, ["chat"]),
    ],
)
async def test_what_cannot_be_read_is_refused_by_its_name(
    asked: Asked, changes: dict[str, Any], path: list[str]
) -> None:
    server, executor, sae = asked
    copy = artifacts.copy_directory(server.settings, sae.language_model_id)
    copy.mkdir(parents=True)
    (copy / CHAT_FILE).write_text(json.dumps({"template": None, "tokens": {}}))
    variables = {"id": sae.id, "prompts": ["a"], "neurons": [0]} | changes
    found = (await ask(server, QUERY, **variables))["found"]
    assert [field["path"] for field in found["fields"]] == [path]
    assert executor.tasks == []


async def test_more_values_than_may_be_are_refused_before_anything_runs(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    executor = FakeExecutor(script)
    async with serving(tmp_path, executor) as server:
        lm = await add_language_model(server, context_length=None)
        sae = await add_sae(server, await add_run(server, lm), latent_count=64)
        write_tokenizer(server, lm.id, tiny_model_dir)
        # A token each word, and one before them.
        variables = {"id": sae.id, "neurons": list(range(64))}
        found = (await ask(server, QUERY, prompts=[" and" * 2047], **variables))["found"]
        assert found["__typename"] == "NeuronActivations"
        found = (await ask(server, QUERY, prompts=[" and" * 2048], **variables))["found"]
    assert found["fields"] == [
        {
            "path": ["neuronIndices"],
            "message": (
                "2,049 tokens x 64 neurons are more than 131,072; ask for fewer neurons, or for fewer or "
                "shorter prompts."
            ),
        }
    ]
    assert len(executor.tasks) == 1


async def test_an_sae_that_is_not_there_or_not_ready_is_refused(asked: Asked) -> None:
    server, executor, sae = asked
    unknown = (await ask(server, QUERY, id=ids.new(ids.SAE), prompts=["a"], neurons=[0]))["found"]
    assert unknown["__typename"] == "NotFound"
    async with server.database.write() as session:
        (await session.get_one(Sae, sae.id)).status = ArtifactStatus.BUILDING
    building = (await ask(server, QUERY, id=sae.id, prompts=["a"], neurons=[0]))["found"]
    assert building["__typename"] == "Conflict"
    assert executor.tasks == []


async def test_the_neurons_of_all_prompts_take_as_many_statements_as_one(asked: Asked) -> None:
    server, _, sae = asked
    async with server.database.write() as session:
        for neuron in range(64):
            session.add(
                Concept(
                    id=ids.new(ids.CONCEPT),
                    sae_id=sae.id,
                    neuron_index=neuron,
                    name=f"name {neuron}",
                    source=ConceptSource.MANUAL,
                )
            )
    counts = []
    for prompts, n_neurons in ((["a"], 1), (["a", "b", "c"], 64)):
        with counted_statements(server) as statements:
            found = await ask(server, QUERY, id=sae.id, prompts=prompts, neurons=list(range(n_neurons)))
        counts.append(len(statements))
        rows = found["found"]["prompts"][-1]["rows"]
        assert [row["neuron"]["concept"]["name"] for row in rows] == [f"name {n}" for n in range(n_neurons)]
    assert counts[0] == counts[1]


async def cost(server: AppContext, query: str, **variables: Any) -> int:
    result = await execute(server, query, **variables)
    assert result.extensions
    return int(result.extensions["cost"]["estimated"])


async def test_a_page_costs_less_than_half_of_what_a_query_may_and_tokens_count(asked: Asked) -> None:
    server, _, sae = asked
    neurons = list(range(64))
    page = await cost(server, PAGE, id=sae.id, prompts=["word and " * 800], neurons=neurons)
    n_tokens = 1 + 7200 // 3
    rows = 64 * (1 + 2 + 1 + n_tokens / 50)
    assert page == 2 + round(250 + 0.2 * (n_tokens - 64) + n_tokens * 4 + rows + 7.2)
    assert page < server.settings.max_query_cost / 2
    short = await cost(server, PAGE, id=sae.id, prompts=["a"], neurons=[0])
    assert short < 280
    several = await cost(server, PAGE, id=sae.id, prompts=["word and " * 200] * 4, neurons=neurons)
    assert several == pytest.approx(page + 3 * 250, rel=0.1)
