"""Token ids that are kept outside of memory."""

from collections.abc import Iterator
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
def token_ids(tokenizer: CountingTokenizer, tmp_path: Path) -> Iterator[TokenIds]:
    write_texts(tmp_path / "texts", TEXTS)
    with TokenIds(tokenizer, TextDataset(tmp_path / "texts"), 8, tmp_path / "store") as ids:
        yield ids


def expected(tiny_model_dir: Path, row: int) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    ids: list[int] = tokenizer(TEXTS[row], truncation=True, max_length=8)["input_ids"]
    return ids


def test_added_rows_are_had_again_without_the_tokenizer(
    token_ids: TokenIds, tokenizer: CountingTokenizer, tiny_model_dir: Path
) -> None:
    token_ids.add(1, TEXTS[1:3])
    token_ids.add(3, TEXTS[3:4])
    assert [ids.tolist() for ids in token_ids.of([3, 1, 2])] == [
        expected(tiny_model_dir, row) for row in (3, 1, 2)
    ]
    assert tokenizer.texts == TEXTS[1:4]


def test_other_rows_are_tokenised_when_they_are_asked_for(
    token_ids: TokenIds, tokenizer: CountingTokenizer, tiny_model_dir: Path
) -> None:
    assert [ids.tolist() for ids in token_ids.of([4, 0])] == [
        expected(tiny_model_dir, 4),
        expected(tiny_model_dir, 0),
    ]
    assert tokenizer.texts == [TEXTS[4], TEXTS[0]]


def test_rows_are_added_one_after_the_other(token_ids: TokenIds) -> None:
    token_ids.add(0, TEXTS[:2])
    with pytest.raises(ValueError, match="row 3 does not follow"):
        token_ids.add(3, TEXTS[3:])


def test_nothing_is_left_in_the_directory(token_ids: TokenIds, tmp_path: Path) -> None:
    token_ids.add(0, TEXTS)
    assert list((tmp_path / "store").iterdir()) == []
