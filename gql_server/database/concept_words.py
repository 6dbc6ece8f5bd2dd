"""The words of neurons' names and notes: an FTS5 table that finds neurons by them.

Words are cut as those of indexes and of searches are, and not by FTS5. A row is a neuron's: its ID has the
number of its SAE in the upper bits, and its index in the lower 32. Each term begins with that number and the
field, so that a search in one SAE goes through the terms of no other.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.artifacts.search_words import words

TABLE = "concept_words"
NAME, NOTE = "c", "n"
"""What terms of each field have behind the number: letters, which end it."""
CREATE = (
    f"CREATE VIRTUAL TABLE {TABLE} USING fts5(words, content='', detail=none, columnsize=0, tokenize='ascii')"
)
FILL = (
    "INSERT INTO sae_numbers (sae_id) SELECT DISTINCT sae_id FROM concepts ORDER BY sae_id",
    f"INSERT INTO {TABLE} (rowid, words)"
    " SELECT (number << 32) | neuron_index, concept_terms(number, name, note)"
    " FROM concepts JOIN sae_numbers USING (sae_id)",
)
"""What takes in all names; it needs ``add_function``."""


def terms(number: int, name: str, note: str | None) -> str:
    """Return the terms of a neuron's row, as FTS5's ``ascii`` tokenizer parts them."""
    of_fields = ((NAME, name), (NOTE, note or ""))
    return " ".join(
        sorted({f"{number}{field}{word}" for field, content in of_fields for word in words(content)})
    )


def add_function(connection: Any) -> None:
    """Give a connection of SQLite ``concept_terms``, which is ``terms``."""
    connection.create_function("concept_terms", 3, terms, deterministic=True)


def keep_words(connection: Any) -> None:
    """Have a connection keep the words of the names that it writes, whatever statement does so.

    Triggers do that, in the write's transaction. They are the connection's own, since other programs have no
    ``concept_terms``.
    """
    cursor = connection.cursor()
    cursor.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (TABLE,))
    if cursor.fetchone()[0]:
        add_function(connection)
        number = "INSERT OR IGNORE INTO sae_numbers (sae_id) VALUES (NEW.sae_id)"
        changed = "OLD.name IS NOT NEW.name OR OLD.note IS NOT NEW.note"
        for event, condition, work in (
            ("INSERT", "", f"{number}; {_put('NEW')}"),
            ("UPDATE", f" WHEN {changed}", f"{_take('OLD')}; {_put('NEW')}"),
            ("DELETE", "", _take("OLD")),
        ):
            trigger = f"CREATE TEMP TRIGGER words_{event} AFTER {event} ON main.concepts{condition}"
            cursor.execute(f"{trigger} BEGIN {work}; END")
    cursor.close()


def _put(row: str) -> str:
    return f"INSERT INTO {TABLE} (rowid, words) {_of(row)}"


def _take(row: str) -> str:
    # A table without its texts has to be told what it has of a row.
    return f"INSERT INTO {TABLE} ({TABLE}, rowid, words) " + _of(row, "'delete', ")


def _of(row: str, beside: str = "") -> str:
    return (
        f"SELECT {beside}(number << 32) | {row}.neuron_index, concept_terms(number, {row}.name, {row}.note)"
        f" FROM sae_numbers WHERE sae_id = {row}.sae_id"
    )


_FIND = text(
    "SELECT sae_id, wanted.key, ("
    f" SELECT group_concat(rowid & 4294967295) FROM {TABLE}"
    f" WHERE {TABLE} MATCH printf(wanted.value, number, number)"
    ") FROM sae_numbers, json_each(:patterns) AS wanted WHERE sae_id IN :sae_ids"
).bindparams(bindparam("sae_ids", expanding=True))


async def neurons_with(
    session: AsyncSession, sae_ids: Sequence[str], wanted: Sequence[str], fields: Sequence[str]
) -> dict[str, list[str]]:
    """Return the neurons of SAEs whose fields (NAME, NOTE) have a word beginning with each one wanted.

    Their indices are joined by commas, for thousands of rows would keep the event loop for long. SAEs without
    names are left out.

    Args:
        session: One for reading.
        sae_ids: The SAEs.
        wanted: What ``words`` gives of a search.
        fields: At least one.
    """
    # Quoted, so that no word is an operator; there are neither quotes nor percent signs in it.
    patterns = [" OR ".join(f'"%d{field}{word}"*' for field in fields) for word in wanted]
    values = {"patterns": json.dumps(patterns), "sae_ids": list(sae_ids)}
    found: dict[str, list[str]] = {}
    for sae_id, place, joined in await session.execute(_FIND, values):
        found.setdefault(sae_id, [""] * len(wanted))[place] = joined or ""
    return found
