"""Two processes write, many read, and nobody hears that the database is locked."""

import asyncio
import gc
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from gql_server.database.database import Database
from gql_server.database.migrate import migrate
from gql_server.errors import QueueFull
from models import LanguageModel

SECONDS = float(os.environ.get("GQL_SERVER_TEST_DATABASE_SECONDS", "5"))
"""How long; the long form takes a minute."""

WRITER = """
import asyncio, json, sys, time
from pathlib import Path
from gql_server import ids
from gql_server.database.database import Database
from models import LanguageModel
from models.enums import FloatType, LanguageModelSourceKind
from sqlalchemy import func, select


async def main(path: str, seconds: float) -> None:
    database, written, end = Database(Path(path)), 0, time.monotonic() + seconds

    async def write() -> None:
        nonlocal written
        while time.monotonic() < end:
            async with database.write() as session:
                # A read that turns into a write: what SQLite refuses at once to a deferred transaction.
                await session.scalar(select(func.count()).select_from(LanguageModel))
                id = ids.new(ids.LANGUAGE_MODEL)
                session.add(LanguageModel(id=id, name=id, source_kind=LanguageModelSourceKind.DIRECTORY,
                                          source="/nowhere", dtype=FloatType.FLOAT32))
            written += 1

    await asyncio.gather(*(write() for _ in range(3)))
    await database.close()
    print(json.dumps(written))


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


def start_writer(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(SECONDS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.timeout(max(300, 3 * SECONDS))
async def test_two_writers_and_many_readers_never_find_the_database_locked(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite3"
    migrate(path)
    writers = [start_writer(path) for _ in range(2)]
    database = Database(path)
    counts: list[list[int]] = [[] for _ in range(16)]

    async def read(seen: list[int]) -> None:
        while any(writer.poll() is None for writer in writers):
            async with database.read() as session:
                seen.append(await session.scalar(select(func.count()).select_from(LanguageModel)) or 0)
            await asyncio.sleep(0)

    await asyncio.gather(*(read(seen) for seen in counts))
    outputs = [writer.communicate() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], outputs
    written = [json.loads(out) for out, _ in outputs]
    async with database.read() as session:
        total = await session.scalar(select(func.count()).select_from(LanguageModel))
    await database.close()
    print(f"{written} rows written, {sum(map(len, counts))} reads in {SECONDS:g} s")
    assert total == sum(written) and min(written) > 0
    assert all(seen == sorted(seen) and len(seen) > 10 for seen in counts)


async def test_a_read_that_is_canceled_twice_leaves_nothing_that_waits_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite3"
    migrate(path)
    database = Database(path)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def read() -> None:
        async with database.read() as session:
            await session.execute(text("SELECT 1"))
            await session.execute(text("SELECT 2"))

    for turns in range(32):
        for pause in range(8):
            reading = asyncio.ensure_future(read())
            for wait in (turns, pause):
                for _ in range(wait):
                    await asyncio.sleep(0)
                reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    await database.close()
    gc.collect()

    assert complaints == []


async def test_few_hold_a_connection_at_once_and_reads_go_on_beside_them(tmp_path: Path) -> None:
    migrate(tmp_path / "database.sqlite3")
    database = Database(tmp_path / "database.sqlite3")
    holding, let_go = list[int](), asyncio.Event()

    async def hold(number: int) -> None:
        async with database.hold() as session:
            await session.scalar(select(func.count()).select_from(LanguageModel))
            holding.append(number)
            await let_go.wait()

    holders = [asyncio.create_task(hold(number)) for number in range(12)]
    for _ in range(20):
        async with database.read() as session:
            assert await session.scalar(select(func.count()).select_from(LanguageModel)) == 0
    assert sorted(holding) == [0, 1]
    let_go.set()
    await asyncio.gather(*holders)
    assert len(holding) == 12
    await database.close()


async def test_who_gets_no_connection_to_read_with_is_told_to_try_again(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    migrate(path)
    database = Database(path)
    pool = database._readers.sync_engine.pool
    pool._timeout = 0.01  # type: ignore[attr-defined]
    async with AsyncExitStack() as readers:
        for _ in range(pool.size()):  # type: ignore[attr-defined]
            session = await readers.enter_async_context(database.read())
            await session.scalar(select(1))
        with pytest.raises(QueueFull) as refusal:
            async with database.read() as session:
                await session.scalar(select(1))
        assert refusal.value.code == "BUSY"
    async with database.read() as session:
        assert await session.scalar(select(1)) == 1
    await database.close()
