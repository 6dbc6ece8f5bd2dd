"""A real server in a process of its own, on a free port of the loopback interface."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True)
class RunningServer:
    """A server in a process of its own."""

    url: str
    """Such as http://127.0.0.1:8000."""
    artifact_dir: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process's ID."""
        return self.process.pid

    @property
    def port(self) -> str:
        """The port that it listens on."""
        return self.url.rpartition(":")[2]

    def worker(self, lane: str) -> int | None:
        """Return the process ID of a lane's worker, if it runs."""
        return next(iter(self.workers(lane)), None)

    def workers(self, lane: str) -> list[int]:
        """Return the process IDs of a lane's workers that run, in the order in which they are told of."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        commands = {int(child): _command_of(child) for child in children}
        found = [pid for pid, command in commands.items() if lane in command]
        return sorted(found, key=lambda pid: _board_place(commands[pid]))


@contextmanager
def server_process(
    artifact_dir: Path, tree: str = "", port: str = "", **settings: str
) -> Iterator[RunningServer]:
    """Run a server while the block runs; settings are named as in the environment, without the prefix.

    ``tree`` is a directory with a copy of the packages to run in place of these; ``port`` is that of a server
    that has ended, for clients that wait for it to come back.
    """
    port = port or str(_free_port())
    options = ["--port", port, "--artifacts", str(artifact_dir)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GQL_SERVER_")}
    environment |= {f"GQL_SERVER_{name}": value for name, value in settings.items()}
    if tree:
        environment["PYTHONPATH"] = tree
    artifact_dir.mkdir(parents=True, exist_ok=True)
    with (artifact_dir / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gql_server", "serve", *options],
            cwd=tree or None,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process, artifact_dir / "server.log")
        yield RunningServer(url, artifact_dir, process)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _command_of(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []  # It has just ended.


def _board_place(command: list[str]) -> int:
    """Return which of the workers it is; 0 of one that is for both lanes."""
    places = [part.partition("=")[2] for part in command if part.startswith("--board-place=")]
    return int(places[0]) if places else 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/healthz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail(f"The server did not start:\n{log.read_text(errors='replace')}")
