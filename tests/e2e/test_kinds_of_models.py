"""Models of other kinds than Llama's, and tokenizers that write characters in bytes, asked over the API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.architectures.bare import Bare
from tests.architectures.making import MAX_NEW_TOKENS, Made, make
from tests.architectures.tokenizer_kinds import make_tokenizer
from tests.e2e.client import Api, api, load_model
from tests.support.server_process import RunningServer, server_process

OTHERS = ["lfm2", "qwen3_next", "falcon_h1", "mamba", "openai-gpt"]
"""Convolutions, linear attention, a recurrence beside attention and alone, and a model that keeps nothing."""
PROMPT = "Japanese: "
LEARNT = "これは日本語で書かれた文です。よろしく🙂🏳️‍🌈 end"
OUTPUTS = "... on Generation { outputs { text finishReason tokens { tokenId text } } }"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """Give a model of each kind, with two prompts of which one ends earlier."""
    directory = tmp_path_factory.mktemp("others")
    return {model_type: make(model_type, directory / model_type) for model_type in OTHERS}


@pytest.fixture(scope="module")
def by_heart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a GPT-2 that has learnt one line by heart, most of whose characters are tokens of bytes."""
    tokenizer: Any = make_tokenizer("byte-fallback BPE")
    ids = torch.tensor([[*tokenizer(PROMPT + LEARNT)["input_ids"], tokenizer.eos_token_id]])
    torch.manual_seed(0)
    language_model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=256,
            n_embd=64,
            n_layer=2,
            n_head=4,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    optimizer = torch.optim.Adam(language_model.parameters(), 3e-3)
    loss = torch.tensor(torch.inf)
    for _ in range(400):
        if loss < 0.01:
            break
        loss = language_model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    directory = tmp_path_factory.mktemp("by-heart")
    language_model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def server(
    made: dict[str, Made], by_heart: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    roots = f"{made['lfm2'].directory.parent}:{by_heart}"
    with server_process(tmp_path_factory.mktemp("artifacts"), MODEL_DIRS=roots) as running:
        yield running


async def generate(client: Api, language_model: str, **more: Any) -> list[dict[str, Any]]:
    asked = {"languageModelId": language_model, "topNeurons": 0} | more
    answer = await client.do("generate", OUTPUTS, input=("GenerateInput!", asked))
    assert answer["__typename"] == "Generation", answer
    outputs: list[dict[str, Any]] = answer["outputs"]
    return outputs


@pytest.mark.parametrize("model_type", OTHERS)
async def test_two_prompts_that_end_at_different_times_are_what_transformers_writes(
    server: RunningServer, made: dict[str, Made], model_type: str
) -> None:
    model = made[model_type]
    bare = Bare(model.directory)
    expected = [bare.generate(prompt, MAX_NEW_TOKENS) for prompt in model.prompts]
    async with api(server.url) as client:
        language_model = await load_model(client, str(model.directory), model_type)
        outputs = await generate(
            client, language_model, prompts=list(model.prompts), maxNewTokens=MAX_NEW_TOKENS
        )
    # Which token has ended a text is no part of it here.
    kept = [[token_id for token_id in ids if token_id not in bare.end_ids] for ids in expected]
    assert [[token["tokenId"] for token in output["tokens"]] for output in outputs] == kept
    assert [output["finishReason"] for output in outputs] == ["END_OF_TEXT", "LENGTH"]
    assert len(kept[0]) < len(kept[1]) == MAX_NEW_TOKENS


async def test_characters_of_several_tokens_are_whole_and_stop_strings_are_found(
    server: RunningServer, by_heart: Path
) -> None:
    asked = {"prompts": [PROMPT], "maxNewTokens": 200}
    async with api(server.url) as client:
        language_model = await load_model(client, str(by_heart), "by heart")
        (whole,) = await generate(client, language_model, **asked)
        (stopped,) = await generate(client, language_model, **asked, stop=["。"])
        document = """subscription($input: GenerateInput!) { generation(input: $input) {
            ... on GenerationToken { token { text } } } }"""
        streamed = [
            event["generation"]["token"]["text"]
            async for event in client.listen(
                document, input=asked | {"languageModelId": language_model, "topNeurons": 0}
            )
            if event["generation"]
        ]
    assert whole["text"] == LEARNT
    assert stopped["text"] == LEARNT[: LEARNT.index("。")]
    assert stopped["finishReason"] == "STOP"
    assert "".join(streamed) == LEARNT
    assert "日" in streamed and "🙂" in streamed, "each character comes with its last byte"
