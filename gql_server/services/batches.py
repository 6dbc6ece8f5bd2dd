"""Batched reads for what hangs on rows: one statement for many rows of a kind."""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, bindparam, case, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from gql_server.errors import Conflict, InvalidInput
from gql_server.jobs import event_log
from gql_server.services import cursors
from models import Concept, Job, JobEvent, NeuronIndex, SaeEvaluation, TrainingPoint
from models.enums import ArtifactStatus, JobEventType, JobStatus

T = TypeVar("T")

MAX_TRAINING_POINTS = 10_000
_NO_LIMIT = 2**62
"""Above each sequence number."""


async def rows(session: AsyncSession, table: type[T], ids: Sequence[str]) -> dict[str, T]:
    """Return the rows with these IDs, by ID."""
    columns: Any = table
    found: Any = await session.scalars(select(table).where(columns.id.in_(ids)))
    return {row.id: row for row in found}


async def neuron_indexes(session: AsyncSession, sae_ids: Sequence[str]) -> dict[str, NeuronIndex]:
    """Return the index to show of every SAE that has one: the READY one, else the newest."""
    found = await session.scalars(_indexes_to_show(), {"sae_ids": sae_ids})
    return {row.sae_id: row for row in found}


@cache
def _indexes_to_show() -> Select[NeuronIndex]:
    """Return the statement, which takes longer to put together than to execute."""
    order = (
        case((NeuronIndex.status == ArtifactStatus.READY, 0), else_=1),
        NeuronIndex.created_at.desc(),
        NeuronIndex.id.desc(),
    )
    place = func.row_number().over(partition_by=NeuronIndex.sae_id, order_by=order).label("place")
    of_saes = NeuronIndex.sae_id.in_(bindparam("sae_ids", expanding=True))
    ranked = select(NeuronIndex, place).where(of_saes).subquery()
    return select(aliased(NeuronIndex, ranked)).where(ranked.c.place == 1)


async def evaluations(
    session: AsyncSession, sae_ids: Sequence[str], first: int
) -> dict[str, list[SaeEvaluation]]:
    """Return the ``first`` newest evaluations of every SAE.

    Raises InvalidInput for ``first`` outside 1 to 100.
    """
    cursors.check_first(first)
    order = (SaeEvaluation.created_at.desc(), SaeEvaluation.id.desc())
    place = func.row_number().over(partition_by=SaeEvaluation.sae_id, order_by=order).label("place")
    ranked = select(SaeEvaluation, place).where(SaeEvaluation.sae_id.in_(sae_ids)).subquery()
    evaluation = aliased(SaeEvaluation, ranked)
    found: dict[str, list[SaeEvaluation]] = {sae_id: [] for sae_id in sae_ids}
    for row in await session.scalars(
        select(evaluation).where(ranked.c.place <= first).order_by(ranked.c.place)
    ):
        found[row.sae_id].append(row)
    return found


