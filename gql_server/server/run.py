"""Runs the application under uvicorn, from the first connection to a clean end."""

import asyncio
import gc
import os
import resource
import signal
import socket
from functools import partial
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.applications import Starlette

from gql_server.limits.clients import Clients
from gql_server.server.app import create_app
from gql_server.server.garbage_collection import collect_seldom
from gql_server.server.health import Health
from gql_server.server.protocols import HttpConnection, SocketConnection
from gql_server.settings import Settings

OTHER_CONNECTIONS = 500
"""The limit of connections besides WebSockets."""
OTHER_FILES = 2 * OTHER_CONNECTIONS + 500
"""Open files besides WebSockets: those connections, a file for each to send, the database, files to read."""
ACCEPTED_AT_ONCE = 50
"""Connections that are accepted before open ones are served again."""
MAX_BACKLOG = 4096
"""The limit of connections that wait to be accepted; the system lets further ones retry a second later."""
GRACE_SECONDS = 2
"""Time for open requests when the server stops; the workers' tasks are ended after that."""
STOPPING = "The server is stopping; connect again when it is back."


def serve(settings: Settings) -> bool:
    """Serve until a signal says stop, which ends this process with exit status 0.

    Returns False where the server could not start.
    """
    max_connections = _allow_open_files(settings.max_sockets)
    app = create_app(settings)
    access = app.state.access
    clients = Clients(takes_anybody=access.is_open, rates=app.state.rates)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        http=partial(HttpConnection, max_connections=max_connections, clients=clients),  # type: ignore[arg-type]
        ws=partial(SocketConnection, clients=clients, allows=access.allows),  # type: ignore[arg-type]
        ws_max_size=settings.max_body_bytes,
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=ACCEPTED_AT_ONCE,
        forwarded_allow_ips=list(settings.trusted_proxies),
    )
    server = _Server(app, config)
    # uvicorn raises the signal that stopped it once more when it has ended: that is no failure.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _end)
    # What is there by now stays: the garbage collector need not go through all of it (40 ms) again and again.
    gc.freeze()
    server.run()
    return server.started


def _allow_open_files(sockets: int) -> int:
    """Raise the limit of open files, as far as this process may, to what all sockets and the rest need.

    Returns how many connections may be open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        soft = wanted
    # Where few files may be open, connections have half of them: files are read as well.
    return min(sockets + OTHER_CONNECTIONS, max(soft - OTHER_FILES + OTHER_CONNECTIONS, soft // 2))


class _Server(uvicorn.Server):
    """A server that closes WebSockets with a reason when it stops."""

    def __init__(self, app: Starlette, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen: asyncio takes in as many connections at once as may wait, which differ here."""
        await super().startup(sockets)
        self._collecting = asyncio.create_task(collect_seldom())
        for server in self.servers:
            for listener in server.sockets:
                with socket.socket(fileno=os.dup(listener.fileno())) as same:
                    same.listen(MAX_BACKLOG)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take in a signal to stop; who asks after the server's health is told so at once."""
        health: Health | None = getattr(self._app.state, "health", None)  # None until it has started.
        if health is not None:
            health.stop()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the sockets with a reason, then everything."""
        await self._app.state.view.open_sockets.close(STOPPING)
        await super().shutdown(sockets)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
