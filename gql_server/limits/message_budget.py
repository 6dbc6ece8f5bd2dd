"""The bytes of documents and variables of all open operations on WebSockets."""

from collections import Counter
from collections.abc import Hashable

from gql_server.errors import QueueFull

MAX_BYTES = 256 * 1024 * 1024
MAX_BYTES_OF_CLIENT = 64 * 1024 * 1024
SMALL_BYTES = 4 * 1024
"""The size up to which a message is taken however much others hold."""
RETRY_SECONDS = 5


class OpenMessages:
    """Counts their bytes, of each client and in all."""

    def __init__(self) -> None:
        self._bytes = 0
        self._by_client: Counter[Hashable] = Counter()

    def add(self, client: Hashable, n_bytes: int) -> None:
        """Take in that an operation has begun.

        Raises:
            QueueFull: There is no room for its message, on this connection or at all.
        """
        for whose, limit, held in (
            ("on this connection", MAX_BYTES_OF_CLIENT, self._by_client[client]),
            ("of all clients", MAX_BYTES, self._bytes),
        ):
            if n_bytes > SMALL_BYTES and held + n_bytes > limit:
                message = (
                    f"The messages of open operations {whose} would have {held + n_bytes:,} bytes; the limit"
                    f" is {limit:,}. Let some operations end, or send less with each."
                )
                raise QueueFull(message, RETRY_SECONDS, code="BUSY")
        self._bytes += n_bytes
        self._by_client[client] += n_bytes

    def remove(self, client: Hashable, n_bytes: int) -> None:
        """Take in that an operation has ended."""
        self._bytes -= n_bytes
        self._by_client[client] -= n_bytes
        if not self._by_client[client]:
            del self._by_client[client]
