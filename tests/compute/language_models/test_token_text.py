"""Token texts one by one against the tokenizer's own decode of all tokens at once."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gql_server.compute.language_models.token_text import StopStrings, TokenTexts

BYTES = [f"<0x{value:02X}>" for value in range(256)]
WORDS = ["▁", "▁ok", "a", "▁b", ".", "日", "▁é", "n't", "  ", "�"]
TEXTS = [
    "これは日本語で書かれた短い文章です。よろしくお願いします。 end",
    "오늘은 날씨가 아주 좋습니다 ok",
    "ab 🙂🏳️‍🌈🙃😀😁 né → \n\n\t x",
    "สวัสดีครับ ok",
]
LLAMA_DECODER = [
    decoders.Replace("▁", " "),
    decoders.ByteFallback(),
    decoders.Fuse(),
    decoders.Strip(" ", 1, 0),
]


def fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer as transformers loads it."""
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def of_pieces(pieces: Sequence[str], decoder: Any) -> PreTrainedTokenizerFast:
    """Make a tokenizer that has a token for each piece, and one of tokenizers' decoders."""
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoder
    return fast(tokenizer)


@cache
def byte_fallback() -> PreTrainedTokenizerFast:
    """Make a tokenizer like Llama 2's, few of whose characters are tokens."""
    return of_pieces([*BYTES, *WORDS], decoders.Sequence(LLAMA_DECODER))


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """Make a tokenizer like GPT-2's that has merged across characters' borders."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return fast(tokenizer)


DECODERS = {
    "Metaspace": decoders.Metaspace(),
    "WordPiece": decoders.WordPiece("##"),
    "WordPiece without cleanup": decoders.WordPiece("##", cleanup=False),
    "BPEDecoder": decoders.BPEDecoder("</w>"),
    "CTC": decoders.CTC("a", "▁"),
    "ByteFallback alone": decoders.ByteFallback(),
    "Fuse, then Replace": decoders.Sequence([decoders.Fuse(), decoders.Replace("▁", " ")]),
    "Replace of a pattern": decoders.Replace(Regex("▁+"), " "),
    "Strip at the beginning": decoders.Sequence([decoders.Fuse(), decoders.Strip("▁", 2, 0)]),
    "Strip each token": decoders.Strip("▁", 1, 0),
    "none": None,
}
PIECES = [
    "▁",
    "▁ok",
    "a",
    "b",
    "▁b",
    "##ing",
    "##s",
    ".",
    "n't",
    "日",
    "end</w>",
    "x</w>",
    "🙂",
    " ",
    "\n",
    "é",
]


@cache
def decoding_with(name: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer without byte tokens that decodes in one of the ways above."""
    return of_pieces(PIECES, DECODERS[name])


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Decode all at once."""
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def texts_of(tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], ids: Sequence[int]) -> list[str]:
    """Return the texts that tokens add one by one, the last with what is left."""
    texts = TokenTexts(tokenizer, prompt)
    return [texts.add(token_id, last=number == len(ids) - 1) for number, token_id in enumerate(ids)]


def encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenize a text."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bytes as a fallback": byte_fallback,
    "bytes": byte_level,
    "ByT5": ByT5Tokenizer,
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", [*TEXTS, "文" * 200 + "🙂" * 80, "\n" * 40 + "日" + " " * 40 + "x"])
@pytest.mark.parametrize("prompt", ["", "<s>", "<s> ok", "日本"])
def test_whole_characters_are_what_decode_has(kind: str, text: str, prompt: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    before, ids = encoded(tokenizer, prompt), encoded(tokenizer, text)
    assert "".join(texts_of(tokenizer, before, ids)) == text
    content = before if prompt != "<s>" else []
    assert text == decoded(tokenizer, content + ids)[len(decoded(tokenizer, content)) :]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(st.characters(codec="utf-8"), max_size=60), st.sampled_from(sorted(TOKENIZERS)))
def test_any_text_comes_back(text: str, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    before, ids = encoded(tokenizer, "ok"), encoded(tokenizer, text)
    expected = decoded(tokenizer, before + ids)[len(decoded(tokenizer, before)) :]
    assert "".join(texts_of(tokenizer, before, ids)) == expected


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(DECODERS)), st.lists(st.integers(0, len(PIECES) - 1), min_size=1), st.data())
def test_any_decoder_gives_token_by_token_what_it_gives_at_once(
    name: str, ids: list[int], data: st.DataObject
) -> None:
    tokenizer = decoding_with(name)
    n_prompt = data.draw(st.integers(0, len(ids) - 1))
    prompt = decoded(tokenizer, ids[:n_prompt])
    expected = decoded(tokenizer, ids)[len(prompt) :]
    assert "".join(texts_of(tokenizer, ids[:n_prompt], ids[n_prompt:])) == expected


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 331), min_size=1), st.data())
def test_any_tokens_of_bytes_are_what_decode_has(ids: list[int], data: st.DataObject) -> None:
    tokenizer = byte_level()
    ids = [token_id for token_id in ids if token_id < len(tokenizer)] or [0]
    n_prompt = data.draw(st.integers(0, len(ids) - 1))
    prompt, whole = decoded(tokenizer, ids[:n_prompt]), decoded(tokenizer, ids)
    while not whole.startswith(prompt):
        prompt = prompt[:-1]
    assert "".join(texts_of(tokenizer, ids[:n_prompt], ids[n_prompt:])) == whole[len(prompt) :]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_broken_bytes_leave_the_characters_beside_them_whole(values: list[int]) -> None:
    tokenizer = byte_fallback()
    prompt = encoded(tokenizer, "ok")
    # As SentencePiece has it: a U+FFFD for each byte that is in no character.
    expected, rest = "", bytes(values)
    while rest:
        length = next((n for n in range(1, 5) if _is_character(rest[:n])), 0)
        expected, rest = expected + (rest[:length].decode() if length else "�"), rest[length or 1 :]
    assert "".join(texts_of(tokenizer, prompt, values)) == expected


def _is_character(values: bytes) -> bool:
    try:
        return len(values.decode()) == 1
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_character_comes_with_its_last_token(kind: str) -> None:
    tokenizer, text = TOKENIZERS[kind](), "→日🙂 ok né 🏳️‍🌈 でし"
    ids = encoded(tokenizer, text)
    texts = texts_of(tokenizer, encoded(tokenizer, "a"), ids)
    n_bytes = 0
    for number, token_id in enumerate(ids, 1):
        n_bytes += _length(kind, str(tokenizer.convert_ids_to_tokens(token_id)))
        assert "".join(texts[:number]) == text.encode()[:n_bytes].decode(errors="ignore")


def _length(kind: str, name: str) -> int:
    """Return how many bytes a token stands for."""
    if kind == "bytes as a fallback":
        return 1 if name in BYTES else len(name.replace("▁", " ").encode())
    return len(name)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_token_is_previewed_as_it_would_end_the_text(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    ids = encoded(tokenizer, TEXTS[2][:14])
    for number, token_id in enumerate(ids[1:], 1):
        streamed, ended = (TokenTexts(tokenizer, ids[:1]) for _ in range(2))
        for before in ids[1:number]:
            streamed.add(before), ended.add(before)
        assert streamed.preview(token_id) == ended.add(token_id, last=True)


def test_what_decode_changes_behind_is_given_once_it_stands() -> None:
    class Joining(PreTrainedTokenizerFast):
        """Marks what goes on in the next token with @@, as CTRL's and FSMT's tokenizers do."""

        def decode(self, token_ids: Any, **options: Any) -> str:  # type: ignore[override]
            return " ".join(self.convert_ids_to_tokens(token_ids)).replace("@@ ", "").strip()

    words = ["no", "hel@@", "lo", "wor@@", "ld", "@@"]
    words_alone = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}))
    tokenizer = Joining(tokenizer_object=words_alone)  # type: ignore[no-untyped-call]
    ids = [1, 2, 3, 4, 0, 1]
    assert texts_of(tokenizer, [0], ids) == [" hel", "lo", " wor", "ld", " no", " hel@@"]
    assert decoded(tokenizer, [0, *ids]) == "no hello world no hel@@"


def test_tokens_that_are_only_named_like_bytes_are_text() -> None:
    tokenizer = of_pieces(["<0xE3>", "<0x41>", "a"], decoders.Fuse())
    assert texts_of(tokenizer, [2], [0, 1, 2]) == ["<0xE3>", "<0x41>", "a"]


def test_a_stop_string_of_byte_tokens_is_found() -> None:
    tokenizer = byte_fallback()
    texts = texts_of(tokenizer, encoded(tokenizer, "日"), encoded(tokenizer, "これは。よろ"))
    assert StopStrings(["。"]).find("".join(texts)) == 3
