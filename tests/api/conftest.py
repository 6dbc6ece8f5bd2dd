import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gql_server.database.migrate import migrate
from gql_server.services.app_context import AppContext
from gql_server.settings import Settings
from tests.support.listening import listening
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
    async with listening(endpoint(server), BUFFER_BYTES) as listening_address:
        yield listening_address
