"""Generated tokens as text, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

_CONTEXT_TOKENS = 8
_BROKEN = "\N{REPLACEMENT CHARACTER}"


class TokenTexts:
    """Decodes tokens so that their texts joined are the text.

    A character that several tokens make comes whole with the last of them, and the others have "". The tokens
    before are decoded along, because some tokenizers write a token differently at the beginning.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._context = list(prompt_ids[-_CONTEXT_TOKENS:])
        self._pending: list[int] = []

    def add(self, token_id: int, last: bool = False) -> str:
        """Return the text that a token adds; the last one also brings what is left of a broken character."""
        self._pending.append(token_id)
        text = self._added(self._pending)
        if text.endswith(_BROKEN) and not last:
            return ""
        self._context = (self._context + self._pending)[-max(_CONTEXT_TOKENS, len(self._pending)) :]
        self._pending = []
        return text

    def preview(self, token_id: int) -> str:
        """Return the text that a token would add."""
        return self._added([*self._pending, token_id])

    def rest(self) -> str:
        """Return what tokens so far have left of a broken character."""
        return self._added(self._pending) if self._pending else ""

    def _added(self, token_ids: list[int]) -> str:
        before = self._decode(self._context)
        return self._decode(self._context + token_ids)[len(before) :]

    def _decode(self, token_ids: list[int]) -> str:
        text = self._tokenizer.decode(
            token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)


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
