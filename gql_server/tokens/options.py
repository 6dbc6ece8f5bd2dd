"""What a tokenizer says of its tokens, and what a model's options make of that."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gql_server.tokens.edges import TextEdges, chosen_begin

Reason = Literal["NAMED", "ADDED", "CHAT_TEMPLATE", "FORM", "END_OF_TEXT", "VOCABULARY", "UNKNOWN", "SETTING"]


class SpecialToken(msgspec.Struct, frozen=True):
    """A token that a tokenizer's files mark in some way."""

    token_id: int
    text: str
    reason: Reason
    counts: bool
    """Whether it counts as content, unless people have said otherwise."""


class TokenizerFacts(msgspec.Struct, frozen=True):
    """What a load found out about a model's tokenizer; kept as JSON in its row."""

    special_tokens: list[SpecialToken]
    """By their ids."""
    begin_token_ids: list[int]
    """What the tokenizer writes before a text by itself."""
    end_token_ids: list[int]
    bos_token_id: int | None

    def edges(self, add_bos: bool | None) -> TextEdges:
        """Return what stands around a text where the option ``addBos`` is so."""
        begin = chosen_begin(self.begin_token_ids, self.bos_token_id, add_bos)
        return TextEdges(begin, tuple(self.end_token_ids))

    @property
    def can_begin(self) -> bool:
        """Whether there is anything to write before a text."""
        return bool(self.begin_token_ids) or self.bos_token_id is not None

    def special_ids(self, counts: Mapping[int, bool]) -> set[int]:
        """Return the ids of the tokens that do not count; ``counts`` is what people have said."""
        marked = {token.token_id for token in self.special_tokens if not token.counts}
        said = {token_id for token_id, counted in counts.items() if not counted}
        return (marked | said) - {token_id for token_id, counted in counts.items() if counted}


def facts_of(stored: dict[str, Any] | None) -> TokenizerFacts | None:
    """Return what a row keeps; None where the model was not loaded since there is such a thing."""
    return None if stored is None else msgspec.convert(stored, TokenizerFacts)


def counts_of(stored: Mapping[str, bool] | None) -> dict[int, bool]:
    """Return what people have said of tokens, as a row keeps it: JSON's keys are strings."""
    return {int(token_id): counted for token_id, counted in (stored or {}).items()}


def as_pairs(counts: Mapping[int, bool]) -> tuple[tuple[int, bool], ...]:
    """Return the same as a task has it."""
    return tuple(sorted(counts.items()))
