"""The words of names are those of the names, whatever has written them."""

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from gql_server import ids
from gql_server.artifacts.search_words import words
from gql_server.database.concept_words import NAME, NOTE, neurons_with
from gql_server.database.database import Database
from gql_server.database.migrate import migrate
from models import Concept, LanguageModel, Sae, SaeNumber
from models.enums import ArtifactStatus, ConceptSource, FloatType, LanguageModelSourceKind, SaeOrigin

N_NEURONS = 40
PIECES = [
    "apple",
    "Apples",
    "APP",
    "x_y",
    "日本語",
    "日",
    "Ärger",
    "été",
    "NOT",
    'a"b',
    "1n",
    "1",
    "%d",
    "n",
    "-",
]
SEARCHED = ["app", "apple", "x", "y", "日", "日本", "ä", "ét", "not", "b", "1n", "1", "n", "d", "zebra"]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    migrate(tmp_path / "database.sqlite3")
    database = Database(tmp_path / "database.sqlite3")
    yield database
    await database.close()


async def add_saes(database: Database) -> list[str]:
    """Add SAEs and return some whose numbers begin alike, and must not be mixed up."""
    sae_ids = [ids.new(ids.SAE) for _ in range(11)]
    async with database.write() as session:
        lm = LanguageModel(
            id=ids.new(ids.LANGUAGE_MODEL),
            name="lm",
            source_kind=LanguageModelSourceKind.DIRECTORY,
            source="/nowhere",
            dtype=FloatType.FLOAT32,
        )
        session.add(lm)
        await session.flush()
        for number, id in enumerate(sae_ids, 1):
            session.add(
                Sae(
                    id=id,
                    name=id,
                    status=ArtifactStatus.READY,
                    origin=SaeOrigin.IMPORTED,
                    sae_class="TopKSae",
                    language_model_id=lm.id,
                    layer="m_layers_1",
                    directory=id,
                )
            )
            await session.flush()
            session.add(SaeNumber(number=number, sae_id=id))
    return [sae_ids[0], sae_ids[1], sae_ids[10]]


def row_of(sae_id: str, neuron: int, chance: random.Random) -> dict[str, object]:
    note = " ".join(chance.choices(PIECES, k=3)) if chance.random() < 0.7 else None
    return {
        "id": ids.new(ids.CONCEPT),
        "sae_id": sae_id,
        "neuron_index": neuron,
        "name": " ".join(chance.choices(PIECES, k=2)),
        "note": note,
        "source": ConceptSource.MANUAL,
    }


def has(row: Concept, word: str, fields: list[str]) -> bool:
    content = {NAME: row.name, NOTE: row.note or ""}
    return any(one.startswith(word) for field in fields for one in words(content[field]))


async def check(database: Database, sae_ids: list[str]) -> None:
    async with database.read() as session:
        rows = list(await session.scalars(select(Concept)))
        for fields in ([NAME], [NOTE], [NAME, NOTE]):
            found = await neurons_with(session, sae_ids, SEARCHED, fields)
            for sae_id in sae_ids:
                for place, word in enumerate(SEARCHED):
                    expected = {
                        row.neuron_index for row in rows if row.sae_id == sae_id and has(row, word, fields)
                    }
                    joined = found[sae_id][place]
                    assert {int(number) for number in joined.split(",") if number} == expected, word


async def test_words_are_found_after_every_kind_of_write(database: Database) -> None:
    chance = random.Random(18)
    sae_ids = await add_saes(database)
    rows = [row_of(sae_id, neuron, chance) for sae_id in sae_ids for neuron in range(N_NEURONS)]
    async with database.write() as session:
        await session.execute(insert(Concept), rows)
    await check(database, sae_ids)
    async with database.write() as session:
        changed = chance.sample(rows, 60)
        others = [row_of("", 0, chance) for _ in changed]
        values = [
            {"id": row["id"], "name": other["name"], "note": other["note"]}
            for row, other in zip(changed, others, strict=True)
        ]
        await session.execute(update(Concept), values)
        for row in chance.sample(rows, 10):
            concept = await session.get_one(Concept, row["id"])
            concept.name, concept.version = "only the name", concept.version + 1
    await check(database, sae_ids)
    async with database.write() as session:
        await session.execute(delete(Concept).where(Concept.neuron_index % 3 == 0))
    await check(database, sae_ids)
    with suppress(ZeroDivisionError):
        async with database.write() as session:
            await session.execute(update(Concept).values(name="undone apple", note=None))
            raise ZeroDivisionError
    await check(database, sae_ids)
    async with database.write() as session:
        await session.execute(delete(Concept).where(Concept.sae_id == sae_ids[0]))
        await session.execute(delete(Sae).where(Sae.id == sae_ids[0]))
    async with database.read() as session:
        assert await neurons_with(session, sae_ids[:1], SEARCHED, [NAME, NOTE]) == {}
    await check(database, sae_ids[1:])


async def test_a_migration_takes_in_the_names_that_are_there(database: Database, tmp_path: Path) -> None:
    chance = random.Random(19)
    sae_ids = await add_saes(database)
    async with database.write() as session:
        rows = [row_of(sae_id, neuron, chance) for sae_id in sae_ids for neuron in range(N_NEURONS)]
        await session.execute(insert(Concept), rows)
    path = tmp_path / "database.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        for statement in (
            "DROP TABLE concept_words",
            "DROP TABLE sae_numbers",
            "ALTER TABLE saes DROP COLUMN output_layer",
            "ALTER TABLE saes DROP COLUMN input_normalization",
            "ALTER TABLE saes DROP COLUMN fit",
        ):
            connection.execute(statement)
        connection.execute("UPDATE alembic_version SET version_num = '0012'")
        connection.commit()
    migrate(path)
    migrated = Database(path)
    await check(migrated, sae_ids)
    async with migrated.write() as session:
        await session.execute(update(Concept).values(name="apple"))
    await check(migrated, sae_ids)
    await migrated.close()
