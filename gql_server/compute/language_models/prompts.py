"""Prompts as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.language_models.loading import position_limit, special_token_ids
from gql_server.compute.language_models.text_encoder import (
    PromptIds,
    check_embedded,
    embedding_count,
    encoder_of,
)
from gql_server.compute.language_models.token_labels import decoded_each, token_label, token_name
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import PromptToken
from gql_server.tokens.spans import aligned, covering, pieces

from mi_crow.language_model.language_model import LanguageModel


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the model sees it, special tokens included."""

    prompt: str
    tokens: list[PromptToken]

    @property
    def token_ids(self) -> list[int]:
        """Return the ids alone."""
        return [token.token_id for token in self.tokens]


def encode_prompts(
    lm: LanguageModel, prompts: Sequence[str], chats: Sequence[str] | None = None, path: str = "prompts"
) -> list[EncodedPrompt]:
    """Tokenize prompts to go on from, or what a chat template has made of them.

    TaskError (INVALID) where a prompt is longer than the model or has a token that it has no embedding for
    (``path``, the name of the argument that the prompts come in, and the prompt's index).
    """
    texts = prompts if chats is None else chats
    limit, n_embeddings = position_limit(lm), embedding_count(lm)
    encoded = []
    for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        tokens = _tokens(lm, text, chats is not None)
        ids, place = [token.token_id for token in tokens], (path, str(index))
        check_embedded(lm, ids, f"Prompt {index}", place, n_embeddings)
        if limit is not None and len(tokens) > limit:
            reason = f"Prompt {index} has {len(tokens)} tokens; the language model takes at most {limit}."
            raise TaskError(reason, "INVALID", place)
        encoded.append(EncodedPrompt(prompt, tokens))
    return encoded


def _tokens(lm: LanguageModel, text: str, chat: bool) -> list[PromptToken]:
    special, tokenizer = special_token_ids(lm), lm.tokenizer
    ids = encoder_of(lm).encode_prompt(text, chat)
    texts = [token_name(tokenizer, token_id) for token_id in ids.before] + _texts(tokenizer, text, ids)
    return [
        PromptToken(
            index,
            token_id,
            piece,
            token_id in special,
            token_label(tokenizer, token_id, "" if token_id in special else piece),
        )
        for index, (token_id, piece) in enumerate(zip(ids.before + ids.of_text, texts, strict=True))
    ]


def _texts(tokenizer: Any, text: str, ids: PromptIds) -> list[str]:
    """Return the text of each token of a text's own; joined, they are the text."""
    if ids.offsets is None:
        return covering(text, aligned(text, decoded_each(tokenizer, ids.of_text)))
    begin = next((begin for begin, end in ids.offsets if begin < end), 0)
    return covering(text, pieces(text, ids.offsets), begin)
