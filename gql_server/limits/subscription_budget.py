"""The cost of all open subscriptions, each of which is executed again for every event."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from gql_server.errors import QueueFull

MAX_COST = 150_000
"""The cost of an event of all subscriptions together."""
MAX_COST_OF_CLIENT = 60_000
"""The same for one connection."""
RETRY_SECONDS = 60
MIN_COST = 100
"""The least cost of an event: that of sending it."""


def _too_much(whose: str, limit: int, cost: int) -> QueueFull:
    message = (
        f"The subscriptions {whose} would cost {cost:,} for each event; the limit is {limit:,}. End some, or "
        "ask for fewer fields."
    )
    return QueueFull(message, RETRY_SECONDS, code="BUSY")


class Subscriptions:
    """Counts the cost of open subscriptions, of each client and in all."""

    def __init__(self) -> None:
        self._cost = 0
        self._by_client: Counter[Hashable] = Counter()

    @contextmanager
    def open(self, client: Hashable, cost: int) -> Iterator[None]:
        """Count a subscription as open while the block runs.

        Raises:
            QueueFull: There is no room for its cost, on this connection or at all.
        """
        cost = max(cost, MIN_COST)
        of_client = self._by_client[client] + cost
        if of_client > MAX_COST_OF_CLIENT:
            raise _too_much("on this connection", MAX_COST_OF_CLIENT, of_client)
        if self._cost + cost > MAX_COST:
            raise _too_much("of all clients", MAX_COST, self._cost + cost)
        self._cost += cost
        self._by_client[client] = of_client
        try:
            yield
        finally:
            self._cost -= cost
            self._by_client[client] -= cost
            if not self._by_client[client]:
                del self._by_client[client]
