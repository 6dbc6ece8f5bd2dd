"""Limits of all connections together: of strangers (clients without the token) and of slow readers.

Anybody who reaches the port may open connections. Those of strangers are limited for each address and in all,
and an old one makes room for the next, so that they cannot keep others out.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from gql_server.limits.rate_limits import Rates

log = structlog.get_logger(__name__)

STRANGERS_OF_AN_ADDRESS = 100
STRANGERS = 500
"""Connections of strangers, from one address and from all."""
GRACE_SECONDS = 2
"""A younger connection makes no room for others of its address: its request is on the way."""
MAX_WAITING_BYTES = 256 * 1024 * 1024
"""Unread bytes of all connections; beyond that the connection with the most is ended."""
FIRST_BYTES = 64 * 1024
"""The longest WebSocket message of a stranger."""
MAX_UNFINISHED_BYTES = 64 * 1024 * 1024
"""The bytes of all unfinished WebSocket messages together."""

CONNECTION = "connection"
"""The key of the connection in a scope's state."""


class Connection:
    """A connection, whichever protocol it speaks."""

    def __init__(self, transport: asyncio.Transport, address: str, clients: "Clients") -> None:
        self.transport = transport
        self.address = address
        self.since = asyncio.get_running_loop().time()
        self.is_admitted = clients.takes_anybody
        self.unfinished = 0
        """Bytes of its unfinished messages."""
        self.is_counted = False
        """Whether its request was counted in the address's rate before it was parsed."""
        self.held = 0
        """Bytes of answers that wait behind unread ones."""
        self._clients = clients
        self._when_admitted: list[Callable[[], None]] = []

    def admit(self) -> None:
        """Note that the client has shown the token."""
        if self.is_admitted:
            return
        self.is_admitted = True
        self._clients.forget_stranger(self)
        for tell in self._when_admitted:
            tell()

    @property
    def unread(self) -> int:
        """The number of bytes that the client has not read."""
        return self.transport.get_write_buffer_size() + self.held

    def hold(self, n_bytes: int) -> None:
        """Count an answer that waits; a number below 0 takes it off again."""
        self.held += n_bytes
        if n_bytes > 0:
            self._clients.end_the_slowest()

    def when_admitted(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when the token is shown, or at once if it has been."""
        if self.is_admitted:
            tell()
        else:
            self._when_admitted.append(tell)


class Clients:
    """The connections of a server, with the limits that they share."""

    def __init__(self, *, takes_anybody: bool, rates: Rates) -> None:
        """Begin; ``rates`` counts strangers' requests, ``takes_anybody`` says that there is no token."""
        self.takes_anybody = takes_anybody
        self.rates = rates
        self._strangers: set[Connection] = set()
        self._by_address: dict[str, dict[Connection, None]] = defaultdict(dict)
        self._not_reading: dict[Connection, None] = {}
        self._unfinished = 0

    def add(self, connection: Connection) -> None:
        """Add a connection; if there are too many strangers, end an old one."""
        if connection.is_admitted:
            return
        self._strangers.add(connection)
        of_address = self._by_address[connection.address]
        of_address[connection] = None
        oldest = next(iter(of_address))
        if len(of_address) > STRANGERS_OF_AN_ADDRESS and connection.since - oldest.since > GRACE_SECONDS:
            self._end_stranger(oldest)
        if len(self._strangers) > STRANGERS:
            most = max(self._by_address.values(), key=lambda those: len(those))
            self._end_stranger(next(iter(most)))

    def _end_stranger(self, connection: Connection) -> None:
        self.forget_stranger(connection)
        connection.transport.abort()

    def forget_stranger(self, connection: Connection) -> None:
        """Take a connection off the strangers."""
        self._strangers.discard(connection)
        of_address = self._by_address.get(connection.address)
        if of_address is not None:
            of_address.pop(connection, None)
            if not of_address:
                del self._by_address[connection.address]

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.forget_stranger(connection)
        self._not_reading.pop(connection, None)
        self.note_unfinished(connection, 0)

    def note_reading(self, connection: Connection, *, reads: bool) -> None:
        """Note whether a client reads what is sent to it."""
        if reads:
            self._not_reading.pop(connection, None)
            return
        self._not_reading[connection] = None
        self.end_the_slowest()

    def end_the_slowest(self) -> None:
        """End the connection with the most unread bytes if all together have too many."""
        waiting = {one: one.unread for one in self._not_reading}
        if sum(waiting.values()) > MAX_WAITING_BYTES:
            most = max(waiting, key=lambda one: waiting[one])
            del self._not_reading[most]
            log.warning("slow client disconnected", bytes=waiting[most])
            most.transport.abort()

    def note_unfinished(self, connection: Connection, n_bytes: int) -> bool:
        """Note the bytes of a connection's unfinished messages; return whether they fit the limit."""
        self._unfinished += n_bytes - connection.unfinished
        connection.unfinished = n_bytes
        return n_bytes <= FIRST_BYTES or self._unfinished <= MAX_UNFINISHED_BYTES


def _connection_of(scope: MutableMapping[str, Any]) -> Connection | None:
    connection: Connection | None = scope.get("state", {}).get(CONNECTION)
    return connection


def admit(scope: MutableMapping[str, Any]) -> None:
    """Note that a request or a WebSocket has shown the token."""
    if (connection := _connection_of(scope)) is not None:
        connection.admit()


def take_counted(scope: MutableMapping[str, Any]) -> bool:
    """Return whether a request was counted as a stranger's when it came in; True once for each."""
    connection = _connection_of(scope)
    if connection is None or not connection.is_counted:
        return False
    connection.is_counted = False
    return True


@contextmanager
def waiting_to_be_sent(scope: MutableMapping[str, Any], n_bytes: int) -> Iterator[None]:
    """Count an answer on a WebSocket's connection while the block runs."""
    connection = _connection_of(scope)
    if connection is None:
        yield
        return
    connection.hold(n_bytes)
    try:
        yield
    finally:
        connection.hold(-n_bytes)
