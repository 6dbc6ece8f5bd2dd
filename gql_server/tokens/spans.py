"""What stretch of a text each of its tokens stands for, and what a token stands for by itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def pieces(text: str, offsets: Sequence[tuple[int, int]]) -> list[str]:
    """Return the text of each token, given where each begins and ends in ``text``, in characters.

    The pieces joined are the text from the first token's begin to the last one's end: what lies between two
    tokens (a space that the tokenizer leaves out) goes to the second; a character split over several tokens
    to the first of them, and the others get "". So do special tokens, whose offsets are empty.
    """
    result = []
    done: int | None = None
    for begin, end in offsets:
        if begin == end:
            result.append("")
            continue
        begin = begin if done is None else done
        done = max(begin, end)
        result.append(text[begin:done])
    return result


def covering(text: str, found: Sequence[str], begin: int = 0) -> list[str]:
    """Return tokens' pieces with what the first and the last one leave out of a whole text.

    ``begin`` is where in the text they begin, joined; tokenizers drop spaces at its ends. What comes out is
    the text, joined, unless no token has any.
    """
    result = list(found)
    filled = [place for place, piece in enumerate(result) if piece]
    if filled:
        end = begin + sum(map(len, result))
        result[filled[0]] = text[:begin] + result[filled[0]]
        result[filled[-1]] += text[end:]
    return result


_MAX_SKIPPED = 64
"""Characters of a text that tokens in between may have lost."""


def aligned(text: str, alone: Sequence[str]) -> list[str]:
    """Return the pieces of a text that tokens stand for, given what each is decoded to by itself.

    For tokenizers that do not tell offsets. What lies between two tokens goes to the second; a token that is
    not found in the text gets "".
    """
    result: list[str] = []
    lowered = text.lower() if len(text.lower()) == len(text) else text
    done = 0
    for piece in alone:
        core = (piece.strip() or piece).lower()
        place = lowered.find(core, done, done + len(core) + _MAX_SKIPPED) if core else -1
        end = done if place < 0 else place + len(core)
        result.append(text[done:end])
        done = end
    return result


def text_of(tokenizer: "Tokenizer", token_id: int) -> str:
    """Return what a token stands for inside a text, its leading space included.

    A token that is part of a character only is shown by its name in the vocabulary.
    """
    alone: str = tokenizer.decode([token_id], skip_special_tokens=False)
    text = alone
    if tokenizer.decoder is not None:
        # Some decoders drop the space before a text's first token, so what the second one adds is taken.
        twice: str = tokenizer.decode([token_id, token_id], skip_special_tokens=False)
        text = twice.removeprefix(alone) if twice.startswith(alone) else alone
    return text if text and "\ufffd" not in text else tokenizer.id_to_token(token_id) or ""
