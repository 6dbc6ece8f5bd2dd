"""An application on a real port, in this process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from tests.support.waiting import until


@asynccontextmanager
async def listening(
    app: Any, send_buffer_bytes: int | None = None, **options: Any
) -> AsyncIterator[tuple[str, int]]:
    """Serve an application with uvicorn, with further options of its config; give the address."""
    server = uvicorn.Server(
        uvicorn.Config(app, **({"ws": "websockets-sansio", "lifespan": "off", "log_config": None} | options))
    )
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    serving = asyncio.create_task(server.serve([listener]))
    await until(lambda: server.started)
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        await serving
