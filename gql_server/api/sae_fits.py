"""How imported SAEs fit their layers."""

from typing import Any

import msgspec
import strawberry

from gql_server.api.common import from_row, object_type
from gql_server.protocol import results


@object_type
class SaeFit:
    """What an imported SAE reconstructs of its layer's output on a few built-in texts: a look, which takes
    seconds, and no evaluation (evaluateSae). Special tokens, the first position of each text and outliers
    do not count.
    """

    explained_variance: float | None = strawberry.field(
        description="As SaeEvaluation.explainedVariance; null where undefined."
    )
    l0: float | None = strawberry.field(description="Active neurons per token, on average.")
    stated_l0: float | None = strawberry.field(
        description="Active neurons per token that the source states: k, or L0; null where it does not."
    )
    mean_norm: float | None = strawberry.field(description="Mean length of the layer's activations.")
    text_count: int = strawberry.field(description="Built-in texts.")
    token_count: int = strawberry.field(description="Their tokens that counted.")
    warnings: list[str] = strawberry.field(
        description="What is far off, with likely reasons; none where it fits."
    )


def sae_fit(content: dict[str, Any]) -> SaeFit:
    """Return a stored fit as it is shown."""
    return from_row(SaeFit, msgspec.convert(content, results.SaeFit))
