"""Subscribers over real sockets that do not read, or vanish, beside one that reads."""

import asyncio
import gc
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message
from websockets.asyncio.client import ClientConnection, connect

from gql_server.services import jobs
from gql_server.services.app_context import AppContext
from models import Job, JobEvent
from models.enums import JobEventType, JobStatus
from tests.api.conftest import BUFFER_BYTES
from tests.support.job_logs import add_job, append_events, watched_by
from tests.support.serving import endpoint
from tests.support.waiting import until

EVENTS = 6000
MESSAGE = "x" * 1000
DOCUMENT = """subscription($id: ID!, $after: Int!) { jobProgress(id: $id, after: $after) {
  sequence ... on JobLogged { message } } }"""
SECONDS = 60


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give a list of how many events each subscription has taken, in the order of their coming."""
    taken: list[int] = []
    watch = jobs.watch

    async def counted(server: AppContext, id: str, after: int) -> AsyncIterator[JobEvent]:
        place = len(taken)
        taken.append(0)
        events = watch(server, id, after)
        try:
            async for event in events:
                taken[place] += 1
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    monkeypatch.setattr(jobs, "watch", counted)
    return taken


@asynccontextmanager
async def subscribed(
    address: tuple[str, int], job_id: str, after: int = 0
) -> AsyncIterator[ClientConnection]:
    """Give a socket with a subscription to a job, of which nothing has been read."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    end.connect(address)
    end.setblocking(False)
    protocols: Any = ["graphql-transport-ws"]
    url = f"ws://127.0.0.1:{address[1]}/graphql"
    async with connect(url, sock=end, subprotocols=protocols, compression=None, max_queue=1) as connection:
        await connection.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await connection.recv())["type"] == "connection_ack"
        payload = {"query": DOCUMENT, "variables": {"id": job_id, "after": after}}
        await connection.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        yield connection


async def sequences(connection: ClientConnection) -> list[int]:
    """Read until the subscription completes."""
    got = []
    while (message := json.loads(await connection.recv()))["type"] == "next":
        got.append(message["payload"]["data"]["jobProgress"]["sequence"])
    assert message["type"] == "complete"
    return got


async def add_long_log(server: AppContext, job_id: str) -> None:
    async with server.database.write() as session:
        (await session.get_one(Job, job_id)).last_sequence = EVENTS
        session.add_all(
            JobEvent(job_id=job_id, sequence=number, type=JobEventType.LOG, payload={"message": MESSAGE})
            for number in range(1, EVENTS + 1)
        )
    server.notifier.notify()


async def test_a_subscriber_that_does_not_read_costs_its_buffers_alone_and_gets_the_rest_when_it_reads(
    server: AppContext, address: tuple[str, int], given: list[int]
) -> None:
    job = await add_job(server)
    await add_long_log(server, job.id)
    async with asyncio.timeout(SECONDS), subscribed(address, job.id) as slow:
        await until(lambda: any(given))
        async with subscribed(address, job.id) as quick:
            reading = asyncio.create_task(sequences(quick))
            await append_events(server, job.id, 3, JobStatus.SUCCEEDED)  # The job does not wait for anybody.
            assert await reading == list(range(1, EVENTS + 5))
        assert given[1] == EVENTS + 4
        assert given[0] < EVENTS / 10
        assert await sequences(slow) == list(range(1, EVENTS + 5))


async def test_a_subscriber_that_vanishes_while_it_does_not_read_leaves_nothing_behind(
    server: AppContext, address: tuple[str, int], given: list[int]
) -> None:
    job = await add_job(server)
    await add_long_log(server, job.id)
    async with asyncio.timeout(SECONDS):
        async with subscribed(address, job.id) as vanishing:
            await until(lambda: any(given))
            async with subscribed(address, job.id, EVENTS) as waiting:
                await until(lambda: watched_by(server, job.id) == 2)
                vanishing.transport.abort()
                await until(lambda: watched_by(server, job.id) == 1)
                await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
                assert await sequences(waiting) == [EVENTS + 1]
        assert given[0] < EVENTS / 10
    assert not server.event_hub._feeds
    assert server.event_hub._reader is None


@pytest.fixture
def left_behind() -> Iterator[list[str]]:
    """Give the names of generators that have been left to the garbage collector before their end."""
    names: list[str] = []
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=lambda generator: names.append(str(generator)))
    yield names
    sys.set_asyncgen_hooks(*hooks)


@pytest.mark.parametrize("reads", [0, 1, 2])
async def test_a_reader_of_an_event_stream_that_vanishes_ends_it_at_once(
    server: AppContext, given: list[int], left_behind: list[str], reads: int
) -> None:
    job = await add_job(server)
    await add_long_log(server, job.id)
    stuck, whole = asyncio.Event(), asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        if not whole.is_set():
            whole.set()
            body = json.dumps({"query": DOCUMENT, "variables": {"id": job.id, "after": 0}})
            return {"type": "http.request", "body": body.encode(), "more_body": False}
        await stuck.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > reads and any(given):
            stuck.set()
            await asyncio.Event().wait()

    headers = {"content-type": "application/json", "accept": "text/event-stream", "host": "127.0.0.1"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/graphql",
        "raw_path": b"/graphql",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    async with asyncio.timeout(SECONDS):
        await endpoint(server)(scope, receive, send)
    assert watched_by(server, job.id) == 0
    assert 0 < given[0] < EVENTS / 10
    gc.collect()
    assert not left_behind
