"""The servers that the browser visits."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.browsing import TOKEN
from tests.browser.small_sae import SmallSae, make_small_sae
from tests.e2e.client import api
from tests.support.server_process import RunningServer, server_process


@pytest.fixture(scope="session")
def tiny_server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run a server that may load the tiny model, without a token."""
    with server_process(tmp_path_factory.mktemp("artifacts"), MODEL_DIRS=str(tiny_model_dir)) as server:
        yield server


@pytest.fixture(scope="session")
async def small_sae(tiny_server: RunningServer, tiny_model_dir: Path) -> SmallSae:
    """Make a small SAE on that server."""
    async with api(tiny_server.url) as client:
        return await make_small_sae(client, tiny_model_dir, "small SAE's model")


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[RunningServer]:
    """Run a server that nobody has used, without a token."""
    with server_process(tmp_path / "artifacts") as server:
        yield server


@pytest.fixture(scope="session")
def closed_server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run a server with a token that does not tell its schema, and may load the tiny model."""
    settings = {"TOKEN": TOKEN, "INTROSPECTION": "false", "MODEL_DIRS": str(tiny_model_dir)}
    with server_process(tmp_path_factory.mktemp("artifacts"), **settings) as server:
        yield server
