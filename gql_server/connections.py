"""Connections as uvicorn serves them, for clients that say nothing or do not read what they ask for."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HEADER_SECONDS = 15
"""Time that a request's headers have, from the connection's beginning or from their first byte."""
MAX_UNREAD_BYTES = 1024 * 1024
"""Of answers to a WebSocket's own pings; uvicorn writes them whether they are read or not."""


class HttpConnection(H11Protocol):
    """An HTTP connection: one of no more than may be, on which requests come without long pauses."""

    def __init__(self, *args: Any, max_connections: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_connections = max_connections
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Take in what has come."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Set a deadline where a request is to come, and none where one is being answered."""
        if not self._is_waiting():
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._is_waiting():
            self.transport.abort()

    def _is_waiting(self) -> bool:
        """Whether there is no request; a WebSocket takes the connection over from its handshake on."""
        is_http = self.transport.get_protocol() is self
        return is_http and (self.cycle is None or self.cycle.response_complete)


class SocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket's connection whose client reads the answers to its pings."""

    def handle_ping(self) -> None:
        """Answer a ping, and end the connection where the answers pile up."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.transport.abort()
