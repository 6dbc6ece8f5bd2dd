"""Connections of clients, and what those may take together who have not shown the token, or do not read.

Whoever reaches the port may open connections. Those of which nobody has shown the token yet are few, for each
address and in all, and an old one makes room for the next: so they cannot keep others out.
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
"""Connections of which nobody has shown the token, from one address and from all."""
GRACE_SECONDS = 2
"""Before so long a connection makes no room for others of its address: its request is on the way."""
MAX_WAITING_BYTES = 256 * 1024 * 1024
"""What clients have not read, of all connections; beyond that the one with the most is ended."""
FIRST_BYTES = 64 * 1024
"""Of a WebSocket's message from somebody who has not shown the token."""
MAX_UNFINISHED_BYTES = 64 * 1024 * 1024
"""Of the messages that WebSockets have begun to send, all together."""

CONNECTION = "connection"
"""Where a scope's state has its connection."""


class Connection:
    """What is known of a connection, whichever protocol it speaks by now."""

    def __init__(self, transport: asyncio.Transport, address: str, clients: "Clients") -> None:
        self.transport = transport
        self.address = address
        self.since = asyncio.get_running_loop().time()
        self.is_admitted = clients.takes_anybody
        self.unfinished = 0
        """Bytes of messages that have not come to their end."""
        self.is_counted = False
        """Whether its request has been counted among those of its address before it is looked at."""
        self.held = 0
        """Bytes of answers that wait until the client has read those before them."""
        self._clients = clients
        self._when_admitted: list[Callable[[], None]] = []

    def admit(self) -> None:
        """Take in that the token has been shown."""
        if self.is_admitted:
            return
        self.is_admitted = True
        self._clients.forget_stranger(self)
        for tell in self._when_admitted:
            tell()

    @property
    def unread(self) -> int:
        """How many bytes wait for the client."""
        return self.transport.get_write_buffer_size() + self.held

    def hold(self, n_bytes: int) -> None:
        """Take in that an answer waits, or with a number below 0 that it waits no longer."""
        self.held += n_bytes
        if n_bytes > 0:
            self._clients.end_the_slowest()

    def when_admitted(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called once the token is shown; at once where it has been."""
        if self.is_admitted:
            tell()
        else:
            self._when_admitted.append(tell)


class Clients:
    """The connections of a server, and what they may take together."""

    def __init__(self, *, takes_anybody: bool, rates: Rates) -> None:
        """Take whether there is no token to show, and how often those ask who have not shown it."""
        self.takes_anybody = takes_anybody
        self.rates = rates
        self._strangers: set[Connection] = set()
        self._by_address: dict[str, dict[Connection, None]] = defaultdict(dict)
        self._not_reading: dict[Connection, None] = {}
        self._unfinished = 0

    def add(self, connection: Connection) -> None:
        """Take in a new connection; where there are too many strangers, an old one is ended."""
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
        """Count a connection among the strangers no longer."""
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
        """Take in whether a client reads what is sent to it."""
        if reads:
            self._not_reading.pop(connection, None)
            return
        self._not_reading[connection] = None
        self.end_the_slowest()

    def end_the_slowest(self) -> None:
        """End the client for which the most waits, where too much does in all."""
        waiting = {one: one.unread for one in self._not_reading}
        if sum(waiting.values()) > MAX_WAITING_BYTES:
            most = max(waiting, key=lambda one: waiting[one])
            del self._not_reading[most]
            log.warning("client ended that does not read", bytes=waiting[most])
            most.transport.abort()

    def note_unfinished(self, connection: Connection, n_bytes: int) -> bool:
        """Take in how much of messages a connection has sent without an end; say whether there is room."""
        self._unfinished += n_bytes - connection.unfinished
        connection.unfinished = n_bytes
        return n_bytes <= FIRST_BYTES or self._unfinished <= MAX_UNFINISHED_BYTES


def admit(scope: MutableMapping[str, Any]) -> None:
    """Take in that a request or a WebSocket has shown the token."""
    connection = scope.get("state", {}).get(CONNECTION)
    if connection is not None:
        connection.admit()


def take_counted(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request was counted among those without the token when it came; once for each."""
    connection = scope.get("state", {}).get(CONNECTION)
    if connection is None or not connection.is_counted:
        return False
    connection.is_counted = False
    return True


@contextmanager
def waiting_to_be_sent(scope: MutableMapping[str, Any], n_bytes: int) -> Iterator[None]:
    """Count an answer on a WebSocket's connection while the block runs."""
    connection = scope.get("state", {}).get(CONNECTION)
    if connection is None:
        yield
        return
    connection.hold(n_bytes)
    try:
        yield
    finally:
        connection.hold(-n_bytes)
