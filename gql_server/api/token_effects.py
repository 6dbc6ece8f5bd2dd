"""The output tokens that a neuron raises and lowers."""

import math

import strawberry

from gql_server.api.common import object_type
from gql_server.api.context import Info
from gql_server.api.loaders import TokenKey
from gql_server.services.cursors import check_first
from gql_server.services.neuron_tensors import Ranked

MAX_RANKED = 50
"""Tokens and neurons that an index keeps for each neuron."""


@object_type
class TokenEffect:
    """How much a neuron raises or lowers an output token."""

    token: str = strawberry.field(
        description="The token's text; one that is part of a character only, by its name in the vocabulary."
    )
    token_id: int = strawberry.field(description="Its number in the vocabulary.")
    effect: float = strawberry.field(
        description=(
            "Direct effect on the token's logit per unit of the neuron's activation, before the final norm's"
            " division: divide by the size of the residual stream there (root mean square; with a LayerNorm,"
            " standard deviation) to have logits. Comparable between an SAE's tokens and neurons."
        )
    )


def check_ranked(first: int) -> None:
    """Refuse more than an index keeps."""
    check_first(first, maximum=MAX_RANKED)


async def token_effects(
    info: Info, language_model_id: str, ranked: Ranked | None, first: int
) -> list[TokenEffect] | None:
    """Return ranked tokens as they are shown; None where they cannot be told, or not what they stand for."""
    entries = ranked.entries(first) if ranked else []
    if ranked is None or not all(math.isfinite(effect) for _, effect in entries):
        return None
    texts = await info.context.loaders.token_texts.load_many(
        [TokenKey(language_model_id, token_id) for token_id, _ in entries]
    )
    shown = [
        TokenEffect(token=text, token_id=token_id, effect=effect)
        for text, (token_id, effect) in zip(texts, entries, strict=True)
        if text is not None
    ]
    return shown if len(shown) == len(entries) else None
