"""Token ids that are kept for later."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from gql_server.artifacts.datasets import TextDataset, write_texts
from gql_server.compute.capturing.token_ids import TokenIds
from gql_server.compute.language_models.text_encoder import CutText, TextEncoder, make_encoder

TEXTS = ["A short text.", "", "naïve 😀", "The for statement is used to iterate over a sequence.", "x"]


@dataclass(frozen=True)
class CountingEncoder(TextEncoder):
    """Notes which texts are tokenized."""

    texts: list[str] = field(default_factory=list)

    def cut(self, texts: Sequence[str], max_length: int, split: bool = False) -> list[CutText]:
        """Tokenize."""
        self.texts.extend(texts)
        return super().cut(texts, max_length, split)


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
    cut = token_ids.add(1, TEXTS[1:3]) + token_ids.add(3, TEXTS[3:4])
    added = [ids.tolist() for text in cut for ids in text.pieces]
    assert added == expected(tiny_model_dir, [1, 2, 3])
    assert of(token_ids, [3, 1, 2]) == expected(tiny_model_dir, [3, 1, 2])
    assert encoder.texts == TEXTS[1:4]


def test_other_rows_are_tokenized_when_they_are_asked_for(
    encoder: CountingEncoder, dataset: TextDataset, tiny_model_dir: Path
) -> None:
    token_ids = TokenIds(encoder, dataset, 8)
    assert of(token_ids, [4, 0]) == expected(tiny_model_dir, [4, 0])
    token_ids.add(1, TEXTS[1:3])
    encoder.texts.clear()
    assert of(token_ids, [2, 4, 1, 0]) == expected(tiny_model_dir, [2, 4, 1, 0])
    assert encoder.texts == [TEXTS[4], TEXTS[0]]


def test_so_many_tokens_are_kept_and_the_other_texts_are_tokenized_again(
    encoder: CountingEncoder, dataset: TextDataset, tiny_model_dir: Path
) -> None:
    lengths = [len(ids) for ids in expected(tiny_model_dir, [0, 1])]
    token_ids = TokenIds(encoder, dataset, 8, max_kept=sum(lengths))
    token_ids.add(0, TEXTS[:2])
    token_ids.add(2, TEXTS[2:])
    encoder.texts.clear()
    assert of(token_ids, [4, 1, 3, 0, 2]) == expected(tiny_model_dir, [4, 1, 3, 0, 2])
    assert encoder.texts == [TEXTS[4], TEXTS[3], TEXTS[2]]


def pieces_by_hand(tiny_model_dir: Path, row: int) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    ids = tokenizer(TEXTS[row], add_special_tokens=False)["input_ids"]
    return [[tokenizer.bos_token_id, *ids[start : start + 7]] for start in range(0, max(1, len(ids)), 7)]


@pytest.mark.parametrize("max_kept", [1000, 20, 0])
def test_pieces_are_had_in_any_order_and_each_text_is_tokenized_once_in_a_row(
    encoder: CountingEncoder, dataset: TextDataset, tiny_model_dir: Path, max_kept: int
) -> None:
    token_ids = TokenIds(encoder, dataset, 8, max_kept, split=True)
    added = [[ids.tolist() for ids in text.pieces] for text in token_ids.add(0, TEXTS)]
    expected = [pieces_by_hand(tiny_model_dir, row) for row in range(len(TEXTS))]
    assert added == expected
    assert len(expected[3]) > 2
    wanted = [(row, piece) for row in (3, 0, 4, 1, 2) for piece in reversed(range(len(expected[row])))]
    encoder.texts.clear()
    for row, piece in wanted:
        (ids,) = token_ids.of([row], [piece])
        assert ids.tolist() == expected[row][piece]
    again = {1000: (), 20: (3, 4, 2), 0: (3, 0, 4, 1, 2)}[max_kept]
    assert encoder.texts == [TEXTS[row] for row in again]
