"""Text that can stand in a line of a log or on a terminal without doing anything there."""

import unicodedata

_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that turn the writing direction (UAX #9); letters of right-to-left scripts are none of them."""
_BREAKING = ("Cc", "Zl", "Zp")


def _acts(character: str) -> bool:
    return character in _BIDIRECTIONAL or unicodedata.category(character) in _BREAKING


def is_plain(text: str) -> bool:
    """Whether a text has no control character, no end of a line, and no mark of the writing direction."""
    return not any(map(_acts, text))


def plain(text: str) -> str:
    """Return a text with a replacement character for each that is not plain."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _acts(character) else character for character in text)


def plain_lines(text: str) -> str:
    """Return a text with its lines as they are, and each of them plain."""
    return text if text.isascii() and text.isprintable() else "\n".join(map(plain, text.split("\n")))
