"""How an SAE was trained: its configuration, its history, and what a training is asked for."""

from dataclasses import fields
from typing import Any

import strawberry
from sqlalchemy import Row

from gql_server.api.common import BigInt, finite, finite_number, input_type, object_type, request_of
from gql_server.formats.sae_classes import RECOMMENDED
from gql_server.services.requests import TrainRequest
from models import TrainingPoint as TrainingPointRow


@object_type
class TrainingConfig:
    """As it was, defaults filled in."""

    epochs: int = strawberry.field(description="Passes over the run's tokens.")
    batch_size: int = strawberry.field(description="Tokens per step.")
    k: int | None = strawberry.field(
        description="Active neurons per token; null for a class that does not fix it."
    )
    learning_rate: float = strawberry.field(description="At the start.")
    l1_lambda: float = strawberry.field(description="Weight of the sparsity penalty; 0 where there is none.")
    seed: int = strawberry.field(description="Of the weights and of the order of the tokens.")
    device: str = strawberry.field(description="Where it was computed.")
    exclude_first_positions: int = strawberry.field(
        description="Tokens left out at the start of each text, special ones included; 0 for none."
    )
    exclude_outliers: float | None = strawberry.field(
        description="Tokens were left out whose activations are longer than so many times medianNorm."
    )
    median_norm: float | None = strawberry.field(
        description=(
            "Median length of the run's activations, over all tokens that are neither padding nor special;"
            " null where an earlier version trained it."
        )
    )
    group_fractions: list[float] | None = strawberry.field(
        description="As TrainSaeInput.groupFractions; null where there was one group."
    )


@object_type
class SaeOutliers:
    """Tokens of a training's run whose activations are far longer than the others', and what they do to the
    finished SAE's explained variance. docs/metrics.md has the definitions.
    """

    median_norm: float = strawberry.field(description="As TrainingConfig.medianNorm.")
    multiple: float = strawberry.field(
        description=(
            "Outliers are tokens longer than so many times the median: excludeOutliers, else 10. Those that"
            " the training has left out are outliers too."
        )
    )
    token_count: BigInt = strawberry.field(
        description="Tokens measured: all that are neither padding nor special, or a sample of a large run."
    )
    outlier_count: BigInt = strawberry.field(description="Outliers among them.")
    explained_variance_with_outliers: float | None = strawberry.field(
        description="As SaeEvaluation.explainedVariance, on all of them; null where undefined."
    )
    explained_variance_without_outliers: float | None = strawberry.field(
        description="The same on those that are no outliers; null where undefined."
    )


@object_type
class TrainingPoint:
    """Averages over the steps since the point before. Null where undefined or not finite."""

    step: int = strawberry.field(description="Steps so far.")
    epoch: int = strawberry.field(description="The pass that the step belongs to, counted from 0.")
    token_count: BigInt = strawberry.field(description="Tokens seen so far.")
    loss: float | None = strawberry.field(description="What the training makes smaller.")
    mse: float | None = strawberry.field(description="Mean squared error per element.")
    explained_variance: float | None = strawberry.field(
        description="1 - sum((x - x̂)²) / sum((x - mean(x))²), the mean taken per input dimension."
    )
    l0: float = strawberry.field(description="Mean number of non-zero latents per token.")
    dead_fraction: float | None = strawberry.field(
        description=("Share of neurons that have not fired over the last full window of training tokens.")
    )
    learning_rate: float = strawberry.field(description="At this step.")
    tokens_per_second: float = strawberry.field(description="Tokens trained on in a second.")


def training_config(config: dict[str, Any]) -> TrainingConfig:
    """Return a stored configuration as it is shown."""
    return TrainingConfig(
        epochs=config["epochs"],
        batch_size=config["batch_size"],
        k=config["k"],
        learning_rate=finite_number(config["learning_rate"]),
        l1_lambda=finite_number(config["l1_lambda"]),
        seed=config["seed"],
        device=config["device"],
        exclude_first_positions=config.get("exclude_first_positions", 0),
        exclude_outliers=finite(config.get("exclude_outliers")),
        median_norm=finite(config.get("median_norm")),
        group_fractions=config.get("group_fractions"),
    )


def sae_outliers(stored: dict[str, Any]) -> SaeOutliers:
    """Return what is stored of outliers as the API shows it."""
    return SaeOutliers(**stored)


def training_point(stored: dict[str, Any]) -> TrainingPoint:
    """Return a point as it is shown, from the payload of its event."""
    shown = dict(stored)
    for name in ("loss", "mse", "explained_variance", "dead_fraction"):
        shown[name] = finite(stored[name])
    for name in ("l0", "learning_rate", "tokens_per_second"):
        shown[name] = finite_number(stored[name])
    return TrainingPoint(**shown)


def training_point_of_row(row: TrainingPointRow | Row[Any]) -> TrainingPoint:
    """Return a row as it is shown."""
    return training_point({field.name: getattr(row, field.name) for field in fields(TrainingPoint)})


@input_type
class TrainSaeInput:
    """An SAE to train."""

    activation_run_id: strawberry.ID = strawberry.field(description="The activations to train on.")
    layer: str | None = strawberry.field(description="May be left out where the run has one layer.")
    name: str | None = strawberry.field(description="A name for people; the server makes one if left out.")
    sae_class: str = strawberry.field(default=RECOMMENDED, description="One of Server.saeClasses.")
    latent_count: int | None = strawberry.field(description="Neurons; 8 times the layer's width if left out.")
    k: int | None = strawberry.field(description="Required where SaeClassInfo.needsK, as for the default.")
    epochs: int = strawberry.field(default=1, description="Passes over the run's tokens.")
    batch_size: int = strawberry.field(default=1024, description="Tokens per step.")
    learning_rate: float | None = strawberry.field(
        description=(
            "Chosen for the class and size if left out, like the next; TrainingConfig says what was chosen."
        )
    )
    l1_lambda: float | None = strawberry.field(description="Where SaeClassInfo.usesL1Lambda, as for L1Sae.")
    seed: int = strawberry.field(
        default=0, description="The same seed gives the same SAE on the same machine."
    )
    device: str | None = strawberry.field(description="One of Server.devices; the first of them if left out.")
    exclude_first_positions: int = strawberry.field(
        default=0,
        description=(
            "Leave out so many tokens at the start of each text, counted from its own first token, special"
            " ones included. Index, evaluation and steering of the SAE leave out the same."
        ),
    )
    exclude_outliers: float | None = strawberry.field(
        description=(
            "Leave out tokens whose activations are longer than so many times the median over the run, 10"
            " say; none if left out or 0. Index, evaluation and steering of the SAE leave out the same."
        )
    )
    group_fractions: list[float] | None = strawberry.field(
        default=None,
        description=(
            "Of BatchTopKSae alone: trains a Matryoshka SAE (Bussmann et al. 2025), whose neurons are in"
            " nested groups. The first group, the first two, and so on, each have to reconstruct by"
            " themselves, so that early neurons stay general. Shares of the neurons, 2 to 16 of them, whose"
            " sum is 1; one group if left out."
        ),
    )
    index_neurons: bool = strawberry.field(
        default=True,
        description=(
            "When trained, queue an INDEX_NEURONS job for it; that one's failure leaves the SAE READY."
        ),
    )
    idempotency_key: str | None = strawberry.field(
        description=(
            "A second request with the same key returns the first one's job; with the key but another"
            " input it is a Conflict."
        )
    )

    def request(self) -> TrainRequest:
        """Return what the service is asked for."""
        return request_of(TrainRequest, self)
