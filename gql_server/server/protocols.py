"""uvicorn's protocols with limits for clients that send nothing, send too much, or do not read."""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
import structlog
from starlette.datastructures import Headers
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from gql_server.limits.clients import CONNECTION, FIRST_BYTES, Clients, Connection

log = structlog.get_logger(__name__)

HEADER_SECONDS = 15
"""Time for a request's headers, from the connection's beginning or from their first byte."""
MAX_UNREAD_BYTES = 1024 * 1024
"""Unread answers to a WebSocket's pings; uvicorn writes them whether they are read or not."""
READING_SECONDS = 15
READ_BYTES = 64 * 1024
"""The bytes that a client with unread answers must read in every READING_SECONDS."""

TOO_OFTEN = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)

FRAME_OVERHEAD_BYTES = 64
"""The overhead of a frame in memory."""

_MAY_SHOW_THE_TOKEN = (b"\nauthorization:", b"\ncookie:", b"\nupgrade:")


class _ReadWatch:
    """Ends the connection of a client that reads too slowly."""

    def __init__(self, connection: Connection, clients: Clients) -> None:
        self._connection, self._clients = connection, clients
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def begin(self) -> None:
        """Begin to watch: the write buffer is full."""
        self._clients.note_reading(self._connection, reads=False)
        if self._timer is None:
            self._arm()

    def end(self) -> None:
        """Stop watching."""
        self._clients.note_reading(self._connection, reads=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._left = self._connection.transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(READING_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._connection.transport.get_write_buffer_size() > self._left - READ_BYTES:
            log.info("slow client disconnected")
            self._connection.transport.abort()
        else:
            self._arm()


class _Watched(asyncio.Protocol):
    """Both protocols: a slow reader is ended, and the connection is counted until it ends."""

    _clients: Clients
    _reading: _ReadWatch
    app_state: dict[str, Any]

    @property
    def _connection(self) -> Connection:
        connection: Connection = self.app_state[CONNECTION]
        return connection

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._reading.begin()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._reading.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._reading.end()
        self._clients.remove(self._connection)


class HttpConnection(_Watched, H11Protocol):
    """An HTTP connection, with a limit of their number and a deadline for each request's headers."""

    def __init__(self, *args: Any, max_connections: int, clients: Clients, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_connections = max_connections
        self._clients = clients
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection unless there are too many."""
        super().connection_made(transport)
        connection = Connection(transport, self.client[0] if self.client else "", self._clients)
        self.app_state = {**self.app_state, CONNECTION: connection}
        self._reading = _ReadWatch(connection, self._clients)
        self._clients.add(connection)
        if len(self.connections) > self._max_connections:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless it is a stranger's request beyond the rate."""
        if self._asks_too_often(data):
            self.transport.write(TOO_OFTEN)
            self.transport.close()
        else:
            super().data_received(data)
        self._watch()

    def _asks_too_often(self, data: bytes) -> bool:
        """Count a stranger's complete request without parsing it; return whether it is beyond the rate.

        They may come by the thousand, and whoever has the token waits behind them. To count them when they
        are answered is too late: all that come in one turn of the loop would find the same place free.
        """
        connection = self._connection
        if connection.is_admitted:
            return False
        head, end, _ = data.partition(b"\r\n\r\n")
        if not end or any(mark in head.lower() for mark in _MAY_SHOW_THE_TOKEN):
            return False
        connection.is_counted = self._clients.rates.allows(connection.address)
        return not connection.is_counted

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request, which counts in the rate as well."""
        if not self._connection.is_counted:
            self._clients.rates.allows(self._connection.address)
        super().send_400_response(msg)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the WebSocket's protocol."""
        self._reading.end()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Set a deadline while a request is awaited, and none while one is answered."""
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
        """Whether a request is awaited; not if a WebSocket has taken the connection over."""
        is_http = self.transport.get_protocol() is self
        return is_http and (self.cycle is None or self.cycle.response_complete)


class SocketConnection(_Watched, WebSocketsSansIOProtocol):
    """A WebSocket's connection; without the token its messages must be short."""

    def __init__(
        self, *args: Any, clients: Clients, allows: Callable[[Headers], bool], **kwargs: Any
    ) -> None:
        """Begin; ``allows`` says of a handshake's headers whether they show the token."""
        super().__init__(*args, **kwargs)
        self._clients = clients
        self._allows = allows
        self._reading = _ReadWatch(self._connection, clients)
        self._counted, self._n_bytes = 0, 0
        self._longest = self.conn.max_message_size
        self.conn.max_message_size = FIRST_BYTES
        self._connection.when_admitted(self._allow_long_messages)

    def _allow_long_messages(self) -> None:
        self.conn.max_message_size = self._longest

    def handle_connect(self, event: Request) -> None:
        """Accept the handshake; only clients with the token may compress, since that hides the size."""
        headers = [(name.encode(), value.encode("latin-1")) for name, value in event.headers.raw_items()]
        if self._allows(Headers(raw=[(name.lower(), value) for name, value in headers])):
            self._connection.admit()
        if not self._connection.is_admitted:
            self.conn.available_extensions = []
        super().handle_connect(event)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless all clients together have too many unfinished bytes."""
        super().data_received(data)
        unfinished = len(self.conn.reader.buffer) + self._bytes_of_frames()
        if not self._clients.note_unfinished(self._connection, unfinished):
            self.conn.send_close(1013, "All clients together have too many unfinished messages; try again.")
            self.handle_parser_exception()

    def _bytes_of_frames(self) -> int:
        """Return the bytes of the unfinished message's frames; each frame is counted once."""
        if len(self.frames) < self._counted:
            self._counted, self._n_bytes = 0, 0  # It is another message.
        for part in self.frames[self._counted :]:
            self._n_bytes += len(part) + FRAME_OVERHEAD_BYTES
        self._counted = len(self.frames)
        return self._n_bytes

    def handle_cont(self, event: Frame) -> None:
        """Add a frame to the message; empty ones, of which there could be any number, are dropped."""
        if event.data or event.fin:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, and end the connection if the answers pile up unread."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.transport.abort()
