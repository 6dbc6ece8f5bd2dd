"""How threads of a worker's tensor operations wait for each other: awake while it is alone, else asleep.

A thread that has done its part of an operation spins until the others of its team have too, which is the
quickest way while each has a processor. Where others compute on the same processors, it keeps them from the
very threads that it waits for, and half of the machine is lost. Their number stays what it is: results depend
on it in their last bits. benchmarks/README.md shows what was tried.
"""

import os
import threading
import time

import torch

from gql_server.compute.worker.processors import OtherProcesses, allowed_processors
from gql_server.compute.worker.worker_board import WorkerBoard
from gql_server.protocol.wire import Lane

_SECONDS_BETWEEN_LOOKS = 1.0
"""Interval between looks at the machine's other processes."""
_SECONDS_OF_A_SIGN = 3.0
"""A worker that computes says so every second; what a killed one said last holds no longer than this."""
_LINGERING: dict[Lane, float] = {"jobs": 0.0, "interactive": 0.5}
"""Seconds for which a lane counts as computing after a task: a client asks again within a moment."""
_TAKEN_PROCESSORS = 0.7
"""Busy processors from which on other processes count as computing."""
_ELEMENTS = 200_000
"""Size of an operation that keeps all threads busy, in elements."""


class ThreadWaits:
    """Changes it between one step of a task and the next, by who else computes."""

    def __init__(self, board: WorkerBoard | None, lane: Lane) -> None:
        """``board`` is shared with the other workers; None: there are none."""
        self._board, self._lane = board, lane
        self._others = OtherProcesses()
        self._taken = False
        self._next_look = 0.0
        self._short = ShortSpins()

    def announce(self) -> None:
        """Say that this worker computes; to be said again every second."""
        if self._board is not None:
            self._board.say(_SECONDS_OF_A_SIGN)

    def rest(self) -> None:
        """Say that this worker's task has ended."""
        if self._board is not None:
            self._board.say(_LINGERING[self._lane])

    def adjust(self) -> None:
        """Have threads wait as suits who computes now."""
        self._short.set(self._taken_by_others() or (self._board is not None and self._board.others_compute()))

    def _taken_by_others(self) -> bool:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _SECONDS_BETWEEN_LOOKS
            workers = [os.getpid(), *([] if self._board is None else self._board.other_processes())]
            self._taken = self._others.processors(workers) >= _TAKEN_PROCESSORS
        return self._taken


class ShortSpins:
    """Has this process's OpenMP threads fall asleep at once where they wait.

    Its environment says for how long they spin, and only at the start of a process. But GNU's OpenMP, which
    torch comes with on Linux, spins a hundred times instead of 300,000 while it has more threads than there
    are processors (GOMP_SPINCOUNT in its manual). So teams of threads are held that do nothing. With another
    OpenMP nothing changes.
    """

    def __init__(self) -> None:
        threads, processors = torch.get_num_threads(), allowed_processors()
        # A process has one thread and, for each of its own that computes, the rest of a team.
        spinning = threads > 1 and 2 * threads >= processors
        self._n_teams = (processors - 1) // (threads - 1) if spinning else 0
        self._end: threading.Event | None = None
        self._holders: list[threading.Thread] = []

    def set(self, wanted: bool) -> None:
        """Have spins short, or as long as the environment says; little is done where they are so already."""
        if wanted == (self._end is not None):
            return
        if self._end is None:
            self._end = threading.Event()
            self._holders = [self._holder(self._end) for _ in range(self._n_teams)]
        else:
            self._end.set()
            for holder in self._holders:
                holder.join()  # Its team goes with it.
            self._end, self._holders = None, []

    @staticmethod
    def _holder(end: threading.Event) -> threading.Thread:
        ready = threading.Event()

        def hold() -> None:
            torch.ones(_ELEMENTS).add_(1)
            ready.set()
            end.wait()

        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        ready.wait()
        return holder
