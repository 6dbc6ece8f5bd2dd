"""Generated tokens as text, one after the other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedTokenizerBase

_CONTEXT_TOKENS = 8
"""Tokens that are decoded along with a new one; up to twice as many, and more where they cannot be cut."""
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class _Decoded:
    """The end of the text so far."""

    token_ids: tuple[int, ...] = ()
    text: str = ""
    """What these tokens are, decoded."""
    n_given: int = 0
    """How many characters of it have been given out; the next token may change the others."""
    byte_ids: tuple[int, ...] = ()
    """Byte tokens that begin a character; they are not among ``token_ids``."""
    n_silent: int = 0
    """Broken characters, not given out yet, that the prompt's text ends with: they are none of the output."""


class TokenTexts:
    """Decodes tokens so that their texts joined are what ``decode`` has after the prompt's text.

    A character that several tokens make comes whole with the last of them, and the others have "". Bytes that
    make no character become U+FFFD. Some tokens before are decoded along, because some tokenizers write a
    token differently at the beginning; special tokens that begin the prompt are not, being none of the text.

    Trap: with byte tokens (<0xE3>) ``decode`` turns a whole run into U+FFFD as soon as one byte does not fit,
    characters that have been given out long before included. So whether bytes make a character is decided
    here, one after the other, and only those that do are decoded.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._has_byte_tokens = self._is_byte(tokenizer.convert_tokens_to_ids("<0xE3>"))
        before = _Decoded()
        for token_id in self._end_of(prompt_ids):
            before, _ = self._after(before, token_id)
        rest = _rest(before)
        self._before = replace(before, n_silent=len(rest) if set(rest) == {_BROKEN} else 0)

    def add(self, token_id: int, last: bool = False) -> str:
        """Return the text that a token adds; the last one also brings what is left of a broken character."""
        self._before, text = self._after(self._before, token_id)
        return text + self.rest() if last else text

    def preview(self, token_id: int) -> str:
        """Return the text that a token would add if it were the last one."""
        after, text = self._after(self._before, token_id)
        return text + _rest(after)

    def rest(self) -> str:
        """Return what tokens so far have left of a broken character."""
        return _rest(self._before)

    def _end_of(self, prompt_ids: Sequence[int]) -> Sequence[int]:
        """Return the last tokens of the prompt that have a text to go on from."""
        special = set(self._tokenizer.all_special_ids)
        begin = next((i for i, token_id in enumerate(prompt_ids) if token_id not in special), len(prompt_ids))
        ids, n_tokens = prompt_ids[begin:], _CONTEXT_TOKENS
        while n_tokens < len(ids) and not self._decode(ids[-n_tokens:]).strip():
            n_tokens *= 2
        return ids[-n_tokens:]

    def _after(self, before: _Decoded, token_id: int) -> tuple[_Decoded, str]:
        """Return what is after one more token, and the text that it adds."""
        if self._has_byte_tokens and self._is_byte(token_id):
            after, text = self._after_byte(before, token_id)
        else:
            text = _BROKEN * len(before.byte_ids)
            after, added = self._after_text(replace(before, byte_ids=()), token_id)
            text += added
        if not text:
            return after, ""
        return replace(after, n_silent=0), _without_first(text, before.n_silent)

    def _after_byte(self, before: _Decoded, token_id: int) -> tuple[_Decoded, str]:
        ids, text = (*before.byte_ids, token_id), ""
        while ids:
            state = _state_of(bytes(self._byte(byte_id) for byte_id in ids))
            if state == "BEGUN":
                break
            if state == "BROKEN":
                text, ids = text + _BROKEN, ids[1:]
                continue
            whole = (*before.token_ids, *ids)
            decoded = self._decode(whole)
            text += decoded[before.n_given :]
            before, ids = self._cut(_Decoded(whole, decoded, len(decoded), (), before.n_silent)), ()
        return replace(before, byte_ids=ids), text

    def _after_text(self, before: _Decoded, token_id: int) -> tuple[_Decoded, str]:
        ids = (*before.token_ids, token_id)
        text = self._decode(ids)
        # Some tokens are written differently once another one follows, and so is half a character.
        n_given = _n_equal(text, self._decode((*ids, token_id)))
        if not self._has_byte_tokens and text[:n_given].endswith(_BROKEN):
            n_given -= 1
        n_given = max(n_given, before.n_given)
        after = self._cut(_Decoded(ids, text, n_given, (), before.n_silent))
        return after, text[before.n_given : n_given]

    def _cut(self, decoded: _Decoded) -> _Decoded:
        """Leave out tokens of long ago, if the others are decoded as they are with them."""
        if len(decoded.token_ids) <= 2 * _CONTEXT_TOKENS:
            return decoded
        ids = decoded.token_ids[-_CONTEXT_TOKENS:]
        text = self._decode(ids)
        n_left = len(decoded.text) - decoded.n_given
        if not text.strip() or len(text) < n_left or not decoded.text.endswith(text):
            return decoded
        return replace(decoded, token_ids=ids, text=text, n_given=len(text) - n_left)

    def _is_byte(self, token_id: object) -> bool:
        """Say whether a token stands for a byte, and is not only called as one."""
        if not isinstance(token_id, int):
            return False
        name = str(self._tokenizer.convert_ids_to_tokens(token_id))
        return _BYTE.fullmatch(name) is not None and self._decode([token_id]) != name

    def _byte(self, token_id: int) -> int:
        return int(str(self._tokenizer.convert_ids_to_tokens(token_id))[3:5], 16)

    def _decode(self, token_ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)


def _state_of(values: bytes) -> Literal["WHOLE", "BEGUN", "BROKEN"]:
    """Say whether bytes are a character, or the beginning of one."""
    try:
        values.decode()
    except UnicodeDecodeError as error:
        return "BEGUN" if error.start == 0 and error.reason == "unexpected end of data" else "BROKEN"
    return "WHOLE"


def _n_equal(text: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((i for i, (one, two) in pairs if one != two), min(len(text), len(other)))


def _rest(decoded: _Decoded) -> str:
    rest = decoded.text[decoded.n_given :] + _BROKEN * len(decoded.byte_ids)
    return _without_first(rest, decoded.n_silent)


def _without_first(text: str, n_broken: int) -> str:
    """Strip at most ``n_broken`` broken characters from the text's beginning."""
    n_first = len(text) - len(text.lstrip(_BROKEN))
    return text[min(n_first, n_broken) :]


@dataclass(frozen=True)
class StopStrings:
    """Strings at which an output ends; they are no part of it."""

    strings: Sequence[str]

    def find(self, text: str) -> int | None:
        """Return where the first of them begins in a text, or None."""
        places = [place for place in (text.find(string) for string in self.strings) if place >= 0]
        return min(places, default=None)

    def safe_length(self, text: str) -> int:
        """Return up to where no stop string can begin that the text's end may yet become."""
        longest = max((_overlap(text, string) for string in self.strings), default=0)
        return len(text) - longest


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest end of ``text`` that ``string`` begins with, short of all of it."""
    for length in range(min(len(text), len(string) - 1), 0, -1):
        if text.endswith(string[:length]):
            return length
    return 0
