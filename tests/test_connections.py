"""Connections on which nothing comes, too many of them, and clients that do not read; over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gql_server import connections
from gql_server.connections import HttpConnection
from tests.jobs.test_tails import until

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 10


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


@asynccontextmanager
async def listening(max_connections: int = 100) -> AsyncIterator[tuple[str, int]]:
    http: Any = partial(HttpConnection, max_connections=max_connections)
    app = Starlette(routes=[Route("/", hello)])
    server = uvicorn.Server(uvicorn.Config(app, http=http, lifespan="off", log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listener]))
    await until(lambda: server.started)
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        await serving


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
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.1)
    async with listening() as address, connected(address) as (reader, writer):
        writer.write(begun)
        assert await ended(reader)


async def test_nor_is_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as address, connected(address) as (reader, writer):
        writer.write(REQUEST)
        assert await answered(reader)
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.1)
        writer.write(b"GET / HT")
        assert await ended(reader)


async def test_requests_that_come_are_answered_one_after_the_other() -> None:
    async with listening() as address, connected(address) as (reader, writer):
        for _ in range(3):
            writer.write(REQUEST)
            assert await answered(reader)


async def test_there_are_no_more_connections_than_may_be() -> None:
    async with listening(max_connections=5) as address, AsyncExitStack() as stack:
        open_ones = [await stack.enter_async_context(connected(address)) for _ in range(5)]
        async with connected(address) as (reader, _):
            assert await ended(reader)
        for reader, writer in open_ones:
            writer.write(REQUEST)
            assert await answered(reader)
