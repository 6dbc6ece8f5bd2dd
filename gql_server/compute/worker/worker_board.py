"""What the workers of one machine tell each other: whether they compute, and in which process.

A file in memory that all have open, with a place for each, so that a look takes no message: a worker looks
between two tokens.
"""

import mmap
import os
import struct
import time
from collections.abc import Iterator

from gql_server.protocol.wire import BOARD_PLACE_BYTES

_PLACE = struct.Struct("=qq")
"""Until when the worker counts as computing, in nanoseconds of the machine's monotonic clock; the process."""
assert _PLACE.size == BOARD_PLACE_BYTES


class WorkerBoard:
    """The places of all workers, seen from one of them."""

    def __init__(self, descriptor: int, place: int) -> None:
        """Map the file of ``BOARD_PLACE_BYTES`` a worker; ``place`` is the number of this one's, from 0."""
        self._memory = mmap.mmap(descriptor, 0)
        self._own = place * _PLACE.size
        self.say(0)

    def say(self, seconds: float) -> None:
        """Say that this worker computes, for so many seconds unless it says otherwise; 0: it rests."""
        until = time.monotonic_ns() + int(seconds * 1e9) if seconds else 0
        _PLACE.pack_into(self._memory, self._own, until, os.getpid())

    def others_compute(self) -> bool:
        """Whether another worker computes."""
        now = time.monotonic_ns()
        return any(until > now for until, _ in self._others())

    def other_processes(self) -> list[int]:
        """Return the IDs of the other workers' processes that have said anything."""
        return [process for _, process in self._others() if process]

    def _others(self) -> Iterator[tuple[int, int]]:
        for start in range(0, len(self._memory), _PLACE.size):
            if start != self._own:
                yield _PLACE.unpack_from(self._memory, start)
