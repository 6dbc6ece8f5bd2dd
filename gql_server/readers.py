"""Reads what others have written in processes that may be ended, with bounds on their time and memory.

A few bytes of a file can stand for gigabytes, or for hours of work, and some end the process that reads them.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import anyio
import structlog
from anyio import CapacityLimiter, to_process

from gql_server.errors import QueueFull
from gql_server.settings import Settings

log = structlog.get_logger(__name__)

PROCESSES = 2
"""That read at the same time."""
MAX_WAITING = 16
NICENESS = 5
_PR_SET_PDEATHSIG = 1

Given = ParamSpec("Given")
Made = TypeVar("Made")


class ReadingEnded(Exception):
    """Reading was ended; the message goes on from "the file …" and says what was too much."""


class Readers:
    """Runs functions in processes that are kept for the next ones, a few at a time."""

    def __init__(self, settings: Settings) -> None:
        self._seconds, self._memory = settings.reader_seconds, settings.reader_memory_bytes
        self._turns = CapacityLimiter(PROCESSES)
        self._processes = CapacityLimiter(PROCESSES)

    async def run(self, function: Callable[Given, Made], *args: Given.args, **_: Given.kwargs) -> Made:
        """Return what a function of a module returns; it ends when whoever waits for it is cancelled.

        Raises:
            ReadingEnded: It took too much time or memory, or its process was lost.
            QueueFull: Too many wait for their turn.
            Exception: What the function raises.
        """
        if self._turns.statistics().tasks_waiting >= MAX_WAITING:
            raise QueueFull(f"{MAX_WAITING} files wait to be read already; try again.", 5, code="BUSY")
        async with self._turns:
            try:
                with anyio.fail_after(self._seconds):
                    made, ended = await to_process.run_sync(
                        _run, self._memory, function, args, cancellable=True, limiter=self._processes
                    )
            except TimeoutError:
                ended = f"takes more than {self._seconds:g} seconds to read"
            except anyio.BrokenWorkerProcess:
                ended = "has ended the process that read it: it is damaged, or needs too much memory"
        if ended is not None:
            log.warning("reading ended", function=function.__name__, reason=ended)
            raise ReadingEnded(ended)
        result: Made = made
        return result


def _run(n_bytes: int, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, str | None]:
    """Call a function within bounds, in the process for that; return its result, or why there is none."""
    _bound(n_bytes)
    try:
        return function(*args), None
    except MemoryError:
        return None, f"needs more than {n_bytes / 2**20:,.0f} MiB of memory to be read"
    except Exception:
        raise
    except BaseException as error:  # A panic of a Rust library is no Exception, and cannot be pickled.
        return None, f"cannot be read: {type(error).__name__}"


_bounds: list[int] = []


def _bound(n_bytes: int) -> None:
    if _bounds:
        return
    _bounds.append(n_bytes)
    if sys.platform == "linux":
        # Even where the API process is killed inside a library's long call.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    # What libraries print goes to a pipe that nobody reads.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
