"""Requests made to bring a server down: each is refused soon, and nobody else waits for it.

``GQL_SERVER_TEST_BOMBS=1 python -m pytest -s`` prints how long each took.
"""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.server_process import RunningServer, server_process

SOON_SECONDS = 5
"""Longer than any refusal takes; a bomb that goes off takes minutes."""
PROMPT_SECONDS = 2
"""The longest that another client may wait meanwhile, beyond its wait for an idle server."""
TIMES_BESIDE = 20
"""A refusal may take so many answers of an idle server longer, which on a busy machine come late too."""
PROTOCOL: Any = ["graphql-transport-ws"]
QUERY = {"query": "{ server { version } jobs(first: 5) { totalCount nodes { id } } }"}
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Give a server that does not wait long for a socket to begin."""
    with (
        server_process(tmp_path_factory.mktemp("beside"), WARM_UP="false") as idle,
        server_process(tmp_path_factory.mktemp("bombs"), SOCKET_INIT_SECONDS="2", WARM_UP="false") as running,
    ):
        IDLE[running.url] = idle
        yield running


IDLE: dict[str, RunningServer] = {}
"""Beside the server with an address, one that nobody attacks."""


@asynccontextmanager
async def soon(server: RunningServer) -> AsyncIterator[None]:
    """Have the block end soon, by the measure of what an idle server takes beside it."""
    usual = await idle_wait(server)
    began = time.perf_counter()
    yield
    took = time.perf_counter() - began
    usual = max(usual, await idle_wait(server))
    assert took < SOON_SECONDS + TIMES_BESIDE * usual


async def idle_wait(server: RunningServer) -> float:
    """Return the seconds that the idle server beside this one takes to answer."""
    began = time.perf_counter()
    assert (await post(IDLE[server.url], QUERY["query"])).status_code == 200
    return time.perf_counter() - began


@asynccontextmanager
async def bystander(server: RunningServer, bomb: str) -> AsyncIterator[list[float]]:
    """Ask again and again while the block runs; each answer must come soon, and the server stay up.

    Gives the list of how many seconds each answer has taken.
    """
    waits: list[float] = []
    beside: list[float] = []
    answers: asyncio.Queue[httpx.Response] = asyncio.Queue()

    async def ask_on() -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            while True:
                began = time.perf_counter()
                answers.put_nowait(await client.post(f"{server.url}/graphql", json=QUERY))
                waits.append(time.perf_counter() - began)
                beside.append(await idle_wait(server))

    async def answered_again(times: int) -> None:
        for _ in range(answers.qsize() + times):
            assert (await answers.get()).json()["data"]["server"]["version"]

    asking = asyncio.create_task(ask_on())
    began = time.perf_counter()
    try:
        async with asyncio.timeout(60):
            yield waits
            took = time.perf_counter() - began
            await answered_again(3)
    finally:
        asking.cancel()
    if os.environ.get("GQL_SERVER_TEST_BOMBS"):
        waited = f"another client waited {max(waits):.3f} s at most, {max(beside):.3f} s for an idle server"
        print(f"\n{bomb}: refused after {took:.2f} s; {waited}")
    assert max(waits) < PROMPT_SECONDS + max(beside)
    assert server.process.poll() is None
    assert b"Traceback" not in (server.artifact_dir / "server.log").read_bytes()


async def post(server: RunningServer, query: str, **variables: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{server.url}/graphql", json={"query": query, "variables": variables})


async def refused(server: RunningServer, query: str, **variables: Any) -> dict[str, Any]:
    """Return the only error of a query that is refused soon."""
    async with soon(server):
        answer = (await post(server, query, **variables)).json()
    (error,) = answer["errors"]
    assert "data" not in answer
    return dict(error)


# -------------------------------------------------------------------------------- queries

DOUBLING = "{ ...F0 } " + " ".join(
    f"fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} }}" for i in range(100)
)
PAGE = "(first: 100) { nodes {"
NESTED = f"{{ saes{PAGE} activationRun {{ saes{PAGE} concepts{PAGE} id " + "}" * 8

TOO_COMPLEX: dict[str, tuple[str, str]] = {
    "nesting": ("{" + "sae{" * 9_000 + "id" + "}" * 9_001, "tokens"),
    "nesting, short": ("{" + "sae{" * 200 + "id" + "}" * 201, "nesting"),
    "nesting, shorter": ("{" + "sae{" * 50 + "id" + "}" * 51, "depth"),
    "nested brackets of values": ("{ node(id: " + "[" * 900 + "]" * 900 + ") { id } }", "nesting"),
    "10,000 aliases": ("{" + " ".join(f"a{i}:__typename" for i in range(10_000)) + "}", "characters"),
    "500 aliases": ("{" + " ".join(f"a{i}:__typename" for i in range(500)) + "}", "aliases"),
    "the same field 1,000 times": ("{" + "server{version}" * 490 + "}", "aliases"),
    "a query of 1 MB": ("{ __typename } #" + "x" * MEGABYTE, "characters"),
    "50,000 tokens": ("{" + "a " * 24_000 + "}", "tokens"),
    "fragments that ask for the same": (
        "{ job(id: 1) {" + " ".join(f"...F{i}" for i in range(100)) + "} }"
        + " ".join(f"fragment F{i} on Job {{ id kind status error attempt }}" for i in range(100)),
        "overlaps",
    ),
    "fragments that double": (DOUBLING + "fragment F100 on Query { __typename }", "cost"),
    "pages of pages of pages": (NESTED, "cost"),
    "introspection, many times": (
        "{" + " ".join(f"a{i}: __schema {{ types {{ fields {{ args {{ name }} }} }} }}" for i in range(30))
        + "}",
        "cost",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", TOO_COMPLEX)
async def test_a_query_that_is_a_bomb_is_too_complex(server: RunningServer, bomb: str) -> None:
    query, limit = TOO_COMPLEX[bomb]
    async with bystander(server, bomb):
        error = await refused(server, query)
    assert (error["extensions"]["code"], error["extensions"]["limit"]) == ("TOO_COMPLEX", limit)
    assert error["extensions"]["actual"] > error["extensions"]["allowed"]


JOBS = "query ($x: [JobStatus!]) { jobs(status: $x) { totalCount } }"
TOP_NEURONS = 'query ($x: [String!]!) { topNeurons(saeId: "a", prompts: $x) { __typename } }'
GENERATE = 'mutation ($x: [String!]!) { generate(input: {saeId: "a", prompts: $x}) { __typename } }'


async def test_fragments_in_a_circle_are_a_mistake(server: RunningServer) -> None:
    names = [f"F{number}" for number in range(90)]
    circle = " ".join(
        f"fragment {name} on Query {{ ...{follower} }}"
        for name, follower in zip(names, [*names[1:], names[0]], strict=True)
    )
    async with bystander(server, "90 fragments in a circle"):
        error = await refused(server, f"{{ ...F0 }} {circle}")
    assert "Cannot spread fragment" in error["message"]


@pytest.mark.parametrize(
    ("query", "values", "code"),
    [
        (TOP_NEURONS, ["a"] * 10_000, "TOO_COMPLEX"),
        (JOBS, ["QUEUED"] * 10_000, "TOO_COMPLEX"),
        (JOBS, ["QUEUED"] * 1_000_000, "TOO_COMPLEX"),
        (JOBS, ["QUEUED"] * 4_999, None),
        (JOBS, [0] * 4_999, "INVALID_INPUT"),
        (JOBS, [[[[0]]] * 1_000] * 20, "TOO_COMPLEX"),
        (GENERATE, ["a"] * 10_000, "TOO_COMPLEX"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
async def test_thousands_of_variables_in_a_list_keep_nobody_waiting(
    server: RunningServer, query: str, values: list[Any], code: str | None
) -> None:
    async with bystander(server, f"{len(values)} values in {query[:60]}"), soon(server):
        answer = (await post(server, query, x=values)).json()
    assert answer.get("errors", [{}])[0].get("extensions", {}).get("code") == code


async def test_ten_thousand_variables_are_too_many_tokens(server: RunningServer) -> None:
    names = " ".join(f"$v{number}: Int" for number in range(10_000))
    async with bystander(server, "10,000 variables"):
        error = await refused(server, f"query ({names}) {{ __typename }}")
    assert error["extensions"]["code"] == "TOO_COMPLEX"


# --------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("stated", [True, False], ids=["of a stated length", "in chunks"])
async def test_a_body_of_200_megabytes_is_refused_before_it_is_all_sent(
    server: RunningServer, stated: bool
) -> None:
    length = f"Content-Length: {200 * MEGABYTE}" if stated else "Transfer-Encoding: chunked"
    piece = b" " * MEGABYTE if stated else b"%x\r\n%b\r\n" % (MEGABYTE, b" " * MEGABYTE)
    bystanding = bystander(server, f"a body of 200 MB, {length}")
    async with bystanding, soon(server), connection_to(server) as (reader, writer):
        writer.write(head(length))
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))
        sent = 0
        while not answer.done() and sent < 200:
            writer.write(piece)
            await writer.drain()
            sent += 1
        assert b" 413 " in await answer
    assert sent < 100


@asynccontextmanager
async def connection_to(
    server: RunningServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def head(*headers: str) -> bytes:
    lines = ["POST /graphql HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


# -------------------------------------------------------------------------------- sockets


@asynccontextmanager
async def opened(server: RunningServer) -> AsyncIterator[ClientConnection]:
    url = server.url.replace("http", "ws") + "/graphql"
    async with connect(url, subprotocols=PROTOCOL, max_size=None) as connection:
        await connection.send('{"type": "connection_init"}')
        assert json.loads(await connection.recv())["type"] == "connection_ack"
        yield connection


async def test_a_thousand_operations_on_a_socket_are_refused_beyond_a_hundred(server: RunningServer) -> None:
    query = "subscription { jobs { id } }"
    async with bystander(server, "1,000 operations on a socket"), opened(server) as connection:
        for id in range(1_000):
            message = {"type": "subscribe", "id": str(id), "payload": {"query": query}}
            await connection.send(json.dumps(message))
        errors = [json.loads(await connection.recv()) for _ in range(900)]
    assert {error["type"] for error in errors} == {"error"}
    extensions = [error["payload"][0]["extensions"] for error in errors]
    assert {one["code"] for one in extensions} == {"TOO_COMPLEX"}
    assert {one["limit"] for one in extensions} == {"operations"}


async def test_costly_documents_on_one_socket_let_others_in_between(server: RunningServer) -> None:
    spreads = " ".join(f"...F{number}" for number in range(25))
    fragments = [f"fragment F{number} on Job {{ id kind status error attempt }}" for number in range(25)]
    began = time.perf_counter()
    async with bystander(server, "50 costly documents on a socket") as waits, opened(server) as connection:
        for id in range(50):
            # Each is another text, so that each is parsed and validated.
            query = f"query Q{id} {{ jobs {{ nodes {{ {spreads} }} }} }} {' '.join(fragments)}"
            message = {"type": "subscribe", "id": str(id), "payload": {"query": query}}
            await connection.send(json.dumps(message))
        answers = [json.loads(await connection.recv()) for _ in range(100)]
        took = time.perf_counter() - began
    assert max(waits) < took / 4, "the bystander has waited for many of the documents"
    assert [answer["payload"]["data"] for answer in answers if answer["type"] == "next"] == [
        {"jobs": {"nodes": []}}
    ] * 50


async def test_a_message_of_20_megabytes_closes_its_socket(server: RunningServer) -> None:
    async with bystander(server, "a WebSocket message of 20 MB"), opened(server) as connection:
        with suppress(ConnectionClosed):
            await connection.send("x" * 20 * MEGABYTE)
        assert await close_code(connection) in (1009, 1006)


async def test_500_sockets_that_never_begin_are_closed(server: RunningServer) -> None:
    url = server.url.replace("http", "ws") + "/graphql"
    async with bystander(server, "500 idle sockets"), AsyncExitStack() as sockets:
        idle = [await sockets.enter_async_context(connect(url, subprotocols=PROTOCOL)) for _ in range(500)]
        codes = await asyncio.gather(*map(close_code, idle))
    assert set(codes) == {4408}


async def close_code(connection: ClientConnection) -> int | None:
    try:
        async for _ in connection:
            raise AssertionError("nothing was asked for")
    except ConnectionClosed:
        pass
    await connection.wait_closed()
    return connection.close_code


async def test_a_client_that_reads_a_byte_at_a_time_keeps_nobody_waiting(server: RunningServer) -> None:
    before = memory_of(server)
    large = "{ __schema { types { name description fields { name description } } } }"
    body = json.dumps({"query": large}).encode()
    async with bystander(server, "50 clients that read a byte at a time"), AsyncExitStack() as ends:
        slow = [ends.enter_context(reader_of_little(server)) for _ in range(50)]
        loop = asyncio.get_running_loop()
        for end in slow:
            await loop.sock_sendall(end, head(f"Content-Length: {len(body)}") + body)
        for _ in range(20):
            for end in slow:
                assert len(await loop.sock_recv(end, 1)) == 1
        assert memory_of(server) - before < 64 * MEGABYTE


def reader_of_little(server: RunningServer) -> socket.socket:
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    end.connect((urlsplit(server.url).hostname, urlsplit(server.url).port))
    end.setblocking(False)
    return end


def memory_of(server: RunningServer) -> int:
    """Return the resident bytes of the server's process."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_after_all_that_the_server_is_well(server: RunningServer) -> None:
    answer = (await post(server, QUERY["query"])).json()
    assert answer["data"]["jobs"] == {"totalCount": 0, "nodes": []}
