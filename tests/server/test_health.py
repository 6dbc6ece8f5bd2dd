"""/healthz, where everything is well, and where something is not."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from gql_server import __version__
from gql_server.errors import QueueFull
from gql_server.server import health
from gql_server.server.app import application, bind_server
from gql_server.server.health import Health
from gql_server.services.app_context import AppContext
from models import LanguageModel
from tests.support.server_process import server_process
from tests.support.serving import client_of, serving
from tests.support.waiting import until

WELL = {"reading": "ok", "writing": "ok", "lane jobs": "ok", "lane interactive": "ok"}


@pytest.mark.parametrize("path", ["/healthz", "/healthz/ready"])
async def test_a_server_that_can_serve_is_ready(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        response = await client.get(path)
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": __version__, "checks": WELL}


async def test_a_server_that_stops_taking_jobs_lives_but_is_not_ready(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        await server.supervisor.close()
        ready, live = await client.get("/healthz"), await client.get("/healthz/live")
    assert (ready.status_code, live.status_code) == (503, 200)
    ended = {"lane jobs": "ended", "lane interactive": "ended"}
    assert ready.json() == {"status": "unavailable", "version": __version__, "checks": WELL | ended}
    assert live.json() == {"status": "ok", "version": __version__}


async def test_a_database_that_cannot_be_read_is_named_without_its_path(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        async with server.database.write() as session:
            await (await session.connection()).exec_driver_sql("ALTER TABLE saes RENAME TO gone")
        response = await client.get("/healthz")
    assert response.status_code == 503
    # Where the machine is busy, writing may take too long beside the log's traceback.
    assert response.json()["checks"] | {"writing": "ok"} == WELL | {"reading": "fails"}
    assert str(tmp_path) not in response.text


async def test_a_database_that_is_locked_for_long_is_told_and_not_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        async with server.database.write():
            monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.05)
            first, second = await client.get("/healthz"), await client.get("/healthz")
            monkeypatch.undo()
            # Where the machine is busy, reading may have taken too long as well; it ends by itself.
            await until(lambda: sum("_told" in repr(task) for task in asyncio.all_tasks()) == 1)
        afterwards = await client.get("/healthz")
    assert first.json()["checks"]["writing"] == second.json()["checks"]["writing"] == "takes too long"
    assert afterwards.status_code == 200


async def test_from_the_signal_to_stop_on_it_is_not_ready(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        app = application(server.settings, server.telemetry)
        bind_server(app, server)
        assert isinstance(app.state.health, Health)
        app.state.health.stop()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            response = await client.get("/healthz/ready")
    assert response.status_code == 503
    assert response.json()["checks"] == {"server": "stopping"}


def test_a_real_server_ends_at_the_signal_as_ever(tmp_path: Path) -> None:
    with server_process(tmp_path, WARM_UP="false") as server:
        assert httpx.get(f"{server.url}/healthz/ready").json()["checks"] == WELL
        os.kill(server.pid, signal.SIGTERM)
        assert server.process.wait(10) == 0


async def test_a_database_that_was_moved_away_is_told_and_nothing_is_written_into_nothing(
    tmp_path: Path,
) -> None:
    # To show a stack on a terminal takes seconds, of which a busy machine has none.
    with capture_logs():
        moved, back = await moved_and_back(tmp_path)
    assert (moved.status_code, back.status_code) == (503, 200), back.text
    assert "not where it was" in moved.json()["checks"]["writing"]


async def moved_and_back(tmp_path: Path) -> tuple[httpx.Response, httpx.Response]:
    """Return what is told while the database is somewhere else, and when it is back."""
    async with serving(tmp_path) as server, client_of(server) as client:
        path = server.settings.database_path
        path.rename(tmp_path / "elsewhere")
        moved = await client.get("/healthz")
        with pytest.raises(QueueFull, match="not where it was"):
            async with server.database.write():
                pass
        (tmp_path / "elsewhere").rename(path)
        back = await client.get("/healthz")
        async with server.database.write():
            pass
    return moved, back


async def test_a_write_during_which_the_database_is_moved_away_is_refused_and_undone(tmp_path: Path) -> None:
    count = select(func.count()).select_from(LanguageModel)
    async with serving(tmp_path) as server:
        path = server.settings.database_path
        with pytest.raises(QueueFull, match="not where it was"):
            await add_while(server, lambda: path.rename(tmp_path / "elsewhere"))
        with pytest.raises(QueueFull, match="not where it was"):
            await add_while(server, lambda: pytest.fail("It is found before anything is written."))
        (tmp_path / "elsewhere").rename(path)
        async with server.database.write() as session:
            assert await session.scalar(count) == 0


async def add_while(server: AppContext, meanwhile: Callable[[], object]) -> None:
    """Add a language model, and do something else in the same transaction."""
    async with server.database.write() as session:
        row = {"id": "lm_a", "name": "a", "source_kind": "DIRECTORY", "source": "/", "dtype": "FLOAT32"}
        session.add(LanguageModel(**row))
        await session.flush()
        meanwhile()


async def test_a_full_disk_is_told_and_what_makes_room_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
        monkeypatch.setattr("gql_server.database.database.shutil.disk_usage", lambda _: full)
        told = await client.get("/healthz")
        mutation = 'mutation { deleteSae(id: "sae_x") { __typename ... on Error { message } } }'
        answer = (await client.post("/graphql", json={"query": mutation})).json()
    assert (told.status_code, "the disk is full" in told.json()["checks"]["writing"]) == (503, True)
    assert answer["data"]["deleteSae"]["__typename"] == "NotFound", "deleting makes room"


async def test_a_transaction_that_finds_the_disk_full_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        with pytest.raises(QueueFull, match="the disk is full"):
            await fill(server)


async def fill(server: AppContext) -> None:
    """Write more than a database may have that may have no more than it has."""
    async with server.database.write() as session:
        connection = await session.connection()
        await connection.exec_driver_sql("PRAGMA max_page_count = 1")
        await connection.exec_driver_sql("CREATE TABLE large (a)")
        await connection.exec_driver_sql("INSERT INTO large VALUES (zeroblob(1000000))")
