"""Whoever asks little does not wait for a long generation, which comes to the same as alone."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from tests.fuzz.making import Maker
from tests.server_process import server_process

GENERATE = """mutation ($input: GenerateInput!) { generate(input: $input) { ... on Generation { outputs {
  variant text tokens { logProbability } topNeurons { activation neuron { index } } } } } }"""
TOP_NEURONS = """query ($sae: ID!) { topNeurons(saeId: $sae, prompts: ["a string is"], first: 5) {
  ... on TopNeurons { prompts { neurons { activation neuron { index } } } } } }"""


async def test_short_requests_are_answered_during_a_long_one_and_both_are_as_alone(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with server_process(tmp_path, MODEL_DIRS=str(tiny_model_dir), WARM_UP="false") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            maker = Maker(client, str(tiny_model_dir))
            language_model = await maker.language_model()
            await maker.load(language_model)
            sae = await maker.sae(await maker.run(language_model))
            given: dict[str, Any] = {
                "saeId": sae,
                "prompts": ["True and", "a string is not None or True for all of the others"] * 8,
                "maxNewTokens": 40,
                "temperature": 0.8,
                "seed": 7,
                "compareToBaseline": True,
                "steering": {"source": {"edits": [{"neuronIndex": 3, "multiplier": 1, "bias": 6}]}},
            }
            long_alone = await maker.ask(GENERATE, input=given)
            short_alone = await maker.ask(TOP_NEURONS, sae=sae)
            long = asyncio.ensure_future(maker.ask(GENERATE, input=given))
            await asyncio.sleep(0.2)
            meanwhile = [await maker.ask(TOP_NEURONS, sae=sae) for _ in range(3)]
            was_answered_meanwhile = not long.done()
            assert await long == long_alone
    assert was_answered_meanwhile
    assert meanwhile == [short_alone] * 3
