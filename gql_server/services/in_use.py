"""Which language models, SAEs and stored datasets requests are using right now."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class InUse:
    """Counts the interactive requests per language model and SAE, and the readers of stored datasets."""

    def __init__(self) -> None:
        self.requests = 0
        """Requests that run or wait now."""
        self._counts: Counter[str] = Counter()

    @contextmanager
    def by_request(self, *ids: str) -> Iterator[None]:
        """Count a request while the block runs."""
        self.requests += 1
        self._counts.update(ids)
        try:
            yield
        finally:
            self.requests -= 1
            self._counts.subtract(ids)

    @contextmanager
    def by_reader(self, id: str | None) -> Iterator[None]:
        """Count a use that is no interactive request while the block runs; None is of nothing."""
        used = [] if id is None else [id]
        self._counts.update(used)
        try:
            yield
        finally:
            self._counts.subtract(used)

    def count(self, id: str) -> int:
        """How many requests use it now."""
        return self._counts[id]
