"""Clients without a token that hold what there is, and clients that do not read."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

from websockets.asyncio.client import connect

from tests.attack.attack import Scale, attack
from tests.attack.site import Site

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_many(site: Site, stack: AsyncExitStack, number: int, first: bytes = b"") -> list[Connection]:
    """Return connections on which something has been said."""
    opened: list[Connection] = []
    for _ in range(number):
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(site.host, site.port)
            stack.callback(writer.transport.abort)
            writer.write(first)
            opened.append((reader, writer))
    return opened


def still_open(connections: list[Connection]) -> int:
    """Return how many the server has not ended."""
    # What has come may lie unread, which at_eof() would wait for.
    return sum(not (reader._eof or reader.exception()) for reader, _ in connections)  # type: ignore[attr-defined]


def head(site: Site, line: str, *more: str) -> bytes:
    """Return a request's beginning."""
    return "\r\n".join([line, f"Host: localhost:{site.port}", *more, "", ""]).encode()


@attack("2", "connections that say nothing")
async def silent(site: Site, scale: Scale) -> str:
    """As many as the system gives."""
    async with AsyncExitStack() as stack:
        opened = await open_many(site, stack, scale.connections)
        await asyncio.sleep(scale.hold_seconds)
        return f"{still_open(opened)} of {len(opened)} are still open"


@attack("2", "connections that ask for files and read nothing")
async def unread(site: Site, scale: Scale) -> str:
    """Each has a file open besides."""
    async with AsyncExitStack() as stack:
        asked = head(site, "GET /static/graphiql.js HTTP/1.1")
        opened = await open_many(site, stack, scale.connections, asked)
        await asyncio.sleep(scale.hold_seconds)
        return f"{still_open(opened)} of {len(opened)} are still open"


@attack("2", "bodies a byte at a time to the sign-in page")
async def bytewise(site: Site, scale: Scale) -> str:
    """A page open to all."""
    form = "Content-Type: application/x-www-form-urlencoded"
    asked = head(site, "POST /sign-in HTTP/1.1", form, "Content-Length: 9000")
    async with AsyncExitStack() as stack:
        opened = await open_many(site, stack, scale.connections, asked)
        for _ in range(round(scale.hold_seconds)):
            for _, writer in opened:
                writer.write(b"a")
            await asyncio.sleep(1)
        return f"{still_open(opened)} of {len(opened)} are still open"


@attack("2", "compressed messages without end, before connection_init")
async def compressed(site: Site, scale: Scale) -> str:
    """A kilobyte of them is a megabyte."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -12)
    part = packed.compress(b" " * 4_000_000) + packed.flush(zlib.Z_SYNC_FLUSH)
    asked = head(
        site,
        "GET /graphql HTTP/1.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: graphql-transport-ws",
        "Sec-WebSocket-Extensions: permessage-deflate",
    )
    # A text frame, compressed, not the last of its message, with a mask of zeros.
    frame = bytes([0x41, 0x80 | 126]) + len(part).to_bytes(2, "big") + bytes(4) + part
    async with AsyncExitStack() as stack:
        opened = await open_many(site, stack, min(scale.connections, 300), asked)
        await asyncio.sleep(1)
        for _, writer in opened:
            writer.write(frame)
        await asyncio.sleep(scale.hold_seconds)
        return f"{still_open(opened)} of {len(opened)} are still open"


@attack("2", "messages without end from who has the token")
async def endless(site: Site, scale: Scale) -> str:
    """Each socket begins a message as long as one may be."""
    text = "x" * 4_000_000

    async def parts() -> AsyncIterator[str]:
        yield text
        await asyncio.Event().wait()

    headers = {"Authorization": f"Bearer {site.token}"}
    url = f"ws://{site.host}:{site.port}/graphql"
    async with AsyncExitStack() as stack:
        sockets = []
        for _ in range(min(scale.connections, 200)):
            socket = await stack.enter_async_context(
                connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers)  # type: ignore[list-item]
            )
            task = asyncio.ensure_future(socket.send(parts()))
            stack.callback(task.cancel)
            sockets.append(socket)
        await asyncio.sleep(scale.hold_seconds)
        ended = [socket for socket in sockets if socket.close_code is not None]
        for socket in sockets:
            socket.transport.abort()
        return f"{len(ended)} of {len(sockets)} were closed"


@attack("2", "requests that are no HTTP")
async def nonsense(site: Site, scale: Scale) -> str:
    """Each is worth a line in the log."""
    async with AsyncExitStack() as stack:
        for _ in range(scale.times):
            opened = await open_many(site, stack, 100, b"nonsense\r\n\r\n")
            for _, writer in opened:
                writer.transport.abort()
    return "400, and few lines in the log"


@attack("8", "an answer that nobody reads, again and again")
async def unread_answers(site: Site, scale: Scale) -> str:
    """The schema, as long as a document may make it."""
    query = (
        "{ "
        + " ".join(
            f"a{i}: __schema {{ types {{ name description fields {{ name description }} }} }}"
            for i in range(3)
        )
        + " }"
    )
    body = ('{"query": "' + query + '"}').encode()
    asked = head(
        site,
        "POST /graphql HTTP/1.1",
        f"Authorization: Bearer {site.token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    async with AsyncExitStack() as stack:
        opened = await open_many(site, stack, 2 * scale.times, asked + body)
        await asyncio.sleep(4 * scale.hold_seconds)
        return f"{still_open(opened)} of {len(opened)} are still open"
