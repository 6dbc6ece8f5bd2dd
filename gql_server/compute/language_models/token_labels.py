"""What to show of a token by itself, also where it is part of a character only."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

BROKEN = "\N{REPLACEMENT CHARACTER}"
_MAX_BYTES = 4
"""Bytes of the longest character in UTF-8."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_label(tokenizer: Any, token_id: int, text: str) -> str:
    """Return what to show of a token that stands for ``text`` in a prompt.

    Of one that is part of a character, its bytes: <0xF0>. Else the text, or its name where that is empty.
    """
    name = token_name(tokenizer, token_id)
    if is_part(tokenizer, token_id):
        raw = _bytes_of(name)
        return name if raw is None else _readable(raw)
    return text or name


def is_part(tokenizer: Any, token_id: int) -> bool:
    """Whether a token has bytes that are no whole character; some tokenizers decode these to nothing."""
    alone = decoded(tokenizer, [token_id])
    if alone:
        return BROKEN in alone
    raw = _bytes_of(token_name(tokenizer, token_id))
    return raw is not None and _readable(raw) != raw.decode(errors="ignore")


def token_name(tokenizer: Any, token_id: int) -> str:
    """Return a token's name in the vocabulary."""
    return str(tokenizer.convert_ids_to_tokens(token_id))


def token_text(tokenizer: Any, token_id: int) -> str:
    """Return what a token stands for inside a text, as tokens.text_of does for others."""
    alone, twice = decoded(tokenizer, [token_id]), decoded(tokenizer, [token_id, token_id])
    text = twice.removeprefix(alone) if twice.startswith(alone) else alone
    return text if text and BROKEN not in text else token_name(tokenizer, token_id)


def decoded(tokenizer: Any, token_ids: list[int]) -> str:
    """Return the text that tokens stand for, special ones by their names."""
    return str(tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def decoded_each(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return what tokens stand for; those that make a character together give it to their first one."""
    result: list[str] = []
    group: list[int] = []
    for token_id in ids:
        group.append(token_id)
        text = decoded(tokenizer, group)
        whole = not text.endswith(BROKEN) and (text != "" or not is_part(tokenizer, token_id))
        if whole or len(group) == _MAX_BYTES:
            result += [text if whole else "", *[""] * (len(group) - 1)]
            group = []
    return result + [""] * len(group)


def _bytes_of(name: str) -> bytes | None:
    """Return the bytes that a token's name writes: as <0xF0>, in GPT-2's alphabet, or one by its number."""
    if found := _BYTE.fullmatch(name):
        return bytes.fromhex(found[1])
    alphabet = _alphabet()
    if all(letter in alphabet for letter in name):
        return bytes(alphabet[letter] for letter in name)
    return bytes([ord(name)]) if len(name) == 1 and ord(name) < 256 else None


@cache
def _alphabet() -> dict[str, int]:
    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def _readable(raw: bytes) -> str:
    """Return bytes as text, those that are no whole character by their numbers."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        numbers = "".join(f"<0x{byte:02X}>" for byte in raw[error.start : error.end])
        return raw[: error.start].decode() + numbers + _readable(raw[error.end :])
