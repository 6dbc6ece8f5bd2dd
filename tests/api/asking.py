"""Asks the schema as the HTTP view does, and counts the SQL statements that it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event
from strawberry.types import ExecutionResult

from gql_server.api.context import Context
from gql_server.api.schema import schema
from gql_server.services.app_context import AppContext


async def ask(server: AppContext, query: str, **variables: Any) -> dict[str, Any]:
    """Return an operation's data; errors fail the test."""
    result = await execute(server, query, **variables)
    assert result.errors is None, result.errors
    assert result.data is not None
    return result.data


async def execute(server: AppContext, query: str, **variables: Any) -> ExecutionResult:
    """Return an operation's result."""
    return await schema.execute(query, variables, Context(server))


async def first_error(server: AppContext, query: str, **variables: Any) -> dict[str, Any]:
    """Return the first error of an operation, as it is sent."""
    result = await execute(server, query, **variables)
    assert result.errors
    return dict(result.errors[0].formatted)


async def follow(server: AppContext, query: str, **variables: Any) -> list[ExecutionResult]:
    """Return all that a subscription sends until it completes."""
    return [result async for result in await schema.subscribe(query, variables, Context(server))]


_COUNTED: ContextVar[bool] = ContextVar("counted", default=False)


@contextmanager
def counted_statements(server: AppContext) -> Iterator[list[str]]:
    """Give the list that the statements of the block's reads go into, but none of what runs beside it."""
    statements: list[str] = []
    counted = _COUNTED.set(True)

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if _COUNTED.get() and statement.startswith(("SELECT", "WITH")):
            statements.append(statement)

    engine = server.database._readers.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)
        _COUNTED.reset(counted)
