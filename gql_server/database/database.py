"""The SQLite database: many readers and one writer."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import structlog
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from gql_server.database import concept_words
from gql_server.database.changes import ChangeFeed, note_changes, take_noted
from gql_server.errors import QueueFull

log = structlog.get_logger(__name__)

BUSY_TIMEOUT_SECONDS = 30
RETRY_SECONDS = 30
MAX_HELD = 2
"""Reads that keep a connection while they wait for a reader's process, of which there are two."""
BUSY_RETRY_SECONDS = 5
MIN_FREE_BYTES = 4 * 1024 * 1024
"""Disk space for a transaction and its part of the write-ahead log."""
GONE = "the database is not where it was when the server started; put it back, or start it again"
FULL = "the disk is full; make room on it, or delete runs or SAEs"
_FULL = "disk is full"
_AFTER_COMMIT = "after_commit"


class Database:
    """Sessions for reading, and one at a time for writing. The file is in WAL mode since its migration.

    A read that turns into a write while another connection commits fails at once, whatever the busy timeout;
    so writes begin IMMEDIATE, and in this process one after the other.
    """

    def __init__(self, path: Path) -> None:
        self._readers = _engine(path, "DEFERRED", pool_size=8)
        self._writers = _engine(path, "IMMEDIATE", pool_size=1, prepare=_prepare_writer)
        self._read_sessions = async_sessionmaker(self._readers, expire_on_commit=False)
        self._write_sessions = async_sessionmaker(self._writers, expire_on_commit=False)
        self._writing = asyncio.Lock()
        self._holding = asyncio.Semaphore(MAX_HELD)
        self._path, self._identity = path, identity_of(path)
        self._is_gone = False
        """Whether the last check found the file moved or deleted."""
        self.changes = ChangeFeed()
        """Tells of what writes have changed."""
        self.commits = 0
        """The number of commits of this process; what was read since the last one is up to date."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Give a session that sees one state of the database; it is not for writing.

        Raises:
            QueueFull: For too long others had all connections.
        """
        try:
            async with self._read_sessions() as session:
                yield session
        except PoolTimeout as error:
            message = "Too many requests read the database; try again in a moment."
            raise QueueFull(message, BUSY_RETRY_SECONDS, code="BUSY") from error

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[AsyncSession]:
        """Give a session as ``read`` does, for who waits for another process between two statements.

        Only a few have one at once and the others wait, which leaves connections for all other reads.
        """
        async with self._holding, self.read() as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Give a session whose changes are committed when the block ends, or undone by an error in it.

        Then, with the writer free for others, what ``after_commit`` was given is done.

        Raises:
            QueueFull: There is no room on the disk, or the file is not where it was.
        """
        try:
            async with self._writing:
                await self._check_place()
                async with self._write_sessions() as session, session.begin():
                    yield session
                    # What goes with a row may have been written to where the directory was until now.
                    await self._check_place()
                    await concept_words.keep_words(session)
                    changes = await take_noted(session)
                self.changes.tell(changes)
        except OperationalError as error:
            if _FULL not in str(error.orig):
                raise
            raise QueueFull(f"Nothing can be written: {FULL}.", RETRY_SECONDS, code="BUSY") from error
        self.commits += 1
        for work in session.info.pop(_AFTER_COMMIT, ()):
            try:
                await work(self)
            except Exception:
                # What was committed is so; what this has left undone is found at the next start.
                log.exception("work after a commit failed")

    async def look(self) -> str | None:
        """Check the file and return its problem, if any; one that was moved or deleted is not written to."""
        is_gone, is_full = await asyncio.to_thread(_look, self._path, self._identity)
        self._note(is_gone=is_gone)
        return GONE if is_gone else FULL if is_full else None

    async def _check_place(self) -> None:
        """Refuse to write where the file is not where it was: what is told to be kept would be in nothing."""
        self._note(is_gone=await asyncio.to_thread(identity_of, self._path) != self._identity)
        if self._is_gone:
            raise QueueFull(f"Nothing can be written: {GONE}.", RETRY_SECONDS, code="BUSY")

    def _note(self, *, is_gone: bool) -> None:
        if is_gone != self._is_gone:
            log.error("database file is gone" if is_gone else "database file is back")
        self._is_gone = is_gone

    async def stop_writing(self) -> None:
        """Wait for the write in hand, and let nobody begin another: who waits for that may be canceled.

        A write that is canceled half-way can leave its connection, and with it the process, hanging.
        """
        await self._writing.acquire()

    async def close(self) -> None:
        """Close all connections."""
        await self._readers.dispose()
        await self._writers.dispose()


def _prepare_writer(connection: Any) -> None:
    note_changes(connection)
    concept_words.note_names(connection)


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return the identity of the file at a path; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _look(path: Path, identity: tuple[int, int] | None) -> tuple[bool, bool]:
    """Return whether the file is another one or none by now, and whether its disk is full."""
    is_gone = identity_of(path) != identity
    return is_gone, not is_gone and shutil.disk_usage(path.parent).free < MIN_FREE_BYTES


def after_commit(session: AsyncSession, work: Callable[[Database], Awaitable[None]]) -> None:
    """Have work done once a write session has been committed; an error in it is only logged."""
    session.info.setdefault(_AFTER_COMMIT, []).append(work)


class _Connection(aiosqlite.Connection):
    """A connection whose thread is told once to stop.

    Where a read is canceled while its connection is being closed, SQLAlchemy has it stopped, and the closing
    stops it again: it would wait for ever for the answer of a thread that has ended.
    """

    _is_stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        """Have the thread end after what it has been given; None where it has been told before."""
        if self._is_stopped:
            return None
        self._is_stopped = True
        return super().stop()


def _connect(database: str, **options: Any) -> _Connection:
    # Where somebody has moved the file, no empty one is to take its place.
    address = f"{Path(database).absolute().as_uri()}?mode=rw"
    connection = _Connection(lambda: sqlite3.connect(address, uri=True, **options), iter_chunk_size=64)
    connection._thread.daemon = True  # As SQLAlchemy has it, where it makes the connection.
    return connection


def _engine(
    path: Path, begin: str, pool_size: int, prepare: Callable[[Any], None] = lambda connection: None
) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=pool_size,
        max_overflow=0,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "async_creator_fn": _connect},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: ours begin in the listener below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
        prepare(connection)

    @event.listens_for(engine.sync_engine, "begin")
    def begin_transaction(connection: Any) -> None:
        connection.exec_driver_sql(f"BEGIN {begin}")

    return engine
