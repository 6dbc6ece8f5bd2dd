"""Figures of trainings: thinned out in columns, or point by point as they come."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.errors import InvalidInput, NotFound
from gql_server.jobs.notifier import LOOK_AGAIN_SECONDS
from gql_server.services import batches, cursors
from gql_server.services.app_context import AppContext
from models import Job, JobEvent, Sae, TrainingPoint
from models.enums import JobEventType

MAX_SAES = 20
"""SAEs whose curves are asked for at once."""
POINTS_AT_ONCE = 500
"""Points of an SAE that a subscriber is given from one read."""


@dataclass(frozen=True)
class Curve:
    """The thinned-out history of a training, a list for each of the figures, all of one length."""

    sequence: int = 0
    """The number of the job's newest event when it was read; 0 where no job trains the SAE."""
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """By the name of the column of ``training_points``; values that are not finite are None."""


async def curves(
    session: AsyncSession, sae_ids: Sequence[str], names: Sequence[str], max_points: int
) -> dict[str, Curve]:
    """Return the curves of the SAEs that there are, of one state of the database.

    Args:
        session: For reading.
        sae_ids: The SAEs.
        names: Columns of ``training_points``.
        max_points: The most points of each, spread evenly over the training, the last one included.

    Raises:
        InvalidInput: Too many SAEs or points are asked for.
    """
    _check_count(len(sae_ids))
    cursors.check_first(max_points, "maxPoints", batches.MAX_TRAINING_POINTS)
    sequences = {id: sequence for id, (_, sequence, _) in (await _jobs_of(session, sae_ids)).items()}
    columns: dict[str, list[tuple[Any, ...]]] = {id: [] for id in sequences}
    statement = batches.spread_points(list(sequences), max_points, names)
    for sae_id, *values in await session.execute(statement):
        columns[sae_id].append(tuple(values))
    return {
        id: Curve(
            sequences[id], dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
        )
        for id, rows in columns.items()
    }


def _check_count(count: int) -> None:
    if count > MAX_SAES:
        raise InvalidInput.at("saeIds", f"There are {count:,} SAEs; the limit is {MAX_SAES}.")


async def _jobs_of(session: AsyncSession, sae_ids: Sequence[str]) -> dict[str, tuple[str | None, int, int]]:
    """Return of each SAE that there is its job's ID, newest event and newest removed event."""
    query = select(Sae.id, Job.id, Job.last_sequence, Job.removed_sequence).where(Sae.id.in_(sae_ids))
    found = await session.execute(query.outerjoin(Job, Job.id == Sae.job_id))
    return {id: (job_id, last or 0, removed or 0) for id, job_id, last, removed in found}


# --------------------------------------------------------------------------------- following


@dataclass(frozen=True)
class Cursor:
    """What a reader has of a training."""

    sae_id: str
    step: int = 0
    """Of its last point."""
    sequence: int = 0
    """Up to which event of the training's job it knows what has been taken back."""


@dataclass(frozen=True)
class Reading:
    """What comes next of a training: a point, or that points are taken back."""

    cursor: Cursor
    """What the reader has with it."""
    point: TrainingPoint | None = None
    truncated_after: int | None = None
    """The step above which all points count no more."""


async def follow(server: AppContext, starts: Sequence[Cursor]) -> AsyncIterator[Reading]:
    """Give the points of trainings above the readers' steps, then those that come, for ever.

    What was taken back since a reader's cursor, as by a training that has gone on from a snapshot, comes
    first. Each read sees one state of the database, so no point comes twice, and none is left out.

    Raises:
        InvalidInput: There are too many cursors, two for one SAE, or negative numbers.
        NotFound: There is no such SAE.
    """
    _check(starts)
    cursors_ = {start.sae_id: start for start in starts}
    known: dict[str, int] = {}
    """Newest events at the last read; an SAE is read again when there are newer ones."""
    async with server.database.read() as session:
        there = await _jobs_of(session, list(cursors_))
    for sae_id in cursors_:
        if sae_id not in there:
            raise NotFound("SAE", sae_id)
    while True:
        seen = server.notifier.count
        readings, is_all = await _read(server, list(cursors_.values()), known)
        for reading in readings:
            cursors_[reading.cursor.sae_id] = reading.cursor
            yield reading
        if is_all:
            await server.notifier.wait(seen, LOOK_AGAIN_SECONDS)


def _check(starts: Sequence[Cursor]) -> None:
    if not 0 < len(starts) <= MAX_SAES:
        raise InvalidInput.at("saes", f"There are {len(starts):,} SAEs; give 1 to {MAX_SAES}.")
    if len({start.sae_id for start in starts}) < len(starts):
        raise InvalidInput.at("saes", "An SAE is named twice; give each once.")
    for place, start in enumerate(starts):
        for name, value in (("afterStep", start.step), ("afterSequence", start.sequence)):
            if value < 0:
                raise InvalidInput.at(["saes", str(place), name], "Give 0 (for all), or above.")


async def _read(
    server: AppContext, cursors_: Sequence[Cursor], known: dict[str, int]
) -> tuple[list[Reading], bool]:
    """Return what comes next of the trainings that have changed, and whether that is all there is.

    Args:
        server: The server.
        cursors_: What the reader has.
        known: By SAE, the job's newest event when all up to it had been given; brought up to date.
    """
    readings: list[Reading] = []
    is_all = True
    async with server.database.read() as session:
        jobs = await _jobs_of(session, [cursor.sae_id for cursor in cursors_])
        for cursor in cursors_:
            job_id, last, removed = jobs.get(cursor.sae_id, (None, 0, 0))
            if job_id is None or known.get(cursor.sae_id) == last:
                continue
            step = await _truncated_after(session, cursor, job_id, removed)
            here = replace(cursor, sequence=last, step=cursor.step if step is None else step)
            if step is not None:
                readings.append(Reading(here, truncated_after=step))
            query = select(TrainingPoint).where(
                TrainingPoint.sae_id == cursor.sae_id, TrainingPoint.step > here.step
            )
            points = list(await session.scalars(query.order_by(TrainingPoint.step).limit(POINTS_AT_ONCE)))
            readings += [Reading(replace(here, step=point.step), point) for point in points]
            if len(points) == POINTS_AT_ONCE:
                is_all = False
            else:
                known[cursor.sae_id] = last
    return readings, is_all


async def _truncated_after(session: AsyncSession, cursor: Cursor, job_id: str, removed: int) -> int | None:
    """Return the step above which a reader's points count no more; None where all of them do."""
    if not cursor.step:
        return None
    if removed > cursor.sequence:
        return 0  # What was taken back since is not known any more.
    query = select(JobEvent.payload).where(
        JobEvent.job_id == job_id,
        JobEvent.type == JobEventType.TRAINING_RESUMED,
        JobEvent.sequence > cursor.sequence,
    )
    steps = [int(payload["step"]) for payload in await session.scalars(query)]
    return min(steps) if steps and min(steps) < cursor.step else None
