"""Relay connections: pages with cursors, and a total that is counted only when asked for."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import strawberry
from sqlalchemy import ColumnElement

from gql_server.api.common import argument, field, object_type
from gql_server.api.context import Info
from gql_server.api.loaders import ChildrenCountKey, ChildrenKey
from gql_server.services import pages
from gql_server.services.pages import Children, Page
from models import Base

T = TypeVar("T")
Row = TypeVar("Row", bound=Base)

First = Annotated[int, argument("How many entries the page may have, 1 to 100.")]
After = Annotated[str | None, argument("A cursor of this list; the page begins behind it.")]


@object_type
class PageInfo:
    """Where a page stands in its list."""

    has_next_page: bool = strawberry.field(description="Whether there are entries behind this page.")
    has_previous_page: bool = strawberry.field(description="Whether the page began behind a cursor.")
    start_cursor: str | None = strawberry.field(description="Of the first entry; null on an empty page.")
    end_cursor: str | None = strawberry.field(
        description="Of the last entry, to give as after for the next page; null on an empty page."
    )


@object_type
class Edge(Generic[T]):
    """An entry of a page."""

    cursor: str = strawberry.field(description="Its place in the list.")
    node: T = strawberry.field(description="The entry itself.")


@object_type
class Connection(Generic[T]):
    """A page of a list."""

    count: strawberry.Private[Callable[[], Awaitable[int]]]
    edges: list[Edge[T]] = strawberry.field(description="The entries with their cursors.")
    page_info: PageInfo = strawberry.field(description="Where the page stands in the list.")

    @field
    def nodes(self) -> list[T]:
        """The entries alone."""
        return [edge.node for edge in self.edges]

    @field
    async def total_count(self) -> int:
        """Entries in the whole list, counted when asked for."""
        return await self.count()


def connection(
    page: Page[Any], make: Callable[[Any], T], count: Callable[[], Awaitable[int]]
) -> Connection[T]:
    """Return a page of items as a connection of what ``make`` makes of them."""
    pairs = zip(page.cursors, page.items, strict=True)
    edges = [Edge(cursor=cursor, node=make(item)) for cursor, item in pairs]
    return Connection(edges=edges, page_info=page_info(page), count=count)


def page_info(page: Page[Any]) -> PageInfo:
    """Return where a page of items stands in its list."""
    return PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=page.cursors[0] if page.cursors else None,
        end_cursor=page.cursors[-1] if page.cursors else None,
    )


async def listing(
    info: Info,
    table: type[Row],
    conditions: Sequence[ColumnElement[bool]],
    make: Callable[[Row], T],
    first: int,
    after: str | None,
) -> Connection[T]:
    """Return a page of a table's rows, newest first."""
    async with info.context.server.database.read() as session:
        page = await pages.newest_first(session, table, conditions, first, unset_to_none(after))

    async def count() -> int:
        async with info.context.server.database.read() as session:
            return await pages.count(session, table, conditions)

    return connection(page, make, count)


async def children_connection(
    info: Info,
    children: Children,
    parent_id: str,
    make: Callable[[Any], T],
    first: int,
    after: str | None,
    search: str | None = None,
) -> Connection[T]:
    """Return a page of a row's children; those of its siblings are read in the same statement."""
    key = ChildrenKey(children, parent_id, search or None, first, unset_to_none(after))
    page = await info.context.loaders.children.load(key)

    async def count() -> int:
        count_key = ChildrenCountKey(children, parent_id, search or None)
        return await info.context.loaders.children_counts.load(count_key)

    return connection(page, make, count)


def unset_to_none(value: T | None) -> T | None:
    """Return an argument's value, or None where it was left out."""
    return None if value is strawberry.UNSET else value
