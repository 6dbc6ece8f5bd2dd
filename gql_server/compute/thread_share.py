"""How many threads a worker's tensor operations use: all of the machine's while it is alone there.

Two workers with a thread for each processor run at a quarter of their speed together: threads that wait for
others of their team spin, and keep the processor from those that are waited for. benchmarks/README.md has the
figures of what was tried.
"""

import os
import time

import torch

from gql_server.compute.lane_board import LaneBoard
from gql_server.compute.messages.wire import Lane
from gql_server.compute.processors import OtherProcesses

_SECONDS_BETWEEN_LOOKS = 1.0
"""At the machine's other processes."""
_SECONDS_OF_A_SIGN = 3.0
"""A worker that computes says so every second; what a killed one said last holds no longer than this."""
_LINGERING: dict[Lane, float] = {"jobs": 0.0, "interactive": 0.5}
"""Seconds for which a lane counts as computing after a task: a client asks again within a moment."""
_BUSY_PROCESSOR = 0.7
"""From this part of its time on a processor counts as another process's."""


class ThreadShare:
    """Sets torch's threads between one step of a task and the next, by who else computes."""

    def __init__(self, board: LaneBoard, lane: Lane) -> None:
        self._board, self._lane = board, lane
        self._most = self._threads = torch.get_num_threads()
        self._others = OtherProcesses()
        self._taken = 0
        self._next_look = 0.0

    def sign(self) -> None:
        """Say that this worker computes; to be said again every second."""
        self._board.say(_SECONDS_OF_A_SIGN)

    def rest(self) -> None:
        """Say that this worker's task has ended."""
        self._board.say(_LINGERING[self._lane])

    def adjust(self) -> None:
        """Take the threads that are this worker's share now."""
        threads = share(self._most, self._lane, self._board.other_computes(), self._taken_by_others())
        if threads != self._threads:
            self._threads = threads
            torch.set_num_threads(threads)

    def _taken_by_others(self) -> int:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _SECONDS_BETWEEN_LOOKS
            workers = [os.getpid(), *filter(None, [self._board.other_process()])]
            self._taken = int(self._others.processors(workers) + 1 - _BUSY_PROCESSOR)
        return self._taken


def share(most: int, lane: Lane, other_computes: bool, taken: int) -> int:
    """Return a lane's threads of ``most``, ``taken`` of them by other processes; at least one."""
    left = max(1, most - taken)
    if not other_computes:
        return left
    jobs = max(1, left // 2)
    return jobs if lane == "jobs" else max(1, left - jobs)
