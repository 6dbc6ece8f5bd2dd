"""How well SAEs stand in for their layers."""

from datetime import datetime

import strawberry

from gql_server.api.common import BigInt, object_type
from gql_server.api.datasets import Dataset


@object_type
class SaeEvaluation:
    """Measured with the SAE's reconstruction in the layer's place, on every token that is neither padding nor
    special. Null where undefined or not finite.
    """

    dataset: Dataset = strawberry.field(description="The texts that it was measured on.")
    token_count: BigInt = strawberry.field(description="The tokens that it was measured on.")
    mse: float | None = strawberry.field(description="Mean squared error per element.")
    explained_variance: float | None = strawberry.field(
        description="1 - sum((x - x̂)²) / sum((x - mean(x))²), the mean taken per input dimension."
    )
    l0: float | None = strawberry.field(description="Mean number of non-zero latents per token.")
    dead_fraction: float | None = strawberry.field(description="Share of neurons that never fired.")
    cosine_similarity: float | None = strawberry.field(description="Mean cosine of x and x̂.")
    relative_reconstruction_bias: float | None = strawberry.field(
        description="Mean of |x̂|² over mean of x·x̂; 1 is unbiased."
    )
    ce_loss_original: float | None = strawberry.field(
        description="Mean cross-entropy per predicted token, in nats: the model as it is."
    )
    ce_loss_reconstructed: float | None = strawberry.field(description="The same with the reconstruction.")
    ce_loss_zero_ablated: float | None = strawberry.field(description="The same with the layer zeroed.")
    ce_loss_recovered: float | None = strawberry.field(
        description="(zeroAblated - reconstructed) / (zeroAblated - original)."
    )
    kl_divergence_reconstructed: float | None = strawberry.field(
        description="Mean KL divergence of these predictions from the model's own, in nats."
    )
    evaluated_at: datetime = strawberry.field(description="When it was measured.")
