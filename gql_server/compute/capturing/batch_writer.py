"""Writes batches in a thread of its own, in their order, while the next ones are computed."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

MAX_WAITING = 8
"""Limit on batches in memory that wait to be written."""
MAX_BYTES = 64 * 2**20
"""Limit on the bytes of those batches; a single larger batch is let through."""


@dataclass(frozen=True)
class _Writing:
    index: int
    n_bytes: int
    done: Future[object]


class BatchWriter:
    """A bounded queue of batches to be written. What goes wrong in writing is raised by a later call here.

    When the block ends, also by a cancellation, what was put is written.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batch-writer")
        self._waiting: deque[_Writing] = deque()

    def __enter__(self) -> "BatchWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()

    def put(self, index: int, n_bytes: int, write: Callable[[], object]) -> None:
        """Queue a batch of ``n_bytes`` for writing; wait while too many bytes are in memory."""
        self._waiting.append(_Writing(index, n_bytes, self._executor.submit(write)))
        unwritten = deque(writing for writing in self._waiting if not writing.done.done())
        while len(unwritten) > 1 and _too_much(unwritten):
            unwritten.popleft().done.result()

    def written(self) -> Iterator[int]:
        """Give the batches that have been written since the last call."""
        while self._waiting and self._waiting[0].done.done():
            yield self._next()

    def finish(self) -> Iterator[int]:
        """Give the others, each when it is written."""
        while self._waiting:
            yield self._next()

    def _next(self) -> int:
        writing = self._waiting.popleft()
        writing.done.result()
        return writing.index


def _too_much(unwritten: deque[_Writing]) -> bool:
    return len(unwritten) > MAX_WAITING or sum(writing.n_bytes for writing in unwritten) > MAX_BYTES
