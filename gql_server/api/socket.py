"""graphql-transport-ws as Strawberry speaks it, for clients that send nonsense or vanish."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler

from gql_server.api.context import Context

log = structlog.get_logger(__name__)

SERVICE_RESTART = 1012
"""WebSocket's close code of a server that goes; clients may connect again."""
CLOSING_SECONDS = 0.5
MAX_REASON_BYTES = 123
"""A WebSocket's close frame has no room for more."""


class OpenSockets:
    """The sockets that are open, so that a server that stops can take leave of them."""

    def __init__(self) -> None:
        self._open: WeakSet[SocketAdapter] = WeakSet()

    def add(self, socket: "SocketAdapter") -> None:
        """Keep a socket in mind for as long as it lives."""
        self._open.add(socket)

    async def close(self, reason: str) -> None:
        """Close all of them, without waiting for those who do not read."""
        closings = [asyncio.ensure_future(one.close(SERVICE_RESTART, reason)) for one in self._open]
        if closings:
            _, late = await asyncio.wait(closings, timeout=CLOSING_SECONDS)
            for closing in late:
                closing.cancel()


class SocketAdapter(ASGIWebSocketAdapter):
    """A socket whose other end may be gone, and whose reasons for closing fit."""

    def __init__(self, view: Any, request: WebSocket, response: WebSocket) -> None:
        super().__init__(view, request, response)
        view.open_sockets.add(self)

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Send a message, or raise WebSocketDisconnected."""
        if self._is_closed:
            raise WebSocketDisconnected
        await super().send_json(message)

    async def close(self, code: int, reason: str) -> None:
        """Close the socket, unless it is closed."""
        if self._is_closed:
            return
        shortened = reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")
        with suppress(WebSocketDisconnect):
            await super().close(code, shortened)

    @property
    def _is_closed(self) -> bool:
        return WebSocketState.DISCONNECTED in (self.ws.application_state, self.ws.client_state)


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """Strawberry's handler, which takes every message for a well-formed one."""

    async def handle_message(self, message: Any) -> None:
        """Handle a message, or close the socket with what is wrong with it."""
        problem = _problem(message)
        if problem is None:
            await super().handle_message(message)
        else:
            await self.handle_invalid_message(problem)

    async def handle_task_exception(self, error: Exception) -> None:
        """Log what an operation's task failed with; that the client has gone is no failure."""
        if isinstance(error, WebSocketDisconnected):
            log.debug("client gone during an operation")
        else:
            log.error("operation on a socket failed", exc_info=error)


def _problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "A message must be a JSON object."
    if not isinstance(message.get("type"), str):
        return "A message's type must be a string."
    if message["type"] in ("subscribe", "complete") and not isinstance(message.get("id"), str):
        return "The id of a subscribe or complete message must be a string."
    return _problem_of_payload(message.get("payload")) if message["type"] == "subscribe" else None


def _problem_of_payload(payload: Any) -> str | None:
    if not isinstance(payload, dict):
        return "The payload of a subscribe message must be an object."
    if not isinstance(payload.get("query"), str):
        return "payload.query must be a string."
    if not isinstance(payload.get("variables"), dict | None):
        return "payload.variables must be an object or null."
    if not isinstance(payload.get("operationName"), str | None):
        return "payload.operationName must be a string or null."
    return None
