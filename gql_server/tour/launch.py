"""The demo: a server of its own in a subprocess, the tour of it, and the server left running."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from gql_server.settings import Settings
from gql_server.tour import steps
from gql_server.tour.client import TourError
from gql_server.tour.plain_console import PlainConsole

LOG_FILE = "server.log"
LOG_LINES_TO_SHOW = 15
STOP_SECONDS = 20


def demo(settings: Settings, *, exit_when_done: bool, console: Console | None = None) -> int:
    """Start a server, give the tour, and leave the server running until Ctrl-C; return the exit status.

    Args:
        settings: Address, artifact directory and model directories of the server; its other settings come
            from the environment, as ever.
        exit_when_done: Stop the server when the tour is over.
        console: Where to print.
    """
    console = console or PlainConsole()
    settings.artifact_dir.mkdir(parents=True, exist_ok=True)
    log_path = settings.artifact_dir / LOG_FILE
    try:
        model = steps.model_file()
        with _server(settings, model, log_path) as (server, url):
            console.print(f"The server starts at {url}; its log: {log_path}", highlight=False)
            asyncio.run(_tour(server, url, console, model))
            if not exit_when_done:
                console.print("The server goes on until you press Ctrl-C.")
                server.wait()
    except TourError as error:
        console.print(f"[bold red]The tour ends here.[/] {escape(str(error))}", highlight=False)
        _show_log(console, log_path)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0 if not exit_when_done else 130
    return 0


async def _tour(server: subprocess.Popen[bytes], url: str, console: Console, model: Path) -> None:
    """Give the tour, and end it at once where the server dies."""
    tour = asyncio.create_task(steps.run(url, console, model=model))
    while not tour.done():
        if server.poll() is not None:
            tour.cancel()
            raise TourError(f"The server ended with exit status {server.returncode}.")
        await asyncio.wait([tour], timeout=0.5)
    await tour


@contextmanager
def _server(settings: Settings, model: Path, log_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = _free_port(settings.host, settings.port)
    directories = [model.parent, *settings.model_dirs]
    environment = os.environ | {"GQL_SERVER_MODEL_DIRS": os.pathsep.join(map(str, directories))}
    options = ["--host", settings.host, "--port", str(port), "--artifacts", str(settings.artifact_dir)]
    with log_path.open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gql_server", "serve", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield server, f"http://{host}:{port}"
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _free_port(host: str, wanted: int) -> int:
    """Return the wanted port where nothing listens on it, else a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in (wanted, 0):
        with socket.socket(family) as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((host, port))
            except OSError:
                continue
            return int(candidate.getsockname()[1])
    raise TourError(f"There is no free port at {host}.")


def _show_log(console: Console, log_path: Path) -> None:
    lines = log_path.read_text(errors="replace").splitlines() if log_path.exists() else []
    if lines:
        console.print(f"The end of {log_path}:", highlight=False)
        console.print("\n".join(lines[-LOG_LINES_TO_SHOW:]), style="dim", highlight=False, markup=False)
