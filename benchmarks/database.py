"""How a server does with a database of 100,000 jobs and 10 million events of theirs.

``python -m benchmarks.database``: the database is made up, and asked over HTTP and a WebSocket: single jobs,
lists of them by every filter and from deep cursors, a long log as a subscription, new jobs. Then a second
server is to remove the logs of the oldest tenth of the jobs (``GQL_SERVER_RETENTION_DAYS``), and is asked and
written to meanwhile.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from benchmarks import full_database, rows
from benchmarks.full_database import DAYS, RARE_KIND, RARE_STATUS, FullDatabase
from benchmarks.rows import Row, Spread
from benchmarks.served import JOB, Client, p95, served
from gql_server.services import cursors

JOBS = """query($after: String, $status: [JobStatus!], $kind: [JobKind!]) {
  jobs(first: 20, after: $after, status: $status, kind: $kind) {
    nodes { id kind status attempt error createdAt finishedAt progress { fraction } }
    pageInfo { hasNextPage endCursor } } }"""
COUNT = "{ jobs(first: 1, status: [FAILED]) { totalCount } }"
EVENTS = (
    "query($id: ID!, $after: Int!) { job(id: $id) { events(first: 100, after: $after) { sequence at } } }"
)
PROGRESS = """subscription($id: ID!) { jobProgress(id: $id) { __typename sequence at
  ... on JobStatusChanged { status error attempt } ... on JobLogged { message }
  ... on JobProgressed { progress { fraction completed total unit ratePerSecond etaSeconds } } } }"""
LOAD = "mutation($id: ID!) { loadLanguageModel(id: $id) { __typename ... on JobLaunched { job { id } } } }"
REMOVED = "query($id: ID!) { job(id: $id) { eventsRemovedThrough } }"
CANCEL = "mutation($id: ID!) { cancelJob(id: $id) { __typename } }"
"""Of a job that has ended it is refused, by a transaction that has waited for its turn to write."""
RETENTION_SHARE = 0.1
START_GOAL_SECONDS = 1.5
PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Timed:
    """One kind of request, in milliseconds."""

    name: str
    milliseconds: list[float]

    def row(self, size: str) -> Row:
        return Row(
            what=f"{size}: {self.name}",
            ours=Spread.of(self.milliseconds).show("ms", ".1f"),
            measured=f"p95 {p95(self.milliseconds):.1f} ms",
            precision=rows.UNKNOWN,
        )

    def report(self) -> None:
        p50, slowest = statistics.median(self.milliseconds), max(self.milliseconds)
        times = len(self.milliseconds)
        print(
            f"{self.name}: p50 {p50:.1f} ms, p95 {p95(self.milliseconds):.1f} ms, slowest {slowest:.1f} ms,"
            f" {times} times"
        )


def timed(client: Client, name: str, times: int, ask: Callable[[], object]) -> Timed:
    """Ask so many times; the first one, which parses the document, does not count."""
    milliseconds = []
    for _ in range(times + 1):
        ask()
        milliseconds.append(client.milliseconds)
    return Timed(name, milliseconds[1:])


class Questions:
    """What clients ask for, each kind so many times."""

    def __init__(self, client: Client, full: FullDatabase, times: int) -> None:
        self._client, self._full, self._times = client, full, times
        self._chance = random.Random(1)

    def single(self) -> Iterator[Timed]:
        yield self._timed("job", lambda: self._client.ask(JOB, id=self._some()))
        after = self._full.long_events // 2
        yield self._timed(
            "100 events of a job out of the middle of a long log",
            lambda: self._client.ask(EVENTS, id=self._full.long_log, after=after),
        )
        yield self._timed("totalCount of FAILED jobs", lambda: self._client.ask(COUNT))

    def lists(self) -> Iterator[Timed]:
        """Give lists of jobs: the first page by each filter, and pages from deep cursors."""
        filters: dict[str, dict[str, Any]] = {
            "all": {},
            "FAILED": {"status": ["FAILED"]},
            "SUCCEEDED or FAILED": {"status": ["SUCCEEDED", "FAILED"]},
            "RUNNING or QUEUED, of which there are none": {"status": ["RUNNING", "QUEUED"]},
            f"{RARE_STATUS}, one in a thousand": {"status": [RARE_STATUS]},
            f"{RARE_KIND}, one in a thousand": {"kind": [RARE_KIND]},
            "TRAIN_SAE and CANCELED": {"kind": ["TRAIN_SAE"], "status": ["CANCELED"]},
        }
        deep = self._deep_cursor()
        for name, conditions in filters.items():
            yield self._timed(f"jobs, {name}", partial(self._client.ask, JOBS, **conditions))
            from_middle = partial(self._client.ask, JOBS, after=deep, **conditions)
            yield self._timed(f"jobs, {name}, from the middle", from_middle)

    def _deep_cursor(self) -> str:
        """Return the cursor of the job in the middle, as a page that shows it has it."""
        middle = self._full.jobs[len(self._full.jobs) // 2]
        at = self._client.ask("query($id: ID!) { job(id: $id) { createdAt } }", id=middle)["job"]["createdAt"]
        return cursors.encode("jobs", at, middle)

    def _some(self) -> str:
        return self._chance.choice(self._full.jobs)

    def _timed(self, name: str, ask: Callable[[], object]) -> Timed:
        return timed(self._client, name, self._times, ask)


async def follow(port: int, job: str) -> tuple[int, float]:
    """Read a job's whole log; return how many events there were, and seconds."""
    protocols: Any = ["graphql-transport-ws"]
    url = f"ws://127.0.0.1:{port}/graphql"
    async with connect(url, subprotocols=protocols, compression=None) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        payload = {"query": PROGRESS, "variables": {"id": job}}
        began = time.perf_counter()
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        events = 0
        while (message := json.loads(await socket.recv()))["type"] == "next":
            events += 1
            assert message["payload"]["data"]["jobProgress"]["sequence"] == events
        assert message["type"] == "complete", message
        return events, time.perf_counter() - began


