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


def terms(number: int, name: str, note: str | None) -> str:
    """Return the terms of a neuron's row, as FTS5's ``ascii`` tokenizer parts them."""
    of_fields = ((NAME, name), (NOTE, note or ""))
    return " ".join(
        sorted({f"{number}{field}{word}" for field, content in of_fields for word in words(content)})
    )


def add_function(connection: Any) -> None:
    """Give a connection of SQLite ``concept_terms``, which is ``terms``."""
    connection.create_function("concept_terms", 3, terms, deterministic=True)


def note_names(connection: Any) -> None:
    """Have a connection note the names that it changes as they were before, whatever statement does so.

    Triggers do that, into a table of the connection's own, which ``keep_words`` takes in. They do not write
    to FTS5 themselves: it would write what it has to the file for each row.
    """
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TEMP TABLE noted_names (sae_id TEXT, neuron_index INTEGER, number INTEGER,"
        " name TEXT, note TEXT, PRIMARY KEY (sae_id, neuron_index))"
    )
    cursor.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (TABLE,))
    if cursor.fetchone()[0]:
        add_function(connection)
        # The number, too: it goes with the SAE.
        number = "(SELECT number FROM sae_numbers WHERE sae_id = OLD.sae_id)"
        before = f"OLD.sae_id, OLD.neuron_index, {number}, OLD.name, OLD.note"
        changed = "OLD.name IS NOT NEW.name OR OLD.note IS NOT NEW.note"
        for event, condition, values in (
            ("INSERT", "", "NEW.sae_id, NEW.neuron_index, NULL, NULL, NULL"),
            ("UPDATE", f" WHEN {changed}", before),
            ("DELETE", "", before),
        ):
            trigger = f"CREATE TEMP TRIGGER names_{event} AFTER {event} ON main.concepts{condition}"
            cursor.execute(f"{trigger} BEGIN INSERT OR IGNORE INTO noted_names VALUES ({values}); END")
    cursor.close()


_KEEP = (
    # A table without its texts has to be told what it has of a row.
    f"INSERT INTO {TABLE} ({TABLE}, rowid, words)"
    " SELECT 'delete', (number << 32) | neuron_index, concept_terms(number, name, note)"
    " FROM noted_names WHERE name IS NOT NULL",
    "INSERT OR IGNORE INTO sae_numbers (sae_id)"
    " SELECT DISTINCT sae_id FROM noted_names JOIN concepts USING (sae_id, neuron_index)",
    f"INSERT INTO {TABLE} (rowid, words)"
    " SELECT (sae_numbers.number << 32) | neuron_index,"
    " concept_terms(sae_numbers.number, concepts.name, concepts.note)"
    " FROM noted_names JOIN concepts USING (sae_id, neuron_index) JOIN sae_numbers USING (sae_id)",
    "DELETE FROM noted_names",
)


async def keep_words(session: AsyncSession) -> None:
    """Bring the words up to the names that a write session has changed, in its transaction."""
    await session.flush()
    if await session.scalar(text("SELECT EXISTS (SELECT 1 FROM noted_names)")):
        for statement in _KEEP:
            await session.execute(text(statement))


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
