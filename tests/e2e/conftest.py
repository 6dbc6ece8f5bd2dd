"""A server that knows the tiny model, shared by the end-to-end tests of this folder."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Api, api
from tests.support.server_process import RunningServer, server_process


@pytest.fixture(scope="module")
def tiny_server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run a server that may load models from the tiny model's directory."""
    directory = tmp_path_factory.mktemp("artifacts")
    with server_process(directory, MODEL_DIRS=str(tiny_model_dir)) as server:
        yield server


@pytest.fixture
async def client(tiny_server: RunningServer) -> AsyncIterator[Api]:
    """Give a client of the tiny model's server."""
    async with api(tiny_server.url) as connected:
        yield connected
