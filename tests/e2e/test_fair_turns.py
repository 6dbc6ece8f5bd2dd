"""A long generation holds nobody else up, and comes to the same as alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.fuzz.making import Maker
from tests.support.close_answers import assert_close
from tests.support.server_process import server_process

GENERATE = """mutation ($input: GenerateInput!) { generate(input: $input) { ... on Generation { outputs {
  variant text tokens { logProbability } topNeurons { activation neuron { index } } } } } }"""
TEXTS = """mutation ($input: GenerateInput!) { generate(input: $input) { ... on Generation { outputs {
  text } } } }"""
TOP_NEURONS = """query ($sae: ID!) { topNeurons(saeId: $sae, prompts: ["a string is"], first: 5) {
  ... on TopNeurons { prompts { neurons { activation neuron { index } } } } } }"""


@asynccontextmanager
async def loaded(artifact_dir: Path, model_dir: Path) -> AsyncIterator[tuple[Maker, str]]:
    """Run a server that has loaded a language model; gives what asks it, and the model's ID."""
    with server_process(artifact_dir, MODEL_DIRS=str(model_dir), WARM_UP="false") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            maker = Maker(client, str(model_dir))
            language_model = await maker.language_model()
            await maker.load(language_model)
            yield maker, language_model


async def test_short_requests_are_answered_during_a_long_one_and_both_are_as_alone(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    async with loaded(tmp_path, tiny_model_dir) as (maker, language_model):
        sae = await maker.sae(await maker.run(language_model))
        given: dict[str, Any] = {
            "saeId": sae,
            "prompts": ["True and", "a string is not None or True for all of the others"] * 8,
            "maxNewTokens": 200,
            "temperature": 0.8,
            "seed": 7,
            "compareToBaseline": True,
            "steering": {"source": {"edits": [{"neuronIndex": 3, "multiplier": 1, "bias": 6}]}},
        }
        other = given | {"prompts": ["is not None"], "maxNewTokens": 100, "compareToBaseline": False}
        long_alone = await maker.ask(GENERATE, input=given)
        other_alone = await maker.ask(GENERATE, input=other)
        short_alone = await maker.ask(TOP_NEURONS, sae=sae)
        long = asyncio.ensure_future(maker.ask(GENERATE, input=given))
        await asyncio.sleep(0.2)
        meanwhile = [await maker.ask(TOP_NEURONS, sae=sae)]
        was_answered_meanwhile = not long.done()
        meanwhile += [await maker.ask(TOP_NEURONS, sae=sae) for _ in range(2)]
        assert_close(await long, long_alone)
        several = await asyncio.gather(*(maker.ask(GENERATE, input=one) for one in (given, other, given)))
        assert_close(several, [long_alone, other_alone, long_alone])
    assert was_answered_meanwhile
    assert meanwhile == [short_alone] * 3


async def test_eight_clients_at_once_get_what_each_gets_alone(tiny_model_dir: Path, tmp_path: Path) -> None:
    async with loaded(tmp_path, tiny_model_dir) as (maker, language_model):
        sae = await maker.sae(await maker.run(language_model))
        asked: list[dict[str, Any]] = [
            {
                "saeId": sae,
                "prompts": ["True and " * (number + 1)],
                "maxNewTokens": 20 + 5 * number,
                "temperature": 0.4 * (number % 3),
                "seed": number,
                "stop": ["q"] if number % 2 else None,
                "compareToBaseline": number % 4 == 0,
                "steering": {"source": {"edits": [{"neuronIndex": number, "multiplier": 0, "bias": number}]}},
            }
            for number in range(8)
        ]
        together = await asyncio.gather(*(maker.ask(TEXTS, input=one) for one in asked))
        assert list(together) == [await maker.ask(TEXTS, input=one) for one in asked]


async def test_a_generation_is_over_before_a_longer_one_that_began_earlier(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    async with loaded(tmp_path, tiny_model_dir) as (maker, language_model):
        given: dict[str, Any] = {
            "languageModelId": language_model,
            "prompts": ["True and"],
            "maxNewTokens": 120,
        }
        longer = asyncio.ensure_future(maker.ask(TEXTS, input=given | {"prompts": ["True and"] * 64}))
        await asyncio.sleep(0.3)
        (output,) = (await maker.ask(TEXTS, input=given | {"maxNewTokens": 10}))["generate"]["outputs"]
        was_first = not longer.done()
        texts = {one["text"] for one in (await longer)["generate"]["outputs"]}
        assert len(texts) == 1 and texts.pop().startswith(output["text"])
    assert was_first
