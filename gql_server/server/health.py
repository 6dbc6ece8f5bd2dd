"""/healthz: whether the process lives, and whether it can serve."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gql_server import __version__
from gql_server.database.database import RETRY_SECONDS
from gql_server.errors import QueueFull
from gql_server.services.app_context import AppContext
from models import Sae

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 3.0
"""The time after which the database counts as down; writes of this server take turns."""
OK = "ok"
Checks = dict[str, str]
"""Each part that was checked, with ``ok`` or what is wrong."""


class Health:
    """Checks the parts that the server needs."""

    def __init__(self, server: AppContext) -> None:
        self._server = server
        self._looks: dict[str, asyncio.Task[str]] = {}
        self._stopping = False

    def stop(self) -> None:
        """Report the server as not ready from now on."""
        self._stopping = True

    async def checks(self) -> Checks:
        """Return what is well and what is not."""
        if self._stopping:
            return {"server": "stopping"}
        reading, writing = await asyncio.gather(
            self._look("reading", self._read), self._look("writing", self._write)
        )
        lanes = self._server.supervisor.lanes_running()
        return {
            "reading": reading,
            "writing": writing,
            **{f"lane {lane}": OK if running else "ended" for lane, running in lanes.items()},
        }

    async def _look(self, name: str, look: Callable[[], Awaitable[None]]) -> str:
        """Return what a look at the database comes to, or that it takes too long.

        A write must not be broken off, so one that hangs goes on, and who asks next asks after the same one.
        """
        task = self._looks.get(name)
        if task is None:
            task = self._looks[name] = asyncio.create_task(_told(name, look))
            task.add_done_callback(lambda _: self._looks.pop(name))
        done, _ = await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        return task.result() if done else "takes too long"

    async def _read(self) -> None:
        async with self._server.database.read() as session:
            await session.get(Sae, "")

    async def _write(self) -> None:
        """Look at the file, take the database's lock for writing, and write nothing."""
        trouble = await self._server.database.look()
        if trouble is not None:
            raise QueueFull(trouble, RETRY_SECONDS, code="BUSY")
        async with self._server.database.write() as session:
            await session.connection()


async def _told(name: str, look: Callable[[], Awaitable[None]]) -> str:
    try:
        await look()
    except QueueFull as refusal:
        return refusal.message
    except Exception:
        log.exception("database not usable", look=name)
        return "fails"
    return OK


async def live(request: Request) -> Response:
    """Answer 200: the process answers."""
    return JSONResponse({"status": OK, "version": __version__})


async def ready(request: Request) -> Response:
    """Answer 200 where the server can serve, and 503 with what is wrong where it cannot."""
    health: Health = request.app.state.health
    checks = await health.checks()
    is_ready = all(check == OK for check in checks.values())
    status = OK if is_ready else "unavailable"
    body = {"status": status, "version": __version__, "checks": checks}
    return JSONResponse(body, status_code=200 if is_ready else 503, headers={"Cache-Control": "no-store"})
