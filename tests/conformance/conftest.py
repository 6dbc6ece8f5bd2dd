"""The servers that the conformance tests talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server_process import RunningServer, server_process

TOKEN = "conformance-token"


@pytest.fixture(scope="session")
def tiny_server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run a server for the tiny model that tells of each batch and has room for two operations a socket."""
    settings = {
        "MODEL_DIRS": str(tiny_model_dir),
        "PROGRESS_INTERVAL_SECONDS": "0.001",
        "WORKERS": "1",
        "MAX_OPERATIONS_PER_SOCKET": "2",
    }
    with server_process(tmp_path_factory.mktemp("artifacts"), **settings) as server:
        yield server


@pytest.fixture(scope="session")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run a server that wants a token, handshakes within a second, pongs, and few operations a socket."""
    settings = {
        "TOKEN": TOKEN,
        "SOCKET_INIT_SECONDS": "1",
        "PING_SECONDS": "1",
        "MAX_OPERATIONS_PER_SOCKET": "2",
        "WARM_UP": "false",
    }
    with server_process(tmp_path_factory.mktemp("artifacts"), **settings) as server:
        yield server
