"""What the workers of one machine tell each other: whether they compute, and in which process.

A file in memory that both have open, with a slot for each lane, so that a look takes no message: a worker
looks between two tokens.
"""

import mmap
import os
import struct
import time

from gql_server.protocol.wire import LANE_BOARD_BYTES, Lane

_SLOT = struct.Struct("=qq")
"""Until when the lane counts as computing, in nanoseconds of the machine's monotonic clock; the process."""
_LANES: tuple[Lane, Lane] = ("jobs", "interactive")


class LaneBoard:
    """The slots of both lanes, seen from one of them."""

    def __init__(self, descriptor: int, lane: Lane) -> None:
        """Map the file of ``LANE_BOARD_BYTES``; ``lane`` is the one that this process serves."""
        self._memory = mmap.mmap(descriptor, LANE_BOARD_BYTES)
        self._own = _LANES.index(lane) * _SLOT.size
        self._other = LANE_BOARD_BYTES - _SLOT.size - self._own
        self.say(0)

    def say(self, seconds: float) -> None:
        """Say that this lane computes, for so many seconds from now unless it says otherwise; 0: it rests."""
        until = time.monotonic_ns() + int(seconds * 1e9) if seconds else 0
        _SLOT.pack_into(self._memory, self._own, until, os.getpid())

    def other_computes(self) -> bool:
        """Whether the other lane's worker computes."""
        until, _ = _SLOT.unpack_from(self._memory, self._other)
        return bool(until > time.monotonic_ns())

    def other_process(self) -> int | None:
        """Return the ID of the other lane's process, once it has said anything."""
        _, process = _SLOT.unpack_from(self._memory, self._other)
        return process or None
