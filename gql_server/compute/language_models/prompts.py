"""Prompts as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.context import TaskError
from gql_server.compute.language_models.loading import position_limit, special_token_ids
from gql_server.compute.messages.results import PromptToken
from gql_server.tokens import pieces

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
    lm: LanguageModel, prompts: Sequence[str], chat: bool = False, path: str = "prompts"
) -> list[EncodedPrompt]:
    """Tokenise prompts, through the chat template where asked.

    TaskError (INVALID) where there is no template (chat), or a prompt is longer than the model (``path``,
    the name of the argument that the prompts come in, and the prompt's index).
    """
    texts = [chat_text(lm, prompt) for prompt in prompts] if chat else list(prompts)
    limit = position_limit(lm)
    encoded = []
    for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        # A chat template writes the special tokens itself; the tokenizer would put a second one before them.
        tokens = _tokens(lm, text, add_special_tokens=not chat)
        if limit is not None and len(tokens) > limit:
            reason = f"Prompt {index} has {len(tokens)} tokens; the language model takes at most {limit}."
            raise TaskError(reason, "INVALID", (path, str(index)))
        encoded.append(EncodedPrompt(prompt, tokens))
    return encoded


def chat_text(lm: LanguageModel, prompt: str) -> str:
    """Put a prompt through the tokenizer's chat template as a user's message."""
    if not getattr(lm.tokenizer, "chat_template", None):
        raise TaskError(
            "The language model's tokenizer has no chat template; use chat: false.", "INVALID", ("chat",)
        )
    messages = [{"role": "user", "content": prompt}]
    text = lm.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return str(text)


def _tokens(lm: LanguageModel, text: str, add_special_tokens: bool) -> list[PromptToken]:
    tokenizer, special = lm.tokenizer, special_token_ids(lm)
    if tokenizer.is_fast:
        encoding = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
        ids, texts = encoding["input_ids"], pieces(text, encoding["offset_mapping"])
    else:
        ids = tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        texts = [tokenizer.decode([token_id]) for token_id in ids]
    return [
        PromptToken(index, token_id, piece or _name(lm, token_id, special), token_id in special)
        for index, (token_id, piece) in enumerate(zip(ids, texts, strict=True))
    ]


def _name(lm: LanguageModel, token_id: int, special: set[int]) -> str:
    """Name a special token that stands nowhere in the text."""
    return str(lm.tokenizer.convert_ids_to_tokens(token_id)) if token_id in special else ""
