"""A wake-up in memory for whoever reads the database again after a change."""

import asyncio


class Bell:
    """Rung after each commit that readers may care about. It carries nothing: the database is the truth."""

    def __init__(self) -> None:
        self._count = 0
        self._rung = asyncio.Event()

    @property
    def count(self) -> int:
        """How often it has rung; take it before reading, and pass it to ``wait``."""
        return self._count

    def ring(self) -> None:
        """Wake everybody who waits."""
        self._count += 1
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, seen: int, seconds: float) -> None:
        """Return when it has rung since ``seen``, or after ``seconds``."""
        if self._count == seen:
            try:
                await asyncio.wait_for(self._rung.wait(), seconds)
            except TimeoutError:
                return
