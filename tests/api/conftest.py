import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn

from gql_server.database.migrate import migrate
from gql_server.services.app_context import AppContext
from gql_server.settings import Settings
from tests.jobs.test_event_hub import until
from tests.support.serving import endpoint, serving

BUFFER_BYTES = 16 * 1024
"""Of a socket's end in the kernel, which otherwise holds megabytes."""


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an empty database to copy, since migrating takes longer than most tests."""
    path = Settings(artifact_dir=tmp_path_factory.mktemp("migrated")).database_path
    migrate(path)
    return path


@pytest.fixture
async def server(tmp_path: Path, migrated: Path) -> AsyncIterator[AppContext]:
    """Give a server's parts over an empty database."""
    shutil.copy(migrated, Settings(artifact_dir=tmp_path).database_path)
    async with serving(tmp_path) as parts:
        yield parts


@pytest.fixture
async def address(server: AppContext) -> AsyncIterator[tuple[str, int]]:
    """Give the address of a server over real sockets with small buffers, in this process."""
    config = uvicorn.Config(endpoint(server), ws="websockets-sansio", lifespan="off", log_config=None)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    served = uvicorn.Server(config)
    serving = asyncio.create_task(served.serve([listener]))
    await until(lambda: served.started)
    yield listener.getsockname()
    served.should_exit = True
    await serving
