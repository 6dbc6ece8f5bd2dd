"""A wake-up in memory for whoever looks again after a change."""

import asyncio
from contextlib import suppress

LOOK_AGAIN_SECONDS = 1.0
"""Who waits looks once a second besides being woken, for what another process has written."""


class Notifier:
    """Rung after each change that somebody may wait for. It carries nothing: who waits looks again."""

    def __init__(self) -> None:
        self._count = 0
        self._rung = asyncio.Event()

    @property
    def count(self) -> int:
        """How often it has rung; take it before looking, and pass it to ``wait``."""
        return self._count

    def notify(self) -> None:
        """Wake everybody who waits."""
        self._count += 1
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, seen: int, seconds: float | None = None) -> None:
        """Return when it has rung since ``seen``, or after ``seconds``."""
        if self._count == seen:
            # asyncio.wait_for() of Python 3.11 forgets that it was canceled if it rings at that moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._rung.wait()
