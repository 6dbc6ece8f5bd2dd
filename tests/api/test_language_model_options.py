"""Options of a language model: a BOS before texts, and which tokens count."""

from typing import Any

import msgspec
import pytest
from tokenizers import Tokenizer, models

from gql_server.services import artifacts
from gql_server.services.app_context import AppContext
from gql_server.services.tokenizing import TokenCounter, TokenizerFiles
from gql_server.tokens.options import SpecialToken, TokenizerFacts
from models import LanguageModel
from tests.api.asking import ask
from tests.support.serving import add_language_model

FACTS = TokenizerFacts(
    special_tokens=[
        SpecialToken(0, "<unk>", "UNKNOWN", True),
        SpecialToken(1, "<bos>", "NAMED", False),
        SpecialToken(2, "<|user|>", "ADDED", False),
    ],
    begin_token_ids=[],
    end_token_ids=[],
    bos_token_id=1,
)
SHOWN = "addBos writesBos optionsVersion specialTokens { tokenId text reason counts decided }"
UPDATE = f"""mutation ($input: UpdateLanguageModelInput!) {{ updateLanguageModel(input: $input) {{
  __typename
  ... on LanguageModelUpdated {{ languageModel {{ {SHOWN} }} }}
  ... on InvalidInput {{ fields {{ path message }} }}
  ... on Error {{ code message }} }} }}"""


@pytest.fixture
async def language_model(server: AppContext) -> LanguageModel:
    """Give a model of five tokens that has been loaded, and its tokenizer's file."""
    row = await add_language_model(
        server, tokenizer=msgspec.to_builtins(FACTS), vocabulary_size=5, context_length=3
    )
    names = ["<unk>", "<bos>", "<|user|>", "word", "other"]
    tokenizer = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, "<unk>"))
    directory = artifacts.copy_directory(server.settings, row.id)
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "special_token_ids.json").write_text("[1, 2]")
    return row


async def update(server: AppContext, id: str, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(server, UPDATE, input={"id": id} | changes))["updateLanguageModel"]
    return found


async def shown(server: AppContext, id: str) -> dict[str, Any]:
    found = await ask(server, f"query ($id: ID!) {{ languageModel(id: $id) {{ {SHOWN} }} }}", id=id)
    return dict(found["languageModel"])


async def row_of(server: AppContext, id: str) -> LanguageModel:
    async with server.database.read() as session:
        return await session.get_one(LanguageModel, id)


async def test_a_model_says_which_tokens_do_not_count_and_why(
    server: AppContext, language_model: LanguageModel
) -> None:
    found = await shown(server, language_model.id)
    assert (found["addBos"], found["writesBos"], found["optionsVersion"]) == (None, False, 0)
    assert found["specialTokens"] == [
        {"tokenId": 0, "text": "<unk>", "reason": "UNKNOWN", "counts": True, "decided": False},
        {"tokenId": 1, "text": "<bos>", "reason": "NAMED", "counts": False, "decided": False},
        {"tokenId": 2, "text": "<|user|>", "reason": "ADDED", "counts": False, "decided": False},
    ]


async def test_people_decide_and_workers_are_told(server: AppContext, language_model: LanguageModel) -> None:
    said = [{"tokenId": 2, "counts": True}, {"tokenId": 4, "counts": False}, {"tokenId": 1, "counts": False}]
    answer = await update(server, language_model.id, addBos=True, specialTokens=said)
    found = answer["languageModel"]
    assert found == await shown(server, language_model.id)
    assert (found["addBos"], found["writesBos"], found["optionsVersion"]) == (True, True, 1)
    listed = [(one["tokenId"], one["text"], one["counts"], one["decided"]) for one in found["specialTokens"]]
    assert listed == [
        (0, "<unk>", True, False),
        (1, "<bos>", False, False),
        (2, "<|user|>", True, True),
        (4, "other", False, True),
    ]
    source = artifacts.language_model_source(server.settings, await row_of(server, language_model.id))
    assert (source.add_bos, source.token_counts) == (True, ((2, True), (4, False)))


async def test_the_server_counts_tokens_with_the_options(
    server: AppContext, language_model: LanguageModel
) -> None:
    async def counter() -> TokenCounter:
        directory = artifacts.copy_directory(server.settings, language_model.id)
        files = TokenizerFiles.of(directory, await row_of(server, language_model.id))
        found = TokenCounter.read(files)
        assert found is not None
        return found

    def told(counter: TokenCounter) -> tuple[int, bool, bool]:
        return counter.count("word"), counter.any_counts(["other"]), counter.any_counts(["<|user|>"])

    assert told(await counter()) == (1, True, False)
    said = [{"tokenId": 2, "counts": True}, {"tokenId": 4, "counts": False}]
    await update(server, language_model.id, addBos=True, specialTokens=said)
    after = await counter()
    assert told(after) == (2, False, True)
    assert after.count("<bos>") == 1


async def test_what_is_left_out_stays_and_null_goes_back(
    server: AppContext, language_model: LanguageModel
) -> None:
    id = language_model.id
    await update(server, id, addBos=False, specialTokens=[{"tokenId": 2, "counts": True}])
    found = (await update(server, id, addBos=None))["languageModel"]
    assert found["addBos"] is None and [
        one["tokenId"] for one in found["specialTokens"] if one["decided"]
    ] == [2]
    found = (await update(server, id, specialTokens=[], expectedVersion=2))["languageModel"]
    assert found["optionsVersion"] == 3 and not any(one["decided"] for one in found["specialTokens"])


async def test_options_that_somebody_has_changed_meanwhile_are_a_conflict(
    server: AppContext, language_model: LanguageModel
) -> None:
    await update(server, language_model.id, addBos=True)
    answer = await update(server, language_model.id, addBos=False, expectedVersion=0)
    assert answer["__typename"] == "Conflict" and "version 1, not 0" in answer["message"]
    assert (await shown(server, language_model.id))["addBos"] is True


async def test_tokens_that_are_none_and_a_bos_that_is_none_are_refused_and_nothing_changes(
    server: AppContext, language_model: LanguageModel
) -> None:
    said = [{"tokenId": id, "counts": True} for id in (5, -1, 2, 2)]
    answer = await update(server, language_model.id, addBos=False, specialTokens=said)
    places = [(field["path"][:2], field["message"]) for field in answer["fields"]]
    assert [place for place, _ in places] == [
        ["specialTokens", "0"],
        ["specialTokens", "1"],
        ["specialTokens", "3"],
    ]
    assert "from 0 to 4" in places[0][1] and "named twice" in places[2][1]
    without = msgspec.to_builtins(msgspec.structs.replace(FACTS, bos_token_id=None))
    other = await add_language_model(server, "other", tokenizer=without, vocabulary_size=5)
    answer = await update(server, other.id, addBos=True)
    assert answer["fields"][0]["path"] == ["addBos"] and "no BOS token" in answer["fields"][0]["message"]
    assert (await shown(server, language_model.id))["optionsVersion"] == 0


async def test_a_model_of_which_no_tokenizer_is_known_is_to_be_loaded_first(server: AppContext) -> None:
    row = await add_language_model(server)
    answer = await update(server, row.id, addBos=True)
    assert answer["__typename"] == "Conflict" and "call loadLanguageModel first" in answer["message"]
    found = await shown(server, row.id)
    assert found["specialTokens"] is None and found["writesBos"] is None
    assert (await update(server, "lm_none", addBos=True))["__typename"] == "NotFound"
