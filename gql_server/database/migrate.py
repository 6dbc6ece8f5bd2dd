"""Brings the database up to the newest revision."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import migrations
from gql_server.artifacts.files import atomic_file

if TYPE_CHECKING:
    from alembic.config import Config


class DatabaseTooNew(Exception):
    """The database was written by a newer version of this program."""


def migrate(path: Path) -> None:
    """Create or upgrade the database at ``path``; an older one is copied beside itself first.

    Raises:
        DatabaseTooNew: Its revision is none that this program knows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    revision = current_revision(path)
    if revision == migrations.HEAD:
        return
    # Imported here, because an up-to-date database, the usual case, does not need it to answer quickly.
    from alembic import command
    from alembic.script import ScriptDirectory
    from sqlalchemy import URL, create_engine, event

    config = alembic_config()
    if revision is not None:
        if revision not in {known.revision for known in ScriptDirectory.from_config(config).walk_revisions()}:
            raise DatabaseTooNew(
                f"The database {path} has revision {revision}, which this version does not know. "
                "Use the newer version of gql-server that wrote it, or another artifact directory."
            )
        _back_up(path, revision)
    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    # All in one transaction, which SQLite can do: killed in the middle, the database is what it was.
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise RuntimeError(f"The migration of {path} would leave rows that refer to none: {broken[:5]}")
    engine.dispose()


def _configure(connection: Any, _record: Any) -> None:
    """Prepare a connection for changes of tables, with transactions that begin where we say."""
    connection.isolation_level = None
    # WAL mode stays with the file. Connections that set it at the same time may find the file locked,
    # whatever their timeout; so it is set once, here.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=OFF")


def current_revision(path: Path) -> str | None:
    """Return the database's revision, or None where there is no database yet."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as connection:
        try:
            row: Any = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:  # no such table: an empty file
            return None
    return str(row[0]) if row else None


def alembic_config() -> "Config":
    """Return Alembic's configuration for this project's migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def _back_up(path: Path, revision: str) -> None:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy = path.with_name(f"{path.name}.{revision}.{stamp}.backup")
    with atomic_file(copy) as temporary, closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(temporary),))
