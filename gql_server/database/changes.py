"""What was made, changed and deleted: noted by each write in its own transaction, told after its commit."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_ROWS_CHANGED = "rows_changed"
MAX_PENDING = 1_000
"""Changes that wait for a reader, or come of one transaction; one that has more waiting is told to reload."""


class NodeKind(StrEnum):
    """What changes are told of."""

    LANGUAGE_MODEL = "LANGUAGE_MODEL"
    STORED_DATASET = "STORED_DATASET"
    ACTIVATION_RUN = "ACTIVATION_RUN"
    SAE = "SAE"
    CONCEPT = "CONCEPT"
    CONCEPT_CONFIG = "CONCEPT_CONFIG"
    JOB = "JOB"


class ChangeKind(StrEnum):
    """What has become of something."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    RELOAD = "RELOAD"


@dataclass(frozen=True)
class Change:
    """What has become of a row; of none where all is to be loaded again."""

    change: ChangeKind
    kind: NodeKind | None = None
    id: str | None = None


# --------------------------------------------------------------------------------- noting


@dataclass(frozen=True)
class _Watched:
    """A table whose changes are noted."""

    table: str
    kind: NodeKind
    columns: tuple[str, ...] = ()
    """Only changes of these are noted; of all where it is empty."""
    part_of: str | None = None
    """The column with the ID of what a row is a part of: a change of the row is an update of that."""


_WATCHED = (
    _Watched("language_models", NodeKind.LANGUAGE_MODEL),
    _Watched("stored_datasets", NodeKind.STORED_DATASET),
    _Watched("activation_runs", NodeKind.ACTIVATION_RUN),
    _Watched("saes", NodeKind.SAE),
    _Watched("neuron_indexes", NodeKind.SAE, part_of="sae_id"),
    _Watched("concepts", NodeKind.CONCEPT),
    _Watched("concept_configs", NodeKind.CONCEPT_CONFIG),
    # Not its progress, which comes several times a second, and has subscriptions of its own.
    _Watched("jobs", NodeKind.JOB, columns=("status", "attempt", "error")),
)


def note_changes(connection: Any) -> None:
    """Have a connection note what it changes, whatever statement does so: many rows may change at once.

    Triggers do that, into a table of the connection's own: like all else it is undone with its transaction.
    """
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    tables = {name for (name,) in cursor.fetchall()}
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.execute("CREATE TEMP TABLE noted_changes (kind TEXT, id TEXT, change TEXT)")
    for watched in _WATCHED:
        if watched.table in tables:
            for statement in _triggers(watched):
                cursor.execute(statement)
    cursor.close()


def _triggers(watched: _Watched) -> Iterator[str]:
    when = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in watched.columns)
    for event, row, change in (
        ("INSERT", "NEW", ChangeKind.CREATED),
        ("UPDATE", "NEW", ChangeKind.UPDATED),
        ("DELETE", "OLD", ChangeKind.DELETED),
    ):
        condition = f" WHEN {when}" if when and event == "UPDATE" else ""
        told = ChangeKind.UPDATED if watched.part_of else change
        values = f"('{watched.kind}', {row}.{watched.part_of or 'id'}, '{told}')"
        yield (
            f"CREATE TEMP TRIGGER noted_{event}_{watched.table} AFTER {event} ON main.{watched.table}"
            f"{condition} BEGIN INSERT INTO noted_changes VALUES {values}; END"
        )


async def take_noted(session: AsyncSession) -> list[Change]:
    """Return what a write session has changed, each row once; RELOAD alone where that is too much."""
    await session.flush()
    if not await _has_changed(session):
        return []
    query = text(f"SELECT kind, id, change FROM noted_changes ORDER BY rowid LIMIT {10 * MAX_PENDING}")
    rows = (await session.execute(query)).all()
    if not rows:
        return []
    await session.execute(text("DELETE FROM noted_changes"))
    pending = _Pending()
    for kind, id, change in rows:
        pending.add(Change(ChangeKind(change), NodeKind(kind), id))
    if len(rows) == 10 * MAX_PENDING or len(pending.changes) > MAX_PENDING:
        return [Change(ChangeKind.RELOAD)]
    return list(pending.changes.values())


async def _has_changed(session: AsyncSession) -> bool:
    """Return whether a session's connection has changed rows since the last time: else none are noted."""
    connection = await session.connection()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    known, info = driver.total_changes, connection.sync_connection.info  # type: ignore[union-attr]
    has_changed = bool(info.get(_ROWS_CHANGED) != known)
    info[_ROWS_CHANGED] = known
    return has_changed


class _Pending:
    """Changes in the order in which they came, one for each row."""

    def __init__(self) -> None:
        self.changes: dict[str, Change] = {}

    def add(self, change: Change) -> None:
        """Add a change to what is known of its row."""
        assert change.id is not None
        before = self.changes.get(change.id)
        if before is None or before.change == ChangeKind.UPDATED:
            self.changes[change.id] = change
        elif before.change == ChangeKind.CREATED and change.change == ChangeKind.DELETED:
            del self.changes[change.id]


# -------------------------------------------------------------------------------- telling


class ChangeWatcher:
    """A reader's changes that have not been read. At first all is to be loaded."""

    def __init__(self, kinds: Collection[NodeKind] | None) -> None:
        self._kinds = kinds
        self._pending = _Pending()
        self._must_reload = True
        self._told = asyncio.Event()

    def tell(self, changes: Collection[Change]) -> None:
        """Add changes of a transaction; what is more than may wait is left out, and the reader to reload."""
        for change in changes:
            if self._must_reload:
                break
            if change.change == ChangeKind.RELOAD:
                self._must_reload = True
            elif self._kinds is None or change.kind in self._kinds:
                self._pending.add(change)
                self._must_reload = len(self._pending.changes) > MAX_PENDING
        if self._must_reload:
            self._pending.changes.clear()
        self._told.set()

    async def next(self) -> Change:
        """Return the next change, when there is one."""
        while True:
            if self._must_reload:
                self._must_reload = False
                return Change(ChangeKind.RELOAD)
            if self._pending.changes:
                return self._pending.changes.pop(next(iter(self._pending.changes)))
            self._told.clear()
            await self._told.wait()


class ChangeFeed:
    """Tells all watchers of what was committed."""

    def __init__(self) -> None:
        self._watchers: set[ChangeWatcher] = set()

    def tell(self, changes: Collection[Change]) -> None:
        """Tell of a transaction's changes, in the order of commits."""
        if changes:
            for watcher in self._watchers:
                watcher.tell(changes)

    @contextmanager
    def watching(self, kinds: Collection[NodeKind] | None) -> Iterator[ChangeWatcher]:
        """Give a watcher of these kinds, or of all, while the block runs."""
        watcher = ChangeWatcher(kinds)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
