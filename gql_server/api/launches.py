"""What launching a job comes to, whatever the kind."""

from enum import StrEnum
from typing import Annotated

import strawberry

from gql_server.api import jobs
from gql_server.api.common import (
    BigInt,
    Conflict,
    InvalidInput,
    NotFound,
    QueueFull,
    describe_enum,
    from_row,
    object_type,
)
from gql_server.api.references import JobRef
from gql_server.services.requests import Launched
from gql_server.services.saes import ChosenTraining


class LaunchOutcome(StrEnum):
    """Whether a launch made a job."""

    CREATED = "CREATED"
    REPLAYED = "REPLAYED"


describe_enum(
    LaunchOutcome,
    "Whether a launch made a job.",
    {
        "CREATED": "The job is new, or queued anew.",
        "REPLAYED": "The idempotency key had been used for this same request.",
    },
)


@object_type
class JobLaunched:
    """The job is in the queue, or was already."""

    job: JobRef = strawberry.field(description="The job.")
    outcome: LaunchOutcome = strawberry.field(description="Whether this request made it.")


@object_type
class TrainingValidated:
    """The training could be launched; nothing has been written. What the request leaves open is chosen, as
    far as that is known without reading the activations.
    """

    layer: str = strawberry.field(description="The layer, whether it was named or the run's only one.")
    input_size: int = strawberry.field(description="Width of the layer's activations.")
    latent_count: int = strawberry.field(description="Neurons.")
    k: int | None = strawberry.field(
        description="Active neurons per token; null for a class that does not fix it."
    )
    learning_rate: float = strawberry.field(
        description=(
            "For all tokens of the run; where some are left out there are fewer steps, and it is higher."
        )
    )
    l1_lambda: float | None = strawberry.field(
        description="Weight of the sparsity penalty; null where the length of the activations decides it."
    )
    device: str = strawberry.field(description="Where it would be computed.")
    step_count: BigInt = strawberry.field(description="Steps of one batch, as of all tokens of the run.")
    byte_size: BigInt = strawberry.field(
        description="Bytes of its files, with the snapshot that there is until its end."
    )


LaunchResult = Annotated[
    JobLaunched | InvalidInput | NotFound | Conflict | QueueFull | TrainingValidated,
    strawberry.union(
        "LaunchResult", description="What launching a job came to; TrainingValidated for trainSae alone."
    ),
]


def job_launched(launched: Launched) -> JobLaunched:
    """Return a launch as it is shown."""
    outcome = LaunchOutcome.REPLAYED if launched.replayed else LaunchOutcome.CREATED
    return JobLaunched(job=jobs.job(launched.job), outcome=outcome)


def training_validated(chosen: ChosenTraining) -> TrainingValidated:
    """Return what a training would be as it is shown."""
    return from_row(TrainingValidated, chosen)
