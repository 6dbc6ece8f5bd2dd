"""The words of an index's top texts and promoted tokens: an SQLite file beside it that finds neurons by them.

Two FTS5 tables without the texts themselves, whose rows are the neurons. Words are cut here and not by FTS5,
so that those of a text and those of a search are cut alike, and names of neurons with them.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEARCH_FILE = "search.sqlite3"
TABLES = ("top_texts", "promoted_tokens")
_WORD = re.compile(r"[^\W_]+")
_ROWS_AT_ONCE = 500
_HASH_BYTES = 2**26
"""Memory for what is not written yet: less makes more parts of the file, and a search goes through all."""


def words(text: str) -> list[str]:
    """Return a text's words, runs of letters and digits, in lower case."""
    return _WORD.findall(text.lower())


class SearchWriter:
    """Writes the words of neurons into a new file."""

    def __init__(self, path: Path) -> None:
        """Make the file, which is of use to nobody before the end."""
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
            self._connection.execute(f"PRAGMA {pragma}")
        # Whoever types has one or two letters at first, with which many words begin: these have own lists.
        options = "content='', detail=none, columnsize=0, prefix='1 2', tokenize='ascii'"
        for table in TABLES:
            self._connection.execute(f"CREATE VIRTUAL TABLE {table} USING fts5(words, {options})")
            self._connection.execute(f"INSERT INTO {table}({table}, rank) VALUES ('hashsize', {_HASH_BYTES})")

    def add(self, table: str, words_of_neurons: Iterable[tuple[int, set[str]]]) -> Iterator[int]:
        """Take in neurons, ascending, with the words of each; gives how many are done, now and then."""
        insert = f"INSERT INTO {table}(rowid, words) VALUES (?, ?)"
        self._connection.execute("BEGIN")
        for number, (neuron, found) in enumerate(words_of_neurons):
            if number % _ROWS_AT_ONCE == 0:
                yield number
            if found:
                self._connection.execute(insert, (neuron, " ".join(found)))
        self._connection.execute("COMMIT")
        self._connection.execute(f"INSERT INTO {table}({table}) VALUES ('optimize')")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def neurons_with(path: Path, table: str, word: str) -> "NDArray[np.int64]":
    """Return the neurons that have a word beginning with this one; what is no word finds none.

    Raises FileNotFoundError where there is no such file, sqlite3.Error where it is damaged.
    """
    import numpy as np

    if not path.is_file():
        raise FileNotFoundError(path)
    if words(word) != [word]:
        return np.zeros(0, np.int64)
    # Nobody writes to it any more, so it needs no locks.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        # Quoted, so that no word is an operator; there is no quote in it.
        match = f'"{word}"*'
        # One row: thousands take longer to fetch than to find.
        query = f"SELECT group_concat(rowid) FROM {table} WHERE {table} MATCH ?"
        (joined,) = connection.execute(query, (match,)).fetchone()
        return np.fromstring(joined or "", np.int64, sep=",")
    finally:
        connection.close()
