"""What a reader tells of tokens, from the tokenizer that a load of the language model has left behind."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gql_server.tokens.edges import TextEdges, edges_of
from gql_server.tokens.options import counts_of, facts_of
from gql_server.tokens.spans import text_of
from gql_server.tokens.token_texts_file import token_texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from models import LanguageModel


@dataclass(frozen=True)
class TokenizerFiles:
    """A language model's tokenizer on disk, and what the model's options make of it."""

    directory: Path
    edges: TextEdges | None = None
    special_ids: frozenset[int] | None = None
    """As of the last load, as the edges are, where they are None."""
    add_bos: bool | None = None
    """The model's option; None where the tokenizer decides."""

    @staticmethod
    def of(directory: Path, language_model: "LanguageModel | None" = None) -> "TokenizerFiles":
        """Take the options of a language model; without its row, those of its last load."""
        facts = facts_of(language_model.tokenizer) if language_model else None
        if language_model is None or facts is None:
            return TokenizerFiles(directory)
        special = facts.special_ids(counts_of(language_model.token_counts))
        add_bos = language_model.add_bos
        return TokenizerFiles(directory, facts.edges(add_bos), frozenset(special), add_bos)


def token_counts(files: TokenizerFiles, prompts: Sequence[str], are_chats: bool = False) -> list[int] | None:
    """Return each prompt's number of tokens; None where the tokenizer has no file of that kind.

    A chat template writes a beginning of its own, and gets another one where the model's option asks for it.
    """
    counter = TokenCounter.read(files)
    if counter is None:
        return None
    whole = not are_chats or files.add_bos is True
    return [counter.count(prompt, whole) for prompt in prompts]


def texts_of_tokens(directory: Path, token_ids: Sequence[int]) -> Sequence[str | None]:
    """Return what tokens of a language model's copy stand for; None where that cannot be told."""
    counter = TokenCounter.read(TokenizerFiles(directory))
    return counter.texts_of(token_ids) if counter else token_texts(directory, token_ids)


class TokenCounter:
    """Tells how many tokens of a text count, those that are not special, and what a token stands for."""

    def __init__(self, tokenizer: "Tokenizer", edges: TextEdges, special_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._edges = edges
        self._special_ids = special_ids

    @staticmethod
    def read(files: TokenizerFiles) -> "TokenCounter | None":
        """Return the counter that a tokenizer's files make, or None where it has no file of that kind."""
        try:
            written_at = (files.directory / "tokenizer.json").stat().st_mtime_ns
            counter = _read(files.directory, written_at)
        except FileNotFoundError:
            return None
        if files.edges is None or files.special_ids is None:
            return counter
        return TokenCounter(counter._tokenizer, files.edges, files.special_ids)

    def count(self, text: str, whole: bool = True) -> int:
        """Return the number of tokens of a prompt, special ones among them; nothing stands behind it.

        ``whole`` says that what stands before each text counts as well.
        """
        ids = self._ids(text)
        return (len(self._edges.before(ids)) if whole else 0) + len(ids)

    def texts_of(self, token_ids: Sequence[int]) -> list[str]:
        """Return what tokens stand for."""
        return [text_of(self._tokenizer, token_id) for token_id in token_ids]

    def any_counts(self, texts: Iterable[str]) -> bool:
        """Whether any text has a token that counts."""
        return any(token not in self._special_ids for text in texts for token in self._ids(text))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


@lru_cache(maxsize=4)
def _read(copy_directory: Path, _written_at: int) -> TokenCounter:
    """Read a tokenizer once for each time that it was written: that takes up to a second."""
    from tokenizers import Tokenizer

    special = json.loads((copy_directory / "special_token_ids.json").read_text())
    tokenizer = Tokenizer.from_file(str(copy_directory / "tokenizer.json"))
    return TokenCounter(tokenizer, edges_of(tokenizer), frozenset(special))