async def frequency_histograms(session: AsyncSession, index_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the frequency histogram of every index that has one: its bins' edges and counts."""
    columns = select(NeuronIndex.id, NeuronIndex.frequency_histogram).where(NeuronIndex.id.in_(index_ids))
    return {id: histogram for id, histogram in await session.execute(columns) if histogram}


async def concepts(
    session: AsyncSession, neurons: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Concept]:
    """Return the concepts of neurons, each given and keyed by its SAE's ID and its index."""
    condition = tuple_(Concept.sae_id, Concept.neuron_index).in_(neurons)
    found = await session.scalars(select(Concept).where(condition))
    return {(row.sae_id, row.neuron_index): row for row in found}


async def queue_positions(session: AsyncSession, job_ids: Sequence[str]) -> dict[str, int]:
    """Return how many queued jobs of its lane come before each of those that are QUEUED."""
    place = func.row_number().over(partition_by=Job.lane, order_by=(Job.queued_at, Job.id)).label("place")
    queue = select(Job.id, place).where(Job.status == JobStatus.QUEUED).subquery()
    found = await session.execute(select(queue.c.id, queue.c.place).where(queue.c.id.in_(job_ids)))
    return {job_id: position - 1 for job_id, position in found}


async def job_events(
    session: AsyncSession,
    job_ids: Sequence[str],
    first: int,
    after: int,
    types: Sequence[JobEventType] | None = None,
    last: int | None = None,
) -> dict[str, list[JobEvent] | Conflict]:
    """Return the ``first`` events of every job with sequence numbers above ``after``, in order.

    Only events of ``types`` where there are some; the ``last`` ones in place of the first ones where that is
    given. Where retention has removed some of them it is a Conflict; only ``after`` 0 gives what is there.
    Raises InvalidInput for ``first`` or ``last`` outside 1 to 100 and for a negative ``after``.
    """
    cursors.check_first(first)
    if last is not None:
        cursors.check_first(last, "last")
    if after < 0:
        raise InvalidInput.at("after", "A sequence number is 0 (for all events) or above.")
    removed = Job.removed_sequence
    begin = case((removed > after, removed), else_=after)
    statement = (
        select(JobEvent)
        .join(Job, Job.id == JobEvent.job_id)
        .where(JobEvent.job_id.in_(job_ids), JobEvent.sequence > begin)
        .where(_within(begin, first, types, last))
        .order_by(JobEvent.sequence)
    )
    if types is not None:
        statement = statement.where(JobEvent.type.in_(types))
    events: dict[str, list[JobEvent]] = {job_id: [] for job_id in job_ids}
    for event in await session.scalars(statement):
        events[event.job_id].append(event)
    return {**events, **(await _removed(session, job_ids, after) if after else {})}


def _within(
    begin: ColumnElement[int], first: int, types: Sequence[JobEventType] | None, last: int | None
) -> ColumnElement[bool]:
    """Return the condition that an event is among the first or last ones of its job."""
    if types is None and last is None:
        # Sequence numbers have no gaps, so a range of them is a page.
        return JobEvent.sequence <= begin + first
    event = aliased(JobEvent)
    query = select(event.sequence).where(event.job_id == Job.id, event.sequence > begin)
    if types is not None:
        query = query.where(event.type.in_(types))
    if last is None:
        outermost = query.order_by(event.sequence).offset(first - 1).limit(1)
        return JobEvent.sequence <= func.coalesce(outermost.correlate(Job).scalar_subquery(), _NO_LIMIT)
    outermost = query.order_by(event.sequence.desc()).offset(last - 1).limit(1)
    return JobEvent.sequence >= func.coalesce(outermost.correlate(Job).scalar_subquery(), 0)


async def _removed(session: AsyncSession, job_ids: Sequence[str], after: int) -> dict[str, Conflict]:
    """Return the refusals for jobs whose log is gone above ``after``."""
    query = select(Job).where(Job.id.in_(job_ids), Job.removed_sequence > after)
    return {job.id: event_log.removed(job) for job in await session.scalars(query)}


async def training_points(
    session: AsyncSession, sae_ids: Sequence[str], max_points: int
) -> dict[str, list[Row[Any]]]:
    """Return at most ``max_points`` points of every training, spread evenly, the last one included."""
    cursors.check_first(max_points, "maxPoints", MAX_TRAINING_POINTS)
    names = [column.key for column in TrainingPoint.__table__.columns if column.key != "sae_id"]
    points: dict[str, list[Row[Any]]] = {sae_id: [] for sae_id in sae_ids}
    # Rows without entities, which would take longer than all the rest where there are thousands.
    for row in await session.execute(spread_points(sae_ids, max_points, names)):
        points[row.sae_id].append(row)
    return points


def spread_points(sae_ids: Sequence[str], max_points: int, names: Sequence[str]) -> Select[Any]:
    """Return the query for the SAE's ID and some columns of the points that ``training_points`` tells of."""
    of_sae = TrainingPoint.sae_id
    number = func.row_number().over(partition_by=of_sae, order_by=TrainingPoint.step).label("number")
    total = func.count().over(partition_by=of_sae).label("total")
    ranked = select(TrainingPoint, number, total).where(of_sae.in_(sae_ids)).subquery()
    # Of n points, m are where number * m / n, rounded down, goes up: the n-th always is.
    position = ranked.c.number * max_points // ranked.c.total
    position_before = (ranked.c.number - 1) * max_points // ranked.c.total
    columns = (ranked.c[name] for name in ("sae_id", *names))
    return select(*columns).where(position > position_before).order_by(ranked.c.sae_id, ranked.c.step)
