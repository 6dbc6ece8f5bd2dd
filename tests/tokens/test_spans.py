"""The text of each token."""

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gql_server.tokens.spans import pieces, text_of


def test_a_space_left_out_of_the_offsets_goes_to_the_token_after_it() -> None:
    assert pieces("a bc  d", [(0, 1), (2, 4), (6, 7)]) == ["a", " bc", "  d"]


def test_special_tokens_have_no_text() -> None:
    assert pieces("ab", [(0, 0), (0, 1), (1, 2), (0, 0)]) == ["", "a", "b", ""]


def test_a_character_of_several_tokens_belongs_to_the_first() -> None:
    assert pieces("x😀y", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]) == ["x", "😀", "", "", "y"]


def test_what_comes_before_the_first_token_is_left_out() -> None:
    assert pieces("  ab", [(2, 3), (3, 4)]) == ["a", "b"]


@pytest.fixture(scope="module")
def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_the_pieces_of_a_byte_level_tokenizer_joined_are_the_text(
    byte_tokenizer: Tokenizer, text: str
) -> None:
    encoding = byte_tokenizer.encode(text)
    assert len(encoding.ids) == len(text.encode())
    assert "".join(pieces(text, encoding.offsets)) == text


def test_a_trained_tokenizer_gives_each_token_its_text() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the strings are compared and the strings are equal"], trainer)
    text = "the strings naïve 😀"
    encoding = tokenizer.encode(text)
    found = pieces(text, encoding.offsets)
    assert "".join(found) == text
    assert found[0] == "the"
    assert found[1] == " strings"


def test_a_token_by_itself_keeps_its_space_and_has_a_name_where_it_is_no_character() -> None:
    byte_level = Tokenizer(models.BPE({"Ġmat": 0, "mat": 1, "Ã": 2, "Ã©": 3, "Ċ": 4}, []))
    byte_level.decoder = decoders.ByteLevel()
    assert [text_of(byte_level, token) for token in range(5)] == [" mat", "mat", "Ã", "é", "\n"]
    metaspace = Tokenizer(models.BPE({"▁mat": 0, "mat": 1, "<0xF0>": 2}, []))
    metaspace.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    assert [text_of(metaspace, token) for token in range(3)] == [" mat", "mat", "<0xF0>"]
    undecoded = Tokenizer(models.WordLevel({"mat": 0, "<eos>": 1}, unk_token="<eos>"))
    undecoded.add_special_tokens(["<eos>"])
    assert [text_of(undecoded, token) for token in (0, 1)] == ["mat", "<eos>"]
