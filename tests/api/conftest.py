import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gql_server.migrate import migrate
from gql_server.server import Server
from gql_server.settings import Settings
from tests.serving import serving


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an empty database to copy, since migrating takes longer than most tests."""
    path = Settings(artifact_dir=tmp_path_factory.mktemp("migrated")).database_path
    migrate(path)
    return path


@pytest.fixture
async def server(tmp_path: Path, migrated: Path) -> AsyncIterator[Server]:
    """Give a server's parts over an empty database."""
    shutil.copy(migrated, Settings(artifact_dir=tmp_path).database_path)
    async with serving(tmp_path) as parts:
        yield parts
