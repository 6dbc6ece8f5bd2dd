"""Keys of stretches, held against the stretches themselves."""

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from gql_server.compute.indexing.stretches import count_texts, stretch_keys

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=45), min_size=1, max_size=5)


def stretches(texts: list[list[int]]) -> list[tuple[int, ...]]:
    return [tuple(text[max(0, place - 16) : place + 17]) for text in texts for place, _ in enumerate(text)]


def padded(texts: list[list[int]], padding: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, texts))
    rows = [text + (width - len(text)) * [padding] for text in texts]
    return torch.tensor(rows), torch.tensor([len(text) for text in texts])


@settings(max_examples=200, deadline=None)
@given(texts=TEXTS, padding=st.integers(0, 2))
def test_tokens_have_one_key_where_they_have_one_stretch(texts: list[list[int]], padding: int) -> None:
    keys = stretch_keys(*padded(texts, padding)).tolist()
    expected = stretches(texts)
    assert len(keys) == len(expected)
    assert len(set(keys)) == len(set(expected)) == len(set(zip(keys, expected, strict=True)))


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS, others=TEXTS)
def test_a_text_counts_once_for_each_of_its_stretches(
    texts: list[list[int]], others: list[list[int]]
) -> None:
    keys = stretch_keys(*padded(texts, 0))
    counts = count_texts(keys, [padded(texts, 0), padded(others, 1)])
    of_texts = [set(stretches([text])) for text in texts + others]
    assert counts.tolist() == [sum(one in of_text for of_text in of_texts) for one in stretches(texts)]
