"""Calls that must be refused, and leave nothing behind."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gql_server.errors import InvalidInput, Refusal
from gql_server.services.app_context import AppContext
from models import Base


async def count_rows(server: AppContext) -> int:
    """Return the number of rows of all tables."""
    async with server.database.read() as session:
        counts = [
            await session.scalar(select(func.count()).select_from(table))
            for table in Base.metadata.sorted_tables
        ]
    return sum(count or 0 for count in counts)


def written_files(server: AppContext) -> list[Path]:
    """Return the datasets and manifests in the artifact directory."""
    directory = server.settings.artifact_dir
    return sorted([*directory.rglob("*.arrow"), *directory.rglob("*.json")])


async def refused(server: AppContext, call: Callable[[], Awaitable[Any]]) -> Refusal:
    """Return the refusal of a call, having checked that the call left neither rows nor files."""
    before = written_files(server), await count_rows(server)
    with pytest.raises(Refusal) as refusal:
        await call()
    assert (written_files(server), await count_rows(server)) == before
    return refusal.value


def problem_paths(refusal: Refusal) -> list[list[str]]:
    """Return the path of each problem of a refusal as invalid input."""
    assert isinstance(refusal, InvalidInput), refusal
    return [problem.path for problem in refusal.problems]
