"""What the API makes of a token's attribution to neurons."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gql_server import ids
from gql_server.jobs.executor import TaskFailure, TaskRun
from gql_server.model_files.chat_templates import CHAT_FILE
from gql_server.protocol.events import PromptToken, TokenProbability
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import AttributedNeuron, AttributionResult
from gql_server.protocol.tasks import AttributeNeurons, Task, TokenChoice
from gql_server.protocol.wire import TaskFailed
from gql_server.services import artifacts
from gql_server.services.app_context import AppContext
from models import Sae
from tests.api.asking import ask, execute
from tests.support.artifact_files import write_tokenizer
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, add_run, add_sae, serving

WORDS = ["<bos>", "the", " end"]
FOUND = AttributionResult(
    prompt="the end",
    tokens=[PromptToken(n, 7 + n, word, n == 0, word) for n, word in enumerate(WORDS)],
    target=TokenProbability(5, " is", -1.5),
    contrast=TokenProbability(9, " was", -2.25),
    neurons=[
        AttributedNeuron(31, -2.0, -1.75, 4.0, 2, np.array([0, 0.5, -2.5], "<f4").tobytes()),
        AttributedNeuron(4, 0.5, float("nan"), 1.0, 1, np.array([0, 0.5, 0], "<f4").tobytes()),
        AttributedNeuron(0, 0.25, None, 1.0, 1, np.array([0, 0.25, 0], "<f4").tobytes()),
    ],
    neurons_effect=-1.0,
    error_effect=0.125,
    bias_effect=3.0,
    left_out_effect=-8.0,
)
ARGUMENTS = "saeId: $id, prompt: $prompt, target: $target, contrast: $contrast"
QUERY = f"""query($id: ID!, $prompt: String! = "the end", $target: TokenInput, $contrast: TokenInput,
                  $n: Int! = 20, $ablate: Int! = 10, $chat: Boolean! = false,
                  $first: Int, $outliers: Float) {{
  found: attributeNeurons({ARGUMENTS}, first: $n, ablate: $ablate, chat: $chat,
                          excludeFirstPositions: $first, excludeOutliers: $outliers) {{
    __typename
    ... on Attribution {{
      prompt tokens {{ text special }} target {{ tokenId text logProbability }} contrast {{ tokenId }}
      difference
      neurons {{ neuron {{ index }} effect ablationEffect activation tokenIndex tokenEffects }}
      neuronsEffect errorEffect biasEffect leftOutEffect }}
    ... on InvalidInput {{ fields {{ path message }} }}
    ... on NotFound {{ message }} ... on Conflict {{ message }} }} }}"""


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[tuple[AppContext, FakeExecutor, Sae]]:
    executor = FakeExecutor(lambda task, run: run.finish(FOUND))
    async with serving(tmp_path, executor, max_text_characters=60) as server:
        config = {"exclude_first_positions": 2, "exclude_outliers": 7.5, "median_norm": 3.25}
        run = await add_run(server, await add_language_model(server))
        yield server, executor, await add_sae(server, run, training_config=config)


Asked = tuple[AppContext, FakeExecutor, Sae]


def task_of(executor: FakeExecutor) -> AttributeNeurons:
    lane, task = executor.tasks[-1]
    assert lane == "interactive" and isinstance(task, AttributeNeurons)
    return task


async def test_both_figures_of_each_neuron_are_beside_each_other(asked: Asked) -> None:
    server, executor, sae = asked
    variables = {"target": {"text": " is"}, "contrast": {"tokenId": 9}, "n": 3, "ablate": 2}
    found = (await ask(server, QUERY, id=sae.id, **variables))["found"]
    assert found["target"] == {"tokenId": 5, "text": " is", "logProbability": -1.5}
    assert (found["contrast"], found["difference"]) == ({"tokenId": 9}, 0.75)
    assert [token["text"] for token in found["tokens"]] == WORDS
    strong, broken, weak = found["neurons"]
    assert strong == {
        "neuron": {"index": 31},
        "effect": -2.0,
        "ablationEffect": -1.75,
        "activation": 4.0,
        "tokenIndex": 2,
        "tokenEffects": [0, 0.5, -2.5],
    }
    assert broken["ablationEffect"] is weak["ablationEffect"] is None
    sums = [found[f"{part}Effect"] for part in ("neurons", "error", "bias", "leftOut")]
    assert sums == [-1.0, 0.125, 3.0, -8.0]
    task = task_of(executor)
    assert (task.prompt, task.chat, task.first, task.ablate) == ("the end", None, 3, 2)
    assert (task.target, task.contrast) == (TokenChoice(None, " is"), TokenChoice(9, None))
    assert task.exclusions == Exclusions(2, 7.5, 3.25)


async def test_what_is_left_out_of_a_request_is_its_default(asked: Asked) -> None:
    server, executor, sae = asked
    executor.script = lambda task, run: run.finish(msgspec.structs.replace(FOUND, contrast=None))
    found = (await ask(server, QUERY, id=sae.id, first=0, outliers=0))["found"]
    assert found["contrast"] is found["difference"] is None
    task = task_of(executor)
    assert (task.target, task.contrast, task.first, task.ablate) == (None, None, 20, 10)
    assert task.exclusions == Exclusions(0, None, 3.25)


async def test_a_chat_goes_through_the_template(asked: Asked) -> None:
    server, executor, sae = asked
    copy = artifacts.copy_directory(server.settings, sae.language_model_id)
    copy.mkdir(parents=True)
    template = "{% for message in messages %}<{{ message.content }}>{% endfor %}"
    (copy / CHAT_FILE).write_text(json.dumps({"template": template, "tokens": {}}))
    await ask(server, QUERY, id=sae.id, chat=True)
    assert (task_of(executor).prompt, task_of(executor).chat) == ("the end", "<the end>")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"prompt": " "}, ["prompt"]),
        ({"prompt": "a" * 61}, ["prompt"]),
        ({"target": {"text": ""}}, ["target", "text"]),
        ({"contrast": {"text": "a" * 1001}}, ["contrast", "text"]),
        ({"n": 0}, ["first"]),
        ({"n": 101}, ["first"]),
        ({"ablate": -1}, ["ablate"]),
        ({"ablate": 51}, ["ablate"]),
        ({"first": -1}, ["excludeFirstPositions"]),
        ({"outliers": 0.5}, ["excludeOutliers"]),
    ],
)
async def test_what_cannot_be_attributed_is_refused_by_its_name(
    asked: Asked, changes: dict[str, Any], path: list[str]
) -> None:
    server, executor, sae = asked
    found = (await ask(server, QUERY, id=sae.id, **changes))["found"]
    assert [field["path"] for field in found["fields"]] == [path]
    assert executor.tasks == []


@pytest.mark.parametrize(
    ("limits", "n_words", "sentence"),
    [
        ({}, 2048, "The prompt has 2,049 tokens; the limit is 2,048."),
        ({"context_length": 64}, 64, "The prompt has 65 tokens; the language model takes 64."),
        ({"max_request_tokens": 100}, 100, "The request has 101 tokens; the limit is 100."),
    ],
)
async def test_a_prompt_with_too_many_tokens_is_refused_before_anything_runs(
    tmp_path: Path, tiny_model_dir: Path, limits: dict[str, int], n_words: int, sentence: str
) -> None:
    executor = FakeExecutor(lambda task, run: run.finish(FOUND))
    context_length = limits.pop("context_length", None)
    async with serving(tmp_path, executor, max_query_cost=10**6, **limits) as server:
        lm = await add_language_model(server, context_length=context_length)
        sae = await add_sae(server, await add_run(server, lm))
        write_tokenizer(server, lm.id, tiny_model_dir)
        refused = (await ask(server, QUERY, id=sae.id, prompt=" and" * n_words))["found"]
        (problem,) = refused["fields"]
        assert problem["path"] == ["prompt"] and problem["message"].startswith(sentence)
        assert executor.tasks == []
        found = (await ask(server, QUERY, id=sae.id, prompt=" and" * (n_words - 1)))["found"]
    assert found["__typename"] == "Attribution"


async def test_a_workers_refusal_is_the_clients(asked: Asked) -> None:
    server, executor, sae = asked

    def refuse(task: Task, run: TaskRun) -> None:
        run.finish(TaskFailure(TaskFailed(1, "INVALID", "No such token.", ["target", "text"], "")))

    executor.script = refuse
    found = (await ask(server, QUERY, id=sae.id, target={"text": "zebra crossing"}))["found"]
    assert found["fields"] == [{"path": ["target", "text"], "message": "No such token."}]
    unknown = (await ask(server, QUERY, id=ids.new(ids.SAE)))["found"]
    assert unknown["__typename"] == "NotFound"


async def test_it_costs_its_passes_and_half_the_limit_is_enough_for_a_long_prompt(asked: Asked) -> None:
    server, _, sae = asked

    async def cost(**variables: Any) -> int:
        result = await execute(server, QUERY, id=sae.id, **variables)
        assert result.extensions
        return int(result.extensions["cost"]["estimated"])

    n_tokens, limit = 1 + 4000 // 3, 30_000
    prompt, a_pass = "word" * 1000, 250 + 0.2 * (n_tokens - 64)
    fewest, more = await cost(prompt=prompt, ablate=0), await cost(prompt=prompt, ablate=7)
    assert more - fewest == pytest.approx(7 * a_pass, abs=1)
    assert 3 * a_pass < fewest < 3 * a_pass + 6 * n_tokens
    assert await cost(prompt=prompt, ablate=10) < limit / 2
    assert await cost(prompt="word" * 2000, ablate=50) > limit
    assert await cost(prompt=prompt, ablate=-(10**6)) == fewest
