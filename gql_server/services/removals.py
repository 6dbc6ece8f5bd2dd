"""Files that go with their rows, for good, whatever happens to the server meanwhile."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.database.database import Database, after_commit
from gql_server.services.artifacts import remove
from gql_server.settings import Settings
from models import Removal

log = structlog.get_logger(__name__)


async def remove_after_commit(session: AsyncSession, settings: Settings, paths: Sequence[Path]) -> None:
    """Remove files once the rows that name them are gone.

    That they are to go is written down in the same transaction: a server that ends in between removes them at
    its next start. So each path is of one artifact for ever; one that may be used again must not be given.
    """
    names = _names(settings, paths)
    if names:
        await _note(session, names)
        after_commit(session, lambda database: _remove(database, settings, names))


async def make_provisional(database: Database, settings: Settings, path: Path) -> None:
    """Call it before a path is written whose row comes later: until ``keep``, it is one that is to go."""
    async with database.write() as session:
        await _note(session, _names(settings, [path]))


async def keep(session: AsyncSession, settings: Settings, path: Path) -> None:
    """Keep what was provisional, in the transaction that adds its row."""
    await session.execute(delete(Removal).where(Removal.path.in_(_names(settings, [path]))))


async def discard(database: Database, settings: Settings, path: Path) -> None:
    """Remove what was provisional."""
    await _remove(database, settings, _names(settings, [path]))


async def finish(database: Database, settings: Settings, started_at: float) -> None:
    """Remove what a server has not come to remove that ended before ``started_at``, in seconds."""
    before = Removal.created_at < datetime.fromtimestamp(started_at, UTC)
    async with database.read() as session:
        names = list(await session.scalars(select(Removal.path).where(before)))
    if names:
        await _remove(database, settings, names)
        log.info("removed files of deleted artifacts", paths=names)


def _names(settings: Settings, paths: Sequence[Path]) -> list[str]:
    root = settings.artifact_dir.resolve()
    return [str(path.relative_to(root)) for path in paths]


async def _note(session: AsyncSession, names: Sequence[str]) -> None:
    values = [{"path": name} for name in names]
    await session.execute(insert(Removal).values(values).on_conflict_do_nothing())


async def _remove(database: Database, settings: Settings, names: Sequence[str]) -> None:
    gone = await asyncio.to_thread(_remove_files, settings.artifact_dir.resolve(), names)
    async with database.write() as session:
        await session.execute(delete(Removal).where(Removal.path.in_(gone)))


def _remove_files(root: Path, names: Sequence[str]) -> list[str]:
    """Return the names of what could be removed; the rest is tried again at the next start."""
    gone = []
    for name in names:
        try:
            remove([root / name])
        except OSError:
            log.exception("files could not be removed", path=name)
        else:
            gone.append(name)
    return gone