def launches(client: Client, full: FullDatabase) -> Timed:
    """Launch a job for each language model; they fail later, in the worker, for there are no files."""
    milliseconds = []
    for model in full.language_models:
        launched = client.ask(LOAD, id=model)["loadLanguageModel"]["__typename"]
        assert launched == "JobLaunched", launched
        milliseconds.append(client.milliseconds)
    return Timed("launching a job", milliseconds[1:])


@dataclass(frozen=True)
class Retention:
    """How removing old logs went."""

    jobs: int
    events: int
    seconds: float
    reads: Timed
    writes: Timed


def retain(client: Client, full: FullDatabase) -> Retention:
    """Ask and write until the logs of the oldest jobs are removed, which the server begins with at once."""
    count = int(RETENTION_SHARE * len(full.jobs)) - 1  # The last one's day is just coming to its end.
    last, newest = full.jobs[count - 1], full.jobs[-1]
    reads: list[float] = []
    writes: list[float] = []
    began = time.perf_counter()
    removed = 0
    while not removed:
        removed = client.ask(REMOVED, id=last)["job"]["eventsRemovedThrough"]
        reads.append(client.milliseconds)
        refused = client.ask(CANCEL, id=newest)["cancelJob"]["__typename"]
        assert refused == "Conflict", refused
        writes.append(client.milliseconds)
        time.sleep(PAUSE_SECONDS)
    each = client.job(last)["lastSequence"]
    timed_reads = Timed("eventsRemovedThrough of a job while old logs are removed", reads)
    timed_writes = Timed("a write while old logs are removed", writes)
    return Retention(count, count * each, time.perf_counter() - began, timed_reads, timed_writes)


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--long-log", type=int, default=20_000, help="events of one of the jobs")
    parser.add_argument("--times", type=int, default=50, help="that each question is asked")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        artifacts = Path(directory)
        began = time.perf_counter()
        path = artifacts / "gql_server.sqlite3"
        full = full_database.make(path, given.jobs, given.events, min(given.times, 50), given.long_log)
        print(
            f"{full.events:,} events of {len(full.jobs):,} jobs, {path.stat().st_size / 1e9:.2f} GB,"
            f" made in {time.perf_counter() - began:.0f} s"
        )
        rows.hand_over(measure(artifacts, full, given), given)


def measure(artifacts: Path, full: FullDatabase, given: argparse.Namespace) -> list[Row]:
    size = f"{len(full.jobs):,} jobs, {full.events:,} events"
    with served(artifacts, WARM_UP="false") as server:
        questions = Questions(server.client, full, given.times)
        single, lists = list(questions.single()), list(questions.lists())
        followed = asyncio.run(follow(server.port, full.long_log))
        launched = launches(server.client, full)
        start = server.start_seconds
    days = (1 - RETENTION_SHARE) * DAYS
    with served(artifacts, WARM_UP="false", RETENTION_DAYS=str(days)) as server:
        retention = retain(server.client, full)
    for one in (*single, *lists, launched, retention.reads, retention.writes):
        one.report()
    slowest = max(lists, key=lambda one: p95(one.milliseconds))
    found = [*single, lists[0], Timed(f"the slowest list ({slowest.name})", slowest.milliseconds), launched]
    return [
        start_row(size, start),
        *(one.row(size) for one in found),
        progress_row(size, *followed),
        retention_row(size, retention),
        retention.reads.row(size),
        retention.writes.row(size),
    ]


def start_row(size: str, seconds: float) -> Row:
    return Row(
        what=f"{size}: start to first answer",
        ours=f"{seconds:.2f} s",
        measured=f"{seconds:.2f} s",
        goal=f"≤ {START_GOAL_SECONDS:g} s",
        reached=seconds <= START_GOAL_SECONDS,
        precision=rows.UNKNOWN,
    )


def progress_row(size: str, events: int, seconds: float) -> Row:
    return Row(
        what=f"{size}: jobProgress of a job that has ended, all of its {events:,} events",
        ours=f"{seconds:.1f} s",
        measured=f"{events / seconds:,.0f} events/s",
        precision=rows.UNKNOWN,
    )


def retention_row(size: str, retention: Retention) -> Row:
    return Row(
        what=f"{size}: removing the logs of {retention.jobs:,} of them, {retention.events:,} events",
        ours=f"{retention.seconds:.1f} s",
        measured=f"{retention.events / retention.seconds:,.0f} events/s",
        precision=rows.UNKNOWN,
    )


if __name__ == "__main__":
    main()
