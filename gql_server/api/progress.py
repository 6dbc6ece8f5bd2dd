"""How far jobs are."""

import strawberry

from gql_server.api.common import BigInt, finite, finite_number, object_type
from gql_server.api.enums import ProgressUnit


@object_type
class JobProgress:
    """How far a job is."""

    fraction: float = strawberry.field(description="0 to 1, never falling within an attempt.")
    completed: BigInt = strawberry.field(description="How much is done, in unit.")
    total: BigInt | None = strawberry.field(description="How much there is to do; null until known.")
    unit: ProgressUnit = strawberry.field(description="What is counted.")
    rate_per_second: float | None = strawberry.field(description="How much gets done in a second.")
    eta_seconds: float | None = strawberry.field(description="How long it may still take.")


def job_progress(
    *,
    fraction: float,
    completed: int,
    total: int | None,
    unit: str,
    rate_per_second: float | None,
    eta_seconds: float | None,
) -> JobProgress:
    """Return progress as it is shown; the arguments are those of a PROGRESS event's payload."""
    return JobProgress(
        fraction=finite_number(fraction),
        completed=BigInt(completed),
        total=None if total is None else BigInt(total),
        unit=ProgressUnit(unit),
        rate_per_second=finite(rate_per_second),
        eta_seconds=finite(eta_seconds),
    )
