"""What launching a job comes to, whatever the kind."""

from enum import StrEnum
from typing import Annotated

import strawberry

from gql_server.api import jobs
from gql_server.api.common import Conflict, InvalidInput, NotFound, QueueFull, describe_enum, object_type
from gql_server.api.references import JobRef
from gql_server.services.requests import Launched


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


LaunchResult = Annotated[
    JobLaunched | InvalidInput | NotFound | Conflict | QueueFull,
    strawberry.union("LaunchResult", description="What launching a job came to."),
]


def job_launched(launched: Launched) -> JobLaunched:
    """Return a launch as it is shown."""
    outcome = LaunchOutcome.REPLAYED if launched.replayed else LaunchOutcome.CREATED
    return JobLaunched(job=jobs.job(launched.job), outcome=outcome)
