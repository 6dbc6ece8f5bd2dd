"""How long a server takes from the start of its process to its first answer.

``python -m benchmarks.start_up``: several starts, on a new artifact directory and on one that is there.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

QUERY = b'{"query": "{ jobs { nodes { id } } server { version } }"}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as directory:
        fresh = [seconds_to_answer(Path(directory) / f"fresh-{run}") for run in range(runs)]
        kept = Path(directory) / "kept"
        seconds_to_answer(kept)
        again = [seconds_to_answer(kept) for _ in range(runs)]
    for name, seconds in (("new artifact directory", fresh), ("existing one", again)):
        print(
            f"{name}: median {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s"
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
