"""How far a job is, as its row and its events have it."""

from collections.abc import Callable, Sequence
from typing import Any

from gql_server.protocol.events import Event, Progress, Stage
from models import Job


def newest(events: Sequence[Event]) -> list[Event]:
    """Return the last Progress and the last Stage, in the order in which they came."""
    last: dict[type[Event], Event] = {}
    for event in events:
        if isinstance(event, Progress | Stage):
            last.pop(type(event), None)
            last[type(event)] = event
    return list(last.values())


class CombinedProgress:
    """Sums the progress of parallel tasks, each of which tells of its own part of one total."""

    def __init__(self) -> None:
        self._newest: dict[int, Progress] = {}

    def of_part(self, part: int) -> Callable[[Event], Event]:
        """Return a function that replaces a part's Progress by the sum, and leaves other events alone."""

        def combine(event: Event) -> Event:
            if not isinstance(event, Progress):
                return event
            self._newest[part] = event
            newest = self._newest.values()
            return Progress(
                sum(one.completed for one in newest),
                event.total,
                sum(one.rate_per_second or 0.0 for one in newest) or None,
                event.stage,
            )

        return combine


def unchanged(event: Event) -> Event:
    """Return the event itself."""
    return event


def take_in(job: Job, event: Progress | Stage) -> None:
    """Keep how far a job has got; counted progress ends a stage, unless it says that it is in one."""
    if isinstance(event, Stage):
        job.stage, job.stage_completed, job.stage_total = event.name, event.completed, event.total
        job.eta_seconds = None
        return
    leave_stage(job)
    job.stage = event.stage
    job.completed = event.completed
    job.total = event.total
    job.rate_per_second = event.rate_per_second
    if event.total:
        job.fraction = max(job.fraction, min(1.0, event.completed / event.total))
        if event.rate_per_second:
            job.eta_seconds = max(0.0, (event.total - event.completed) / event.rate_per_second)


def leave_stage(job: Job) -> None:
    """Note that a job is in no stage."""
    job.stage, job.stage_completed, job.stage_total = None, 0, None


def complete(job: Job) -> None:
    """Note that a job has done all that there was to do."""
    leave_stage(job)
    job.completed = job.total if job.total is not None else job.completed
    job.fraction = 1.0
    job.eta_seconds = 0.0


def begin_anew(job: Job) -> None:
    """Note that an attempt has done nothing yet."""
    leave_stage(job)
    job.fraction = 0.0
    job.completed = 0
    job.total = None
    job.rate_per_second = job.eta_seconds = None


def payload(job: Job) -> dict[str, Any]:
    """Return a job's progress as its event keeps it."""
    stage = {"name": job.stage, "completed": job.stage_completed, "total": job.stage_total}
    return {
        "fraction": job.fraction,
        "completed": job.completed,
        "total": job.total,
        "unit": job.unit,
        "rate_per_second": job.rate_per_second,
        "eta_seconds": job.eta_seconds,
        "stage": stage if job.stage is not None else None,
    }
