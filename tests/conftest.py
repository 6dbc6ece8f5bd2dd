"""What tests of every kind share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gql_server.compute.worker.thread_waits import ShortSpins
from tests.support.server_process import RunningServer, server_process
from tests.support.tiny_model import make_tiny_model

LONG = {"faults", "fuzz", "attack", "e2e", "benchmarks"}
"""The folders whose single tests take longest: marked as slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that all workers of a run have something to do until its end."""
    for item in items:
        if not LONG.isdisjoint(item.path.relative_to(Path(__file__).parent).parts):
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests and fixtures on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def short_spins() -> None:
    """Have threads of tensor operations sleep where they wait, if other tests run on the same processors."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        ShortSpins().set(True)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the directory of a tiny Llama with its tokenizer."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Give a real server on a free port with an artifact directory of its own."""
    with server_process(tmp_path_factory.mktemp("artifacts")) as server:
        yield server
