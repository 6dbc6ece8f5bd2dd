"""How far jobs are."""

from collections.abc import Mapping
from typing import Any

import strawberry

from gql_server.api.common import BigInt, finite, finite_number, object_type
from gql_server.api.enums import ProgressUnit


@object_type
class JobStage:
    """What a job does beside the progress that is counted."""

    name: str = strawberry.field(description="In a few words, such as computing similar neurons.")
    completed: BigInt = strawberry.field(description="How much of it is done.")
    total: BigInt | None = strawberry.field(description="How much of it there is to do; null until known.")
    fraction: float | None = strawberry.field(description="0 to 1; null where total is.")


@object_type
class JobProgress:
    """How far a job is."""

    fraction: float = strawberry.field(description="0 to 1, never falling within an attempt.")
    completed: BigInt = strawberry.field(description="How much is done, in unit.")
    total: BigInt | None = strawberry.field(description="How much there is to do; null until known.")
    unit: ProgressUnit = strawberry.field(description="What is counted.")
    rate_per_second: float | None = strawberry.field(description="How much gets done in a second.")
    eta_seconds: float | None = strawberry.field(
        description="How long the counted progress may still take; null in a stage."
    )
    stage: JobStage | None = strawberry.field(
        description="What goes on beside the counted progress, often after it; null where that is all."
    )


def job_progress(
    *,
    fraction: float,
    completed: int,
    total: int | None,
    unit: str,
    rate_per_second: float | None,
    eta_seconds: float | None,
    stage: Mapping[str, Any] | None = None,
) -> JobProgress:
    """Return progress as it is shown; the arguments are those of a PROGRESS event's payload."""
    return JobProgress(
        fraction=finite_number(fraction),
        completed=BigInt(completed),
        total=None if total is None else BigInt(total),
        unit=ProgressUnit(unit),
        rate_per_second=finite(rate_per_second),
        eta_seconds=finite(eta_seconds),
        stage=None if stage is None else _job_stage(**stage),
    )


def _job_stage(name: str, completed: int, total: int | None) -> JobStage:
    return JobStage(
        name=name,
        completed=BigInt(completed),
        total=None if total is None else BigInt(total),
        fraction=min(1.0, completed / total) if total else None,
    )
