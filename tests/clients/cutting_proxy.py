"""A way to a server on which the first connection may break, and which may lead to another server later."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

CHUNK_BYTES = 256
WAIT_SECONDS = 60


class CuttingProxy:
    """Passes bytes on between clients and a server; may cut the first connection in an answer."""

    def __init__(self, url: str, cut_after: int | None) -> None:
        self._cut_after = cut_after
        self._counted = threading.Condition()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self.connections = 0
        """Connections that have reached a server."""
        self.url = ""
        """Where clients connect."""
        self.lead_to(url)

    def lead_to(self, url: str) -> None:
        """Take new connections to this server."""
        parts = urlsplit(url)
        self._target = parts.hostname, parts.port

    def wait_for_connections(self, count: int) -> None:
        """Wait until so many connections have reached a server."""
        with self._counted:
            assert self._counted.wait_for(lambda: self.connections >= count, WAIT_SECONDS)

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening, and end what is under way."""
        if self._server is not None:
            self._server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()  # Also where its task was canceled before it had begun.
        for _ in range(3):
            await asyncio.sleep(0)  # In the next turns the sockets are closed.

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        up = asyncio.create_task(_pass_on(reader, server_writer, None))
        try:
            await _pass_on(server_reader, writer, self._count())
        finally:
            up.cancel()
            writer.transport.abort()
            server_writer.transport.abort()

    def _count(self) -> int | None:
        """Count a connection; returns after how many bytes to cut it."""
        with self._counted:
            self.connections += 1
            self._counted.notify_all()
            return self._cut_after if self.connections == 1 else None


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
    passed = 0
    try:
        while (limit is None or passed < limit) and (chunk := await reader.read(CHUNK_BYTES)):
            writer.write(chunk)
            await writer.drain()
            passed += len(chunk)
        if limit is None:
            writer.write_eof()
    except OSError:
        pass  # An end has gone.


@contextmanager
def cutting_proxy(url: str, cut_after: int | None = None) -> Iterator[CuttingProxy]:
    """Give a proxy before a server that cuts its first connection after so many bytes of the server's."""
    proxy = CuttingProxy(url, cut_after)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
