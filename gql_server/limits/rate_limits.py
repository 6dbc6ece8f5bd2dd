"""Rates of requests without the token, and delays for wrong tokens, by address."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

BURST = 100
PER_SECOND = 20.0
"""Requests without the token from one address: at once, and per second from then on."""
FREE_GUESSES = 5
SLOWEST_SECONDS = 5.0
"""Wrong tokens that are answered at once; later ones wait longer and longer. One is forgiven every minute."""
FORGIVEN_SECONDS = 60.0
MAX_ADDRESSES = 10_000


@dataclass
class _Of:
    """An address."""

    left: float
    guesses: float
    at: float


class Rates:
    """Counts by address; only the most recent addresses are remembered."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._addresses: OrderedDict[str, _Of] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Count a request without the token; return whether the address is within its rate."""
        of = self._of(address)
        if of.left < 1:
            return False
        of.left -= 1
        return True

    def guessed(self, address: str) -> float:
        """Count a wrong token; return the seconds by which its answer is delayed."""
        of = self._of(address)
        of.guesses += 1
        beyond = of.guesses - FREE_GUESSES
        return 0.0 if beyond <= 0 else min(SLOWEST_SECONDS, 0.1 * 2.0 ** min(beyond, 20))

    def _of(self, address: str) -> _Of:
        now = self._clock()
        of = self._addresses.setdefault(address, _Of(BURST, 0, now))
        self._addresses.move_to_end(address)
        while len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        of.left = min(BURST, of.left + (now - of.at) * PER_SECOND)
        of.guesses = max(0.0, of.guesses - (now - of.at) / FORGIVEN_SECONDS)
        of.at = now
        return of
