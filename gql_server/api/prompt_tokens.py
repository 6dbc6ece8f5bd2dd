"""Tokens of a prompt."""

import strawberry

from gql_server.api.common import object_type
from gql_server.protocol import events

CHAT = "Put each prompt through the tokenizer's chat template as a user's message."


@object_type
class PromptToken:
    """A token of a prompt."""

    index: int = strawberry.field(description="Its place in the prompt, counted from 0.")
    token_id: int = strawberry.field(description="Its number in the vocabulary.")
    text: str = strawberry.field(
        description=(
            "Its text: joined, those of all tokens of the prompt are the prompt. A character of several"
            " tokens belongs to the first of them; the others have an empty text. Special tokens that the"
            " prompt does not name have their names."
        )
    )
    label: str = strawberry.field(
        description=(
            "What to show of it by itself, never empty: its text, its name where it is special, its bytes,"
            " such as <0xF0>, where it is part of a character only."
        )
    )
    special: bool = strawberry.field(description="Special tokens are listed, but never counted in a ranking.")


def prompt_tokens(tokens: list[events.PromptToken]) -> list[PromptToken]:
    """Return a prompt's tokens as they are shown."""
    return [
        PromptToken(
            index=token.index,
            token_id=token.token_id,
            text=token.text,
            label=token.label or token.text,
            special=token.special,
        )
        for token in tokens
    ]
