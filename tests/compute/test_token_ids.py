"""Token ids that are kept for later."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from gql_server.compute.capturing.token_ids import TokenIds
from gql_server.datasets import TextDataset, write_texts

TEXTS = ["A short text.", "", "naïve 😀", "The for statement is used to iterate over a sequence.", "x"]


class CountingTokenizer:
    """Counts how often each text is tokenised."""

    def __init__(self, tokenizer: Any) -> None:
        self.texts: list[str] = []
        self._tokenizer = tokenizer

    def __call__(self, texts: list[str], **options: Any) -> Any:
        """Tokenise."""
        self.texts += texts
        return self._tokenizer(texts, **options)


@pytest.fixture
def tokenizer(tiny_model_dir: Path) -> CountingTokenizer:
    return CountingTokenizer(AutoTokenizer.from_pretrained(tiny_model_dir))


@pytest.fixture
def dataset(tmp_path: Path) -> TextDataset:
    write_texts(tmp_path / "texts", TEXTS)
    return TextDataset(tmp_path / "texts")


def expected(tiny_model_dir: Path, rows: list[int]) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    return [tokenizer(TEXTS[row], truncation=True, max_length=8)["input_ids"] for row in rows]


def of(token_ids: TokenIds, rows: list[int]) -> list[list[int]]:
    return [ids.tolist() for ids in token_ids.of(rows)]


def test_added_rows_are_had_again_without_the_tokenizer(
    tokenizer: CountingTokenizer, dataset: TextDataset, tiny_model_dir: Path
) -> None:
    token_ids = TokenIds(tokenizer, dataset, 8)
    added = [ids.tolist() for ids in token_ids.add(1, TEXTS[1:3]) + token_ids.add(3, TEXTS[3:4])]
    assert added == expected(tiny_model_dir, [1, 2, 3])
    assert of(token_ids, [3, 1, 2]) == expected(tiny_model_dir, [3, 1, 2])
    assert tokenizer.texts == TEXTS[1:4]


def test_other_rows_are_tokenised_when_they_are_asked_for(
    tokenizer: CountingTokenizer, dataset: TextDataset, tiny_model_dir: Path
) -> None:
    token_ids = TokenIds(tokenizer, dataset, 8)
    assert of(token_ids, [4, 0]) == expected(tiny_model_dir, [4, 0])
    token_ids.add(1, TEXTS[1:3])
    tokenizer.texts.clear()
    assert of(token_ids, [2, 4, 1, 0]) == expected(tiny_model_dir, [2, 4, 1, 0])
    assert tokenizer.texts == [TEXTS[4], TEXTS[0]]


def test_so_many_tokens_are_kept_and_the_other_texts_are_tokenised_again(
    tokenizer: CountingTokenizer, dataset: TextDataset, tiny_model_dir: Path
) -> None:
    lengths = [len(ids) for ids in expected(tiny_model_dir, [0, 1])]
    token_ids = TokenIds(tokenizer, dataset, 8, max_kept=sum(lengths))
    token_ids.add(0, TEXTS[:2])
    token_ids.add(2, TEXTS[2:])
    tokenizer.texts.clear()
    assert of(token_ids, [4, 1, 3, 0, 2]) == expected(tiny_model_dir, [4, 1, 3, 0, 2])
    assert tokenizer.texts == [TEXTS[4], TEXTS[3], TEXTS[2]]
