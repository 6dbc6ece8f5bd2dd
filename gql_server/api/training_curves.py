"""Curves of several trainings: in columns for comparison, and point by point as they go on."""

from collections.abc import AsyncGenerator
from enum import StrEnum
from typing import Annotated

import strawberry

from gql_server.api import saes
from gql_server.api.common import (
    BigInt,
    argument,
    closing,
    describe_enum,
    field,
    finite,
    input_type,
    object_type,
    subscription,
)
from gql_server.api.context import Info
from gql_server.api.references import SaeRef
from gql_server.api.training import TrainingPoint, training_point_of_row
from gql_server.api.whole_lists import Whole
from gql_server.services import training_curves
from gql_server.services.training_curves import Cursor


class TrainingMetric(StrEnum):
    """A figure of a training; the values are the columns' names."""

    LOSS = "loss"
    MSE = "mse"
    EXPLAINED_VARIANCE = "explained_variance"
    L0 = "l0"
    DEAD_FRACTION = "dead_fraction"
    LEARNING_RATE = "learning_rate"
    TOKENS_PER_SECOND = "tokens_per_second"


describe_enum(
    TrainingMetric,
    "A figure of a training.",
    {
        metric.name: f"TrainingPoint.{name}."
        for metric, name in zip(
            TrainingMetric,
            ("loss", "mse", "explainedVariance", "l0", "deadFraction", "learningRate", "tokensPerSecond"),
            strict=True,
        )
    },
)


@object_type
class TrainingSeries:
    """A figure at each of the curve's steps."""

    metric: TrainingMetric = strawberry.field(description="Which figure it is.")
    values: list[float | None] = strawberry.field(
        description="One for each of the steps; null where undefined or not finite."
    )


@object_type
class TrainingCurve:
    """The history of a training in columns of one length."""

    sae: SaeRef = strawberry.field(description="The SAE that is trained.")
    steps: list[int] = strawberry.field(description="As TrainingPoint.step, rising.")
    token_counts: list[BigInt] = strawberry.field(description="As TrainingPoint.tokenCount, at each step.")
    series: list[TrainingSeries] = strawberry.field(description="The figures, in the order of metrics.")
    sequence: int = strawberry.field(
        description=(
            "With the last of the steps, what trainingPoints goes on from: TrainingCursor.afterSequence and"
            " afterStep."
        )
    )


@strawberry.type
class TrainingCurveQueries:
    """Queries for curves."""

    @field
    async def training_curves(
        self,
        info: Info,
        sae_ids: Annotated[list[strawberry.ID], argument("The SAEs, 20 at most.")],
        metrics: Annotated[list[TrainingMetric], argument("The figures.")],
        max_points: Annotated[int, argument("The most points of each curve, 1 to 10,000.")] = 500,
    ) -> list[TrainingCurve]:
        """Curves to compare, in the order of saeIds; SAEs that are not there are left out. Each has at most
        maxPoints points, spread evenly over the training, the last one included.
        """
        wanted = list(dict.fromkeys(metrics))
        names = ["step", "token_count", *wanted]
        async with info.context.server.database.read() as session:
            found = await training_curves.curves(session, sae_ids, names, max_points)
        rows = await info.context.loaders.saes.load_many(list(found))
        shown = {row.id: saes.sae(row) for row in rows if row is not None}
        curves = []
        for id in dict.fromkeys(sae_ids):
            if id in found and id in shown:
                columns = found[id].columns
                series = [
                    TrainingSeries(metric=metric, values=Whole(map(finite, columns.get(metric, []))))
                    for metric in wanted
                ]
                curves.append(
                    TrainingCurve(
                        sae=shown[id],
                        steps=Whole(columns.get("step", [])),
                        token_counts=Whole(columns.get("token_count", [])),
                        series=series,
                        sequence=found[id].sequence,
                    )
                )
        return curves


# --------------------------------------------------------------------------- subscriptions


@input_type
class TrainingCursor:
    """What you have of a training."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE that is trained.")
    after_step: int = strawberry.field(default=0, description="The step of the last point that you have.")
    after_sequence: int = strawberry.field(
        default=0,
        description=(
            "SaeTrainingPoint.sequence of the last event that you have had, or TrainingCurve.sequence: what"
            " was taken back since then is told."
        ),
    )


@object_type
class SaeTrainingPoint:
    """A point of a training, or that points have been taken back."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE that is trained.")
    sequence: int = strawberry.field(
        description="To go on from, with the step: TrainingCursor.afterSequence."
    )
    point: TrainingPoint | None = strawberry.field(
        description="The point; null where truncatedAfterStep is given."
    )
    truncated_after_step: int | None = strawberry.field(
        description=(
            "The training has gone on from a snapshot, or begun anew: drop all points above this step. Those"
            " that count follow."
        )
    )


@strawberry.type
class TrainingCurveSubscriptions:
    """Subscriptions to curves."""

    @subscription
    async def training_points(
        self,
        info: Info,
        saes: Annotated[list[TrainingCursor], argument("The SAEs, 1 to 20, and what you have of each.")],
    ) -> AsyncGenerator[SaeTrainingPoint, None]:
        """The points of each training above its afterStep, then those that come, each once. Never completes:
        a training that has ended may be retried. A client that reconnects with the step of its last point and
        the sequence of its last event has the whole curve again, without what a resumed training takes back.
        """
        context = info.context
        starts = [Cursor(one.sae_id, one.after_step, one.after_sequence) for one in saes]
        async with closing(training_curves.follow(context.server, starts)) as readings:
            async for reading in readings:
                cursor = reading.cursor
                # No more than what these name is in the event.
                context.snapshot_key = ("training", cursor, reading.truncated_after, reading.point is None)
                yield SaeTrainingPoint(
                    sae_id=strawberry.ID(cursor.sae_id),
                    sequence=cursor.sequence,
                    point=training_point_of_row(reading.point) if reading.point else None,
                    truncated_after_step=reading.truncated_after,
                )
