"""A server of a program's own, on a free port of this machine, for as long as it is needed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_SECONDS = 30
LINES_TO_SHOW = 20


@contextmanager
def own_server(artifacts: Path, model_dirs: Sequence[Path]) -> Iterator[str]:
    """Start a server and give its URL; where what is done with it fails, its log's end is printed."""
    artifacts.mkdir(parents=True, exist_ok=True)
    log_path = artifacts / "server.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--artifacts", str(artifacts)]
    environment = os.environ | {"GQL_SERVER_MODEL_DIRS": os.pathsep.join(map(str, model_dirs))}
    with log_path.open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gql_server", "serve", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    except Exception:
        print(*log_path.read_text(errors="replace").splitlines()[-LINES_TO_SHOW:], sep="\n", file=sys.stderr)
        raise
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
