"""The tables of an artifact directory, read past the server."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

Row = dict[str, Any]
JSON_COLUMNS = {"payload", "request", "layers"}


def rows(directory: Path, table: str, order: str = "rowid") -> list[Row]:
    """Return all rows of a table."""
    with closing(sqlite3.connect(f"file:{directory / 'gql_server.sqlite3'}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()
    return [_plain(row) for row in found]


def by_id(directory: Path, table: str) -> dict[str, Row]:
    """Return all rows of a table by their ID."""
    return {row["id"]: row for row in rows(directory, table)}


def _plain(row: sqlite3.Row) -> Row:
    return {
        name: json.loads(row[name]) if name in JSON_COLUMNS and row[name] else row[name]
        for name in row.keys()  # noqa: SIM118  (a row's own iterator gives values)
    }
