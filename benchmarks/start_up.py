"""How long a server takes from the start of its process to its first answer.

``python -m benchmarks.start_up``: several starts, on a new artifact directory and on one that is there.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks import rows
from benchmarks.rows import Row, Spread

GOAL = 1.5
QUERY = b'{"query": "{ jobs { nodes { id } } server { version } }"}'


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        fresh = [seconds_to_answer(Path(directory) / f"fresh-{run}") for run in range(given.runs)]
        kept = Path(directory) / "kept"
        seconds_to_answer(kept)
        again = [seconds_to_answer(kept) for _ in range(given.runs)]
    named = (("a new artifact directory", fresh), ("one that is there", again))
    rows.hand_over([row(name, Spread.of(seconds)) for name, seconds in named], given)


def row(name: str, seconds: Spread) -> Row:
    return Row(
        what=f"API start to first answer, {name}",
        ours=seconds.show("s", ".2f"),
        measured=f"{seconds.median:.2f} s",
        goal=f"≤ {GOAL:g} s",
        reached=seconds.median <= GOAL,
        precision=rows.UNKNOWN,
    )


def seconds_to_answer(artifacts: Path) -> float:
    """Start a server, ask until it answers, and stop it; returns the seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "gql_server",
        "serve",
        "--port",
        str(port),
        "--artifacts",
        str(artifacts),
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
    try:
        while not answers(port):
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", QUERY, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return bool(json.load(response)["data"]["server"]["version"])
    except OSError:
        return False


if __name__ == "__main__":
    main()
