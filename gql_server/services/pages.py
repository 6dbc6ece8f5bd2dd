"""Pages of rows, newest first, by keyset: what is added meanwhile moves nothing to another page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from gql_server.services import cursors
from models import ActivationRun, Base, Concept, ConceptConfig, Job, Sae
from models.base import UtcDateTime

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Some entries of a list, each with its cursor, and whether there are others."""

    items: list[Item]
    cursors: list[str]
    has_next: bool
    has_previous: bool


@dataclass(frozen=True, eq=False)
class Children:
    """A list that every row of another table has: the rows of ``table`` whose ``parent`` column names it."""

    table: Any
    parent: Any


RUNS_OF_LANGUAGE_MODEL = Children(ActivationRun, ActivationRun.language_model_id)
SAES_OF_LANGUAGE_MODEL = Children(Sae, Sae.language_model_id)
SAES_OF_RUN = Children(Sae, Sae.activation_run_id)
CONCEPTS_OF_SAE = Children(Concept, Concept.sae_id)
CONFIGS_OF_SAE = Children(ConceptConfig, ConceptConfig.sae_id)
JOBS_OF_RESULT = Children(Job, Job.result_id)


async def newest_first(
    session: AsyncSession,
    table: type[Item],
    conditions: Sequence[ColumnElement[bool]],
    first: int,
    after: str | None,
) -> Page[Item]:
    """Return a page of a table's rows that fulfil the conditions.

    Raises InvalidInput for ``first`` outside 1 to 100 and for a cursor of something else.
    """
    columns: Any = table
    cursors.check_first(first)
    statement = (
        select(table)
        .where(*conditions, *_beyond(columns, after))
        .order_by(columns.created_at.desc(), columns.id.desc())
        .limit(first + 1)
    )
    return _page(columns, list(await session.scalars(statement)), first, after)


async def all_newest_first(session: AsyncSession, table: type[Item]) -> list[Item]:
    """Return all rows of a table that never has many."""
    columns: Any = table
    return list(await session.scalars(select(table).order_by(columns.created_at.desc(), columns.id.desc())))


async def count(session: AsyncSession, table: type[Base], conditions: Sequence[ColumnElement[bool]]) -> int:
    """Return how many rows fulfil the conditions."""
    return (await session.scalars(select(func.count()).select_from(table).where(*conditions))).one()


async def children(
    session: AsyncSession,
    of: Children,
    parent_ids: Sequence[str],
    conditions: Sequence[ColumnElement[bool]],
    first: int,
    after: str | None,
) -> dict[str, Page[Any]]:
    """Return the page of every parent, with one statement. Raises as ``newest_first`` does."""
    cursors.check_first(first)
    newest = (of.table.created_at.desc(), of.table.id.desc())
    place = func.row_number().over(partition_by=of.parent, order_by=newest).label("place")
    ranked = (
        select(of.table, place)
        .where(of.parent.in_(parent_ids), *conditions, *_beyond(of.table, after))
        .subquery()
    )
    row_type: Any = aliased(of.table, ranked)
    statement: Select[Any] = select(row_type).where(ranked.c.place <= first + 1).order_by(ranked.c.place)
    rows: dict[str, list[Any]] = {parent_id: [] for parent_id in parent_ids}
    for row in await session.scalars(statement):
        rows[getattr(row, of.parent.key)].append(row)
    return {parent_id: _page(of.table, of_parent, first, after) for parent_id, of_parent in rows.items()}


async def count_children(
    session: AsyncSession,
    of: Children,
    parent_ids: Sequence[str],
    conditions: Sequence[ColumnElement[bool]],
) -> dict[str, int]:
    """Return how many children every parent has, with one statement."""
    statement = (
        select(of.parent, func.count()).where(of.parent.in_(parent_ids), *conditions).group_by(of.parent)
    )
    counts = dict.fromkeys(parent_ids, 0)
    for parent_id, number in await session.execute(statement):
        counts[parent_id] = number
    return counts


def having(table: type[Base], **values: object) -> list[ColumnElement[bool]]:
    """Return the conditions that columns have these values; those that are None ask nothing."""
    return [getattr(table, name) == value for name, value in values.items() if value is not None]


def name_contains(search: str | None) -> list[ColumnElement[bool]]:
    """Return the condition that a concept's name contains a text, whatever the case."""
    return [Concept.name.icontains(search, autoescape=True)] if search else []


def _beyond(table: Any, after: str | None) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    created_text, id = cursors.decode(after, table.__tablename__, str, str)
    in_utc = cursors.time_of(created_text, after)
    # Compared as a pair, for which SQLite goes to the place in the index; for the same with OR it does not.
    return [tuple_(table.created_at, table.id) < tuple_(literal(in_utc, UtcDateTime), literal(id))]


def _page(table: Any, rows: list[Any], first: int, after: str | None) -> Page[Any]:
    shown = rows[:first]
    return Page(
        items=shown,
        cursors=[cursors.encode(table.__tablename__, row.created_at.isoformat(), row.id) for row in shown],
        has_next=len(rows) > first,
        has_previous=after is not None,
    )
