"""Files that go with their rows, for good, whatever happens to the server meanwhile."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.database import Database, after_commit
from gql_server.services.artifacts import remove
from gql_server.settings import Settings
from models import Removal

log = structlog.get_logger(__name__)


async def remove_after_commit(session: AsyncSession, settings: Settings, paths: Sequence[Path]) -> None:
    """Remove files once the rows that name them are gone.

    That they are to go is written down in the same transaction: a server that ends in between removes them at
    its next start. So each path is of one artifact for ever; one that may be used again must not be given.
    """
    root = settings.artifact_dir.resolve()
    names = [str(path.relative_to(root)) for path in paths]
    if names:
        values = [{"path": name} for name in names]
        await session.execute(insert(Removal).values(values).on_conflict_do_nothing())
        after_commit(session, lambda database: _remove(database, root, names))


async def finish(database: Database, settings: Settings) -> None:
    """Remove what an earlier server has not come to remove."""
    async with database.read() as session:
        names = list(await session.scalars(select(Removal.path)))
    if names:
        await _remove(database, settings.artifact_dir.resolve(), names)
        log.info("removed what was deleted before", paths=names)


async def _remove(database: Database, root: Path, names: Sequence[str]) -> None:
    await asyncio.to_thread(remove, [root / name for name in names])
    async with database.write() as session:
        await session.execute(delete(Removal).where(Removal.path.in_(names)))
