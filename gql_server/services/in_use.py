"""Which language models and SAEs requests are using right now."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class InUse:
    """Counts the interactive requests per language model and SAE."""

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

    def count(self, id: str) -> int:
        """How many requests use it now."""
        return self._counts[id]
