"""A server in a process of its own, and a client that asks it one question after the other.

The client is a bare ``http.client``: what it takes itself of a measured time is a fraction of a millisecond.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 120
STOP_SECONDS = 30
POLL_SECONDS = 0.1
JOB = """query($id: ID!) { job(id: $id) {
  id kind status error lastSequence progress { fraction completed total unit ratePerSecond etaSeconds }
  result { ... on Node { id } } } }"""
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "INTERRUPTED")


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    pid: int
    start_seconds: float
    """From the start of its process to its first answer."""

    def resident_megabytes(self) -> float:
        """Return the server's resident memory, without its workers'."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def client(self) -> "Client":
        """A new connection."""
        return Client(self.port)


class Client:
    """A connection to a server that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        self.milliseconds = 0.0
        """How long the last answer took."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, document: str, **variables: Any) -> Any:
        """Return the data of an answer; an error in it ends the benchmark."""
        body = json.dumps({"query": document, "variables": variables})
        began = time.perf_counter()
        self._connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse().read()
        self.milliseconds = 1000 * (time.perf_counter() - began)
        result = json.loads(answer)
        if "errors" in result:
            raise RuntimeError(f"{result['errors'][:1]} for {document}")
        return result["data"]

    def launch(self, mutation: str, given: dict[str, Any]) -> str:
        """Return the ID of a new job."""
        input_type = mutation[0].upper() + mutation[1:] + "Input"
        launched = self.ask(
            f"mutation($input: {input_type}!) {{ {mutation}(input: $input) {{"
            " __typename ... on JobLaunched { job { id } } ... on Error { message } } }",
            input=given,
        )[mutation]
        if launched["__typename"] != "JobLaunched":
            raise RuntimeError(f"{mutation} was refused: {launched}")
        return str(launched["job"]["id"])

    def job(self, id: str) -> dict[str, Any]:
        """Return a job as it is; RuntimeError where it has failed."""
        job: dict[str, Any] = self.ask(JOB, id=id)["job"]
        if job["status"] in ENDED and job["status"] != "SUCCEEDED":
            raise RuntimeError(f"the job did not succeed: {job}")
        return job

    def finish(self, id: str) -> str:
        """Wait for a job, and return the ID of its result."""
        while (job := self.job(id))["status"] not in ENDED:
            time.sleep(POLL_SECONDS)
        return str(job["result"]["id"])

    def language_model(self, path: Path) -> str:
        """Add a language model by its file's or directory's name, load it, and return its ID."""
        document = """mutation($path: String!) {
            addLanguageModel(input: {name: "model", source: {path: $path}}) {
              ... on LanguageModelAdded { languageModel { id } } ... on Error { message } } }"""
        added = self.ask(document, path=str(path))["addLanguageModel"]["languageModel"]["id"]
        load = "mutation($id: ID!) { loadLanguageModel(id: $id) { ... on JobLaunched { job { id } } } }"
        self.finish(self.ask(load, id=added)["loadLanguageModel"]["job"]["id"])
        return str(added)

    def block(self, language_model: str, depth: int) -> str:
        """Return the name of a block of a loaded model."""
        document = "query($id: ID!) { languageModel(id: $id) { layers { name depth } } }"
        layers = self.ask(document, id=language_model)["languageModel"]["layers"]
        return str(next(layer["name"] for layer in layers if layer["depth"] == depth))


@contextmanager
def served(artifacts: Path | None = None, **settings: str) -> Iterator[Served]:
    """Run a server while the block runs; settings are named as in the environment, without the prefix."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        artifacts = artifacts or Path(directory) / "artifacts"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        command = [sys.executable, "-m", "gql_server", "serve"]
        log_path = Path(directory) / "server.log"
        with log_path.open("wb") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--port", str(port), "--artifacts", str(artifacts)],
                env=os.environ | {f"GQL_SERVER_{name}": value for name, value in settings.items()},
                stdout=log,
                stderr=log,
            )
        try:
            while not _answers(port):
                if process.poll() is not None:
                    raise RuntimeError(f"the server did not start:\n{log_path.read_text()}")
                time.sleep(0.01)
            yield Served(port, process.pid, time.perf_counter() - began)
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _answers(port: int) -> bool:
    try:
        return bool(Client(port).ask("{ jobs { nodes { id } } server { version } }"))
    except ConnectionError:
        return False


def p95(milliseconds: Sequence[float]) -> float:
    """Return what 95 of 100 are no longer than."""
    if len(milliseconds) == 1:
        return milliseconds[0]
    return statistics.quantiles(milliseconds, n=20, method="inclusive")[-1]
