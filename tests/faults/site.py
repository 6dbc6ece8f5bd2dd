"""One artifact directory and the servers that work on it, one after the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from gql.transport.exceptions import TransportClosed, TransportConnectionFailed, TransportProtocolError

from tests.e2e.client import Api, api
from tests.faults import processes
from tests.faults.processes import Target
from tests.support.server_process import RunningServer, server_process

LOST = (TransportClosed, TransportConnectionFailed, TransportProtocolError, httpx.TransportError, OSError)
"""How a client learns that the server is gone."""
SURVIVAL_SECONDS = 20.0
"""Workers end with their server, at the latest when their imports are done."""
PAUSE_SECONDS = 0.05


class Site:
    """A server that can be killed, and comes back on another port."""

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        self.directory = directory
        self.settings = settings
        self.survivors: list[str] = []
        """Workers that outlived their server."""
        self._context: AbstractContextManager[RunningServer] | None = None
        self._server: RunningServer | None = None
        self._up = asyncio.Event()

    @property
    def has_one_worker(self) -> bool:
        """Whether one process serves both lanes."""
        return self.settings.get("WORKERS") == "1"

    async def start(self, **more: str) -> None:
        """Start a server; ``more`` settings stay for the next ones."""
        self.settings |= more
        self._context = server_process(self.directory, **self.settings)
        self._server = await asyncio.to_thread(self._context.__enter__)
        self._up.set()

    async def stop(self) -> None:
        """End the server as a user would."""
        self._up.clear()
        assert self._context is not None
        await asyncio.to_thread(self._context.__exit__, None, None, None)
        self._server = None

    async def kill(self, target: Target) -> bool:
        """Kill a process; a server is started anew. Returns whether there was one to kill."""
        assert self._server is not None
        if target == Target.SERVER:
            workers = processes.children(self._server.pid)
            self._up.clear()
            processes.kill(self._server.pid)
            await self.stop()
            left = await asyncio.to_thread(processes.wait_until_gone, workers, SURVIVAL_SECONDS)
            self.survivors += [f"worker {pid} outlived its server" for pid in left]
            await self.start()
            return True
        victim = processes.worker(self._server.pid, target)
        if victim is not None:
            processes.kill(victim)
        return victim is not None

    async def url(self) -> str:
        """Return the server's address once one is up."""
        await self._up.wait()
        assert self._server is not None
        return self._server.url

    async def do(self, field: str, selection: str, **arguments: tuple[str, Any]) -> dict[str, Any]:
        """Send a mutation until a server has answered it."""
        while True:
            try:
                async with self.client() as client:
                    return await client.do(field, selection, **arguments)
            except LOST:
                await asyncio.sleep(PAUSE_SECONDS)

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """Send a query until a server has answered it."""
        while True:
            try:
                async with self.client() as client:
                    return await client.ask(document, **variables)
            except LOST:
                await asyncio.sleep(PAUSE_SECONDS)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Api]:
        """Give a client of the server that is up, or comes next."""
        async with api(await self.url()) as client:
            yield client
