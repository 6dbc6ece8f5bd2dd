"""What stretch of a text each of its tokens stands for."""

from collections.abc import Sequence


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
