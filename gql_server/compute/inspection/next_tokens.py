"""Tokens that a request names, by ID or by the text that they would add to a prompt."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.language_models.text_encoder import embedding_count, encoder_of
from gql_server.compute.language_models.token_labels import token_name
from gql_server.compute.language_models.token_text import TokenTexts
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import TokenProbability
from gql_server.protocol.tasks import TokenChoice

from mi_crow.language_model.language_model import LanguageModel

_MAX_SHOWN = 8


class NextTokens:
    """The tokens that may follow a prompt."""

    def __init__(self, lm: LanguageModel, text: str, is_chat: bool, token_ids: Sequence[int]) -> None:
        """Take the prompt, or the chat that has been made of it, and its token ids."""
        self._lm, self._text, self._is_chat = lm, text, is_chat
        self._texts = TokenTexts(lm.tokenizer, token_ids)
        self._n_embeddings = embedding_count(lm)

    def text_of(self, token_id: int) -> str:
        """Return what a token would add to the prompt, as a generation shows it."""
        return self._texts.preview(token_id)

    def probability(self, token_id: int, log_probabilities: Tensor) -> TokenProbability:
        """Return a token with its log-probability, of those [vocabulary] of all."""
        return TokenProbability(token_id, self.text_of(token_id), float(log_probabilities[token_id]))

    def find(self, choice: TokenChoice, argument: str) -> int:
        """Return the ID of a chosen token; ``argument`` is what it comes in.

        TaskError INVALID where the model has no such token, or a text is not one token.
        """
        if choice.token_id is not None:
            if not 0 <= choice.token_id < self._n_embeddings:
                limit = self._n_embeddings - 1
                reason = f"The language model's tokens are 0 to {limit}; there is no {choice.token_id}."
                raise TaskError(reason, "INVALID", (argument, "tokenId"))
            return choice.token_id
        text = choice.text or ""
        for ids in self._ways_to_write(text):
            if len(ids) == 1 and ids[0] < self._n_embeddings and self._is(ids[0], text):
                return ids[0]
        raise TaskError(self._why_not(text), "INVALID", (argument, "text"))

    def _ways_to_write(self, text: str) -> Iterator[list[int]]:
        """Give the ids of a text: after the prompt, by itself, and as the name of a token."""
        before, whole = (self._ids(self._text), self._ids(self._text + text))
        if whole[: len(before)] == before:
            yield whole[len(before) :]
        # Alone where the two would merge, as in "the" and "re".
        yield self._ids(text)
        named = self._lm.tokenizer.get_vocab().get(text)
        if named is not None:
            yield [named]

    def _ids(self, text: str) -> list[int]:
        return encoder_of(self._lm).encode_prompt(text, self._is_chat).of_text

    def _is(self, token_id: int, text: str) -> bool:
        return text in (self.text_of(token_id), token_name(self._lm.tokenizer, token_id))

    def _why_not(self, text: str) -> str:
        ids = next(self._ways_to_write(text))
        pieces = [repr(self.text_of(token_id)) for token_id in ids[:_MAX_SHOWN]]
        shown = ", ".join(pieces) + (", …" if len(ids) > _MAX_SHOWN else "")
        return (
            f"No token of the language model adds {text!r} to this prompt, which it would write as {shown}. "
            "Name one of these, or give a tokenId."
        )
