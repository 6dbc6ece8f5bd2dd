"""How well SAEs stand in for their layers."""

import dataclasses
from datetime import datetime
from typing import Annotated, Any

import msgspec
import strawberry

from gql_server.api import jobs
from gql_server.api.common import BigInt, argument, field, input_type, mutation, object_type, request_of
from gql_server.api.context import Info
from gql_server.api.datasets import Dataset, DatasetInput, dataset_request
from gql_server.api.enums import DatasetKind
from gql_server.api.exclusions import EXCLUDE_FIRST_POSITIONS, EXCLUDE_OUTLIERS
from gql_server.api.launches import LaunchResult, job_launched
from gql_server.api.provenance import LanguageModelProvenance, language_model_provenance
from gql_server.api.references import JobRef
from gql_server.artifacts import provenance
from gql_server.services import evaluations as evaluation_service
from gql_server.services.requests import EvaluateRequest


@object_type
class SaeEvaluation:
    """Measured with the SAE's reconstruction in the layer's place, on every token that is neither padding nor
    special. Null where undefined or not finite.
    """

    job_id: strawberry.Private[str | None] = None
    dataset: Dataset = strawberry.field(description="The texts that it was measured on.")
    sample_offset: int = strawberry.field(
        description="How many texts were left out at the start of the dataset."
    )
    sample_limit: int | None = strawberry.field(
        description="How many texts were selected from there on, at most."
    )
    sample_count: int = strawberry.field(
        description="The texts with a token to measure on, among those selected."
    )
    max_length: int = strawberry.field(
        description=(
            "Tokens per text; longer texts were cut. As in the run that the SAE was trained on, else 128."
        )
    )
    token_count: BigInt = strawberry.field(description="The tokens that it was measured on.")
    predicted_token_count: BigInt = strawberry.field(
        description="The tokens among them that a token comes before: those that the losses are about."
    )
    mse: float | None = strawberry.field(description="Mean squared error per element.")
    explained_variance: float | None = strawberry.field(
        description="1 - sum((x - x̂)²) / sum((x - mean(x))²), the mean taken per input dimension."
    )
    l0: float | None = strawberry.field(description="Mean number of non-zero latents per token.")
    dead_fraction: float | None = strawberry.field(description="Share of neurons that never fired.")
    dead_window_tokens: BigInt = strawberry.field(
        description="The tokens over which a neuron must not fire to count as dead: those measured on."
    )
    cosine_similarity: float | None = strawberry.field(description="Mean cosine of x and x̂ per token.")
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
    truncated_text_count: int | None = strawberry.field(
        default=None,
        description="The texts among those selected that were cut; null where an earlier version measured.",
    )
    exclude_first_positions: int = strawberry.field(
        default=0, description="Tokens not measured on at the start of each text, special ones included."
    )
    exclude_outliers: float | None = strawberry.field(
        default=None,
        description="Tokens were not measured on whose activations are longer than so many times medianNorm.",
    )
    median_norm: float | None = strawberry.field(
        default=None,
        description=(
            "Median length of activations that outliers are told by: of the SAE's training or index, else of"
            " these texts; null where none was known or needed."
        ),
    )
    excluded_token_count: BigInt = strawberry.field(
        default=BigInt(0), description="Tokens that the two have left out; not among tokenCount."
    )
    non_finite_token_count: BigInt = strawberry.field(
        default=BigInt(0), description="Tokens left out because the layer's values are NaN or infinite there."
    )
    outlier_count: BigInt | None = strawberry.field(
        default=None,
        description=(
            "Tokens that are excluded, or longer than excludeOutliers, else 10, times medianNorm; null where"
            " that is."
        ),
    )
    explained_variance_with_outliers: float | None = strawberry.field(
        default=None, description="explainedVariance over all tokens, excluded ones among them."
    )
    explained_variance_without_outliers: float | None = strawberry.field(
        default=None, description="The same over those that are no outliers; null where outlierCount is."
    )
    evaluated_at: datetime = strawberry.field(description="When it was measured.")
    language_model: LanguageModelProvenance | None = strawberry.field(
        description="The model that it was measured with; null where an earlier version measured."
    )
    metric_definitions_version: int = strawberry.field(
        description="Grows when what a figure means changes; docs/evaluation.md has the definitions."
    )

    @field
    async def job(self, info: Info) -> JobRef | None:
        """The job that has measured it; null where an earlier version did."""
        return await jobs.job_of(info, self.job_id)


def sae_evaluation(stored: dict[str, Any]) -> SaeEvaluation:
    """Return what an SAE's row keeps as it is shown."""
    dataset = stored["dataset"]
    shown = Dataset(
        dataset_id=dataset.get("dataset_id"),
        kind=DatasetKind(dataset["kind"]),
        description=dataset["description"],
        sample_count=dataset["sample_count"],
        skipped_row_count=dataset.get("skipped_row_count", 0),
    )
    names = {field.name for field in dataclasses.fields(SaeEvaluation)}
    names -= {"dataset", "language_model", "evaluated_at"}
    statistics = {name: value for name, value in stored.items() if name in names}
    return SaeEvaluation(
        dataset=shown,
        sample_offset=dataset["sample_offset"],
        sample_limit=dataset.get("sample_limit"),
        language_model=language_model_provenance(
            msgspec.convert(stored.get("language_model"), provenance.LanguageModelProvenance | None)
        ),
        evaluated_at=datetime.fromisoformat(stored["evaluated_at"]),
        **statistics,
    )


# ------------------------------------------------------------------------------- mutations


@input_type
class EvaluateSaeInput:
    """An SAE to evaluate, and on what."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE.")
    dataset: DatasetInput = strawberry.field(
        description="The texts to measure on; rather none that it was trained on."
    )
    sample_offset: int = strawberry.field(
        default=0, description="Leave out this many texts at the start, such as those trained on."
    )
    sample_limit: int = strawberry.field(default=256, description="At most this many texts.")
    exclude_first_positions: int | None = strawberry.field(description=EXCLUDE_FIRST_POSITIONS)
    exclude_outliers: float | None = strawberry.field(description=EXCLUDE_OUTLIERS)
    idempotency_key: str | None = strawberry.field(
        description=(
            "A second request with the same key returns the first one's job; with the key but another"
            " input it is a Conflict."
        )
    )

    async def request(self) -> EvaluateRequest:
        """Return what the service is asked for."""
        return request_of(EvaluateRequest, self, dataset=dataset_request(self.dataset))


@strawberry.type
class EvaluationMutations:
    """Mutations of evaluations."""

    @mutation
    async def evaluate_sae(
        self, info: Info, input: Annotated[EvaluateSaeInput, argument("What to evaluate.")]
    ) -> LaunchResult:
        """Queues a job that measures an SAE in its layer's place; its figures come first in
        Sae.evaluations.
        """
        request = await input.request()
        return job_launched(await evaluation_service.evaluate(info.context.server, request))
