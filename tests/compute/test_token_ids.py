"""Token ids that are kept for later."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from gql_server.compute.capturing.token_ids import TokenIds
from gql_server.compute.language_models.text_encoder import Ids, TextEncoder, make_encoder
from gql_server.datasets import TextDataset, write_texts

TEXTS = ["A short text.", "", "naïve 😀", "The for statement is used to iterate over a sequence.", "x"]


@dataclass(frozen=True)
class CountingEncoder(TextEncoder):
    """Notes which texts are tokenised."""

    texts: list[str] = field(default_factory=list)

    def encode(self, texts: Sequence[str], max_length: int) -> list[Ids]:
        """Tokenise."""
        self.texts.extend(texts)
        return super().encode(texts, max_length)


@pytest.fixture
def encoder(tiny_model_dir: Path) -> CountingEncoder:
    made = make_encoder(AutoTokenizer.from_pretrained(tiny_model_dir))
    return CountingEncoder(made.tokenizer, made.edges)


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
    encoder: CountingEncoder, dataset: TextDataset, tiny_model_dir: Path
) -> None:
    token_ids = TokenIds(encoder, dataset, 8)
    added = [ids.tolist() for ids in token_ids.add(1, TEXTS[1:3]) + token_ids.add(3, TEXTS[3:4])]
    assert added == expected(tiny_model_dir, [1, 2, 3])
    assert of(token_ids, [3, 1, 2]) == expected(tiny_model_dir, [3, 1, 2])
    assert encoder.texts == TEXTS[1:4]


def test_other_rows_are_tokenised_when_they_are_asked_for(
    encoder: CountingEncoder, dataset: TextDataset, tiny_model_dir: Path
) -> None:
    token_ids = TokenIds(encoder, dataset, 8)
    assert of(token_ids, [4, 0]) == expected(tiny_model_dir, [4, 0])
    token_ids.add(1, TEXTS[1:3])
    encoder.texts.clear()
    assert of(token_ids, [2, 4, 1, 0]) == expected(tiny_model_dir, [2, 4, 1, 0])
    assert encoder.texts == [TEXTS[4], TEXTS[0]]


def test_so_many_tokens_are_kept_and_the_other_texts_are_tokenised_again(
    encoder: CountingEncoder, dataset: TextDataset, tiny_model_dir: Path
) -> None:
    lengths = [len(ids) for ids in expected(tiny_model_dir, [0, 1])]
    token_ids = TokenIds(encoder, dataset, 8, max_kept=sum(lengths))
    token_ids.add(0, TEXTS[:2])
    token_ids.add(2, TEXTS[2:])
    encoder.texts.clear()
    assert of(token_ids, [4, 1, 3, 0, 2]) == expected(tiny_model_dir, [4, 1, 3, 0, 2])
    assert encoder.texts == [TEXTS[4], TEXTS[3], TEXTS[2]]
