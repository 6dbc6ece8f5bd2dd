"""Connections on which nothing comes, too many of them, and clients that do not read; over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gql_server.api.transport.access import Access
from gql_server.api.transport.guard import Guard
from gql_server.limits import clients as client_limits, rate_limits
from gql_server.limits.clients import FIRST_BYTES, Clients, Connection, admit, waiting_to_be_sent
from gql_server.limits.rate_limits import Rates
from gql_server.server import protocols
from gql_server.server.protocols import TOO_OFTEN, HttpConnection, SocketConnection
from gql_server.settings import Settings
from tests.support.listening import listening
from tests.support.waiting import until

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 10
LONG = 32 * 1024 * 1024
"""More than the system keeps for a client that does not read."""
TOKEN = "open-sesame"
WITH_TOKEN = REQUEST[:-2] + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def long(_request: Request) -> Response:
    return PlainTextResponse("x" * LONG)


async def echo(socket: WebSocket) -> None:
    """Take anything for the token, and say how long each message is."""
    await socket.accept()
    try:
        while text := await socket.receive_text():
            if text == "token":
                admit(socket.scope)
            await socket.send_text(str(len(text)))
    except WebSocketDisconnect:
        pass


@asynccontextmanager
async def limited_server(
    max_connections: int = 100, token: str | None = None
) -> AsyncIterator[tuple[str, int]]:
    access = Access(SecretStr(token) if token else None)
    counted = Rates()
    clients = Clients(takes_anybody=access.is_open, rates=counted)
    http: Any = partial(HttpConnection, max_connections=max_connections, clients=clients)
    ws: Any = partial(SocketConnection, clients=clients, allows=access.allows)
    routes = [Route("/", hello), Route("/long", long), WebSocketRoute("/", echo)]
    settings = Settings(token=SecretStr(token) if token else None)
    app = Starlette(routes=routes, middleware=[Middleware(Guard, settings, access, counted)])
    async with listening(app, http=http, ws=ws, ws_max_size=2**22) as address:
        yield address


@asynccontextmanager
async def connected(
    address: tuple[str, int],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Return whether the other end has closed the connection."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read(1) == b""
        except ConnectionResetError:
            return True


async def answered(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(PATIENCE):
        return b"200" in await reader.readline() and (await reader.readuntil(b"hello")).endswith(b"hello")


@pytest.mark.parametrize("begun", [b"", b"GET / HT", REQUEST[:-2]])
async def test_a_request_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(protocols, "HEADER_SECONDS", 0.1)
    async with limited_server() as address, connected(address) as (reader, writer):
        writer.write(begun)
        assert await ended(reader)


async def test_nor_is_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited_server() as address, connected(address) as (reader, writer):
        writer.write(REQUEST)
        assert await answered(reader)
        monkeypatch.setattr(protocols, "HEADER_SECONDS", 0.1)
        writer.write(b"GET / HT")
        assert await ended(reader)


async def test_requests_that_come_are_answered_one_after_the_other() -> None:
    async with limited_server() as address, connected(address) as (reader, writer):
        for _ in range(3):
            writer.write(REQUEST)
            assert await answered(reader)


async def test_there_are_no_more_connections_than_may_be() -> None:
    async with limited_server(max_connections=5) as address, AsyncExitStack() as stack:
        open_ones = [await stack.enter_async_context(connected(address)) for _ in range(5)]
        async with connected(address) as (reader, _):
            assert await ended(reader)
        for reader, writer in open_ones:
            writer.write(REQUEST)
            assert await answered(reader)


async def test_of_one_address_the_oldest_that_has_not_shown_the_token_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_limits, "STRANGERS_OF_AN_ADDRESS", 3)
    monkeypatch.setattr(client_limits, "GRACE_SECONDS", 0)
    async with limited_server(token=TOKEN) as address, AsyncExitStack() as stack:
        known, *strangers = [await stack.enter_async_context(connected(address)) for _ in range(4)]
        assert await ended(known[0]), "the first is the oldest"
        known, *strangers = strangers
        known[1].write(WITH_TOKEN)
        assert await answered(known[0])
        for _ in range(5):
            strangers.append(await stack.enter_async_context(connected(address)))
        known[1].write(WITH_TOKEN)
        assert await answered(known[0]), "it has shown the token, and stays"
        for reader, _ in strangers[:-3]:
            assert await ended(reader)
        strangers[-1][1].write(WITH_TOKEN)
        assert await answered(strangers[-1][0])


async def test_a_connection_that_has_just_come_makes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_limits, "STRANGERS_OF_AN_ADDRESS", 1)
    monkeypatch.setattr(client_limits, "GRACE_SECONDS", 60)
    async with limited_server(token=TOKEN) as address, AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(address)) for _ in range(3)]
        for reader, writer in opened:
            writer.write(WITH_TOKEN)
            assert await answered(reader)


async def test_strangers_of_all_addresses_have_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_limits, "STRANGERS", 3)
    async with limited_server(token=TOKEN) as address, AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(connected(address))
        last = await stack.enter_async_context(connected(address))
        last[1].write(WITH_TOKEN)
        assert await answered(last[0])


async def test_without_a_token_to_show_nobody_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_limits, "STRANGERS_OF_AN_ADDRESS", 1)
    async with limited_server() as address, AsyncExitStack() as stack:
        for reader, writer in [await stack.enter_async_context(connected(address)) for _ in range(3)]:
            writer.write(REQUEST)
            assert await answered(reader)


@pytest.mark.parametrize("reads", [False, True])
async def test_who_does_not_read_is_ended_but_not_who_reads_slowly(
    monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    monkeypatch.setattr(protocols, "READING_SECONDS", 0.2)
    async with limited_server() as address:
        reader, writer = await asyncio.open_connection(*address, limit=2**12)
        n_read = 0
        with capture_logs() as logs:
            writer.write(REQUEST.replace(b"/", b"/long", 1))
            if not reads:
                await until(lambda: any(line["event"] == "slow client disconnected" for line in logs))
        try:
            while part := await reader.read(2**20 // 4):
                n_read += len(part)
                if reads and n_read < 2**23:
                    await asyncio.sleep(0.005)
        except ConnectionResetError:
            pass
        writer.transport.abort()
    assert (n_read > LONG) == reads


async def test_where_too_much_waits_in_all_the_one_with_the_most_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_limits, "MAX_WAITING_BYTES", LONG + LONG // 2)
    async with limited_server() as address, AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(connected(address)) for _ in range(3)]
        for _, writer in waiting:
            writer.write(REQUEST.replace(b"/", b"/long", 1))
        read = [await read_all(reader) for reader, _ in waiting]
    assert any(read) and not all(read)


async def read_all(reader: asyncio.StreamReader) -> bool:
    """Return whether all of a long answer came."""
    n_read = 0
    async with asyncio.timeout(PATIENCE):
        try:
            while part := await reader.read(2**20):
                n_read += len(part)
                if n_read > LONG:
                    return True
        except ConnectionResetError:
            pass
    return False


@pytest.mark.parametrize("shown", ["in the handshake", "in a message", "never"])
async def test_a_message_is_short_and_nothing_compressed_until_the_token_is_shown(shown: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"} if shown == "in the handshake" else {}
    async with limited_server(token=TOKEN) as (host, port):
        uri = f"ws://{host}:{port}/"
        async with connect(uri, additional_headers=headers, origin=None) as socket:
            extensions = (
                socket.response.headers.get("Sec-WebSocket-Extensions", "") if socket.response else ""
            )
            assert ("permessage-deflate" in extensions) == (shown == "in the handshake")
            if shown == "in a message":
                await socket.send("token")
                assert await socket.recv() == "5"
            await socket.send("x" * (FIRST_BYTES + 1))
            if shown == "never":
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
            else:
                assert await socket.recv() == str(FIRST_BYTES + 1)


async def test_what_compressed_messages_expand_to_has_the_same_limit() -> None:
    async with limited_server() as (host, port), connect(f"ws://{host}:{port}/") as socket:
        await socket.send("x" * 2**22)
        assert await socket.recv() == str(2**22)
        await socket.send("x" * (2**22 + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


async def test_messages_without_an_end_have_a_limit_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_limits, "MAX_UNFINISHED_BYTES", 3 * 2**20)

    async def parts(held: asyncio.Event) -> AsyncIterator[str]:
        yield "x" * 2**20
        held.set()
        await asyncio.Event().wait()

    async with limited_server() as (host, port), AsyncExitStack() as stack:
        sending = []
        for _ in range(4):
            socket = await stack.enter_async_context(connect(f"ws://{host}:{port}/", compression=None))
            held = asyncio.Event()
            sending.append((socket, asyncio.ensure_future(socket.send(parts(held)))))
            await held.wait()
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(PATIENCE):
                await sending[-1][0].recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1013
        for _, task in sending:
            task.cancel()
        await asyncio.gather(*(task for _, task in sending), return_exceptions=True)
        small = await stack.enter_async_context(connect(f"ws://{host}:{port}/", compression=None))
        await small.send("hello")
        assert await small.recv() == "5"


async def test_who_asks_too_often_without_the_token_is_told_before_anything_is_read_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limits, "BURST", 2)
    monkeypatch.setattr(rate_limits, "PER_SECOND", 0)
    async with limited_server(token=TOKEN) as address:
        for request, status in [(REQUEST, b"401"), (b"nonsense\r\n\r\n", b"400"), (REQUEST, b"429")]:
            assert await status_of(address, request) == status
        assert await status_of(address, WITH_TOKEN) == b"200"
        assert await status_of(address, REQUEST[:-2] + b"Cookie: a=b\r\n\r\n") == b"429"


async def test_requests_that_come_at_once_are_counted_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "BURST", 2)
    monkeypatch.setattr(rate_limits, "PER_SECOND", 0)
    async with limited_server(token=TOKEN) as address, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(address)) for _ in range(20)]
        for _, writer in clients:
            writer.write(REQUEST)
        async with asyncio.timeout(PATIENCE):
            answers = [await reader.readuntil(b"\r\n\r\n") for reader, _ in clients]
    assert answers.count(TOO_OFTEN) == 18, "the others were parsed and answered as what is asked seldom"


async def status_of(address: tuple[str, int], request: bytes) -> bytes:
    async with connected(address) as (reader, writer):
        writer.write(request)
        async with asyncio.timeout(PATIENCE):
            return (await reader.readline()).split()[1]


class NotReading:
    """A transport whose client reads nothing."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.is_ended = False

    def get_write_buffer_size(self) -> int:
        return self.n_bytes

    def abort(self) -> None:
        self.is_ended = True


async def test_answers_that_wait_for_those_before_them_count_as_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_limits, "MAX_WAITING_BYTES", 100)
    clients = Clients(takes_anybody=True, rates=Rates())
    few, many = NotReading(30), NotReading(20)
    made = [Connection(one, "", clients) for one in (few, many)]  # type: ignore[arg-type]
    for connection in made:
        clients.note_reading(connection, reads=False)
    scope = {"state": {"connection": made[1]}}
    with waiting_to_be_sent(scope, 40):
        assert [one.is_ended for one in (few, many)] == [False, False]
        with waiting_to_be_sent(scope, 20):
            assert [one.is_ended for one in (few, many)] == [False, True]
    assert made[1].held == 0
