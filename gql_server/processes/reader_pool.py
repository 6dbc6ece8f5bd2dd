"""Runs what others' files make of this server in processes that may be ended, within time and memory.

A few bytes of a file can stand for gigabytes, or for hours of work, and some end the process that reads them.
A file that is mapped into memory and then cut off does so, too.
"""

import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import anyio
import structlog
from anyio import CapacityLimiter, to_process

from gql_server.errors import InvalidInput, QueueFull
from gql_server.processes.process_limits import die_with_parent, limit_memory
from gql_server.settings import Settings

log = structlog.get_logger(__name__)

SHORT_SECONDS = 10
"""Time that a request's prompts may take a tokenizer and its chat template, and its body to be counted."""
LOOK_SECONDS = 30
"""Time that a look at what the server keeps may take."""
NICENESS = 5
STARTS = 3
"""How often a process that reads is started before a request is refused."""

Given = ParamSpec("Given")
Made = TypeVar("Made")


class ReadingEnded(Exception):
    """Reading was ended; the message is a clause that says what was too much."""


@contextmanager
def refusing(path: str | Sequence[str], what: str) -> Iterator[None]:
    """Refuse the input at a path where its reading is ended; ``what`` begins the sentence about it."""
    try:
        yield
    except ReadingEnded as ended:
        raise InvalidInput.at(path, f"{what}: {ended}.") from ended


class Pool:
    """Runs functions in processes that are kept for the next ones, a few at a time."""

    def __init__(
        self, what: str, *, processes: int, max_waiting: int, seconds: float, memory_bytes: int
    ) -> None:
        """Take what is read, in the plural, and the bounds on it."""
        self._what, self._seconds, self._memory = what, seconds, memory_bytes
        self._max_waiting = max_waiting
        self._turns = CapacityLimiter(processes)
        self._processes = CapacityLimiter(processes)

    async def run(self, function: Callable[Given, Made], *args: Given.args, **_: Given.kwargs) -> Made:
        """Return what a function of a module returns; it ends when whoever waits for it is canceled.

        Raises:
            ReadingEnded: It took too much time or memory, or its process was lost.
            QueueFull: Too many wait for their turn, or no process for it could be started.
            Exception: What the function raises.
        """
        if self._turns.statistics().tasks_waiting >= self._max_waiting:
            message = f"{self._max_waiting} {self._what} wait to be read already; try again."
            raise QueueFull(message, 5, code="BUSY")
        async with self._turns:
            await self._start()
            try:
                with anyio.fail_after(self._seconds):
                    made, ended = await to_process.run_sync(
                        _run, self._memory, function, args, cancellable=True, limiter=self._processes
                    )
            except TimeoutError:
                ended = f"it takes more than {self._seconds:g} seconds"
            except anyio.BrokenWorkerProcess:
                ended = "the process that reads it has ended: it is damaged, or needs too much memory"
        if ended is not None:
            name = getattr(getattr(function, "func", function), "__name__", "")  # It may be a partial one.
            log.warning("reading ended", function=name, reason=ended)
            raise ReadingEnded(ended)
        result: Made = made
        return result

    async def _start(self) -> None:
        """Have a process ready, so that what fails with it later is the file's.

        A machine that stands still for a while can keep it from starting (anyio waits 20 seconds).
        """
        for _ in range(STARTS):
            try:
                # Who leaves while a process is being started would leave it behind (anyio 4.16).
                with anyio.CancelScope(shield=True):
                    await to_process.run_sync(_bound, self._memory, limiter=self._processes)
            except anyio.BrokenWorkerProcess as error:
                log.warning("no reader could be started", reason=repr(error.__cause__ or error))
                await anyio.lowlevel.checkpoint()  # Whoever has left meanwhile waits for no other.
            else:
                return
        message = f"The machine is too busy to start a process that reads {self._what}; try again."
        raise QueueFull(message, 5, code="BUSY")


class Readers:
    """The pools of the server: one that is busy keeps nobody from another."""

    def __init__(self, settings: Settings) -> None:
        memory = settings.reader_memory_bytes
        self.files = Pool(
            "files", processes=2, max_waiting=16, seconds=settings.reader_seconds, memory_bytes=memory
        )
        """Reads files that people bring."""
        self.prompts = Pool(
            "requests", processes=1, max_waiting=64, seconds=SHORT_SECONDS, memory_bytes=memory
        )
        """Tokenizes prompts with language models' own files."""
        self.kept = Pool("requests", processes=2, max_waiting=1000, seconds=LOOK_SECONDS, memory_bytes=memory)
        """Looks into what the server keeps: indexes, runs' texts, vocabularies."""
        self.bodies = Pool(
            "requests", processes=1, max_waiting=16, seconds=SHORT_SECONDS, memory_bytes=memory
        )
        """Counts what requests that may have many values have."""


def _run(n_bytes: int, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, str | None]:
    """Call a function in the process for that; return its result, or why there is none."""
    _bound(n_bytes)
    try:
        return function(*args), None
    except MemoryError:
        return None, f"it needs more than {n_bytes / 2**20:,.0f} MiB of memory"
    except Exception:
        raise
    except BaseException as error:  # A panic of a Rust library is no Exception, and cannot be pickled.
        return None, f"the library that does it gives up ({type(error).__name__})"


_bounds: list[int] = []


def _bound(n_bytes: int) -> None:
    """Bound this process, unless it is."""
    if _bounds:
        return
    _bounds.append(n_bytes)
    die_with_parent()
    limit_memory(n_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    # What libraries print goes to a pipe that nobody reads.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
