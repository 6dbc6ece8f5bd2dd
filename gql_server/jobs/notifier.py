"""Broadcast wake-ups, in memory, of readers that wait for a change."""

import asyncio
from contextlib import suppress

LOOK_AGAIN_SECONDS = 1.0
"""Readers look once a second besides, for what another process has written."""


class Notifier:
    """Notified after each change that a reader may wait for. It carries nothing: readers look again."""

    def __init__(self) -> None:
        self._count = 0
        self._notified = asyncio.Event()

    @property
    def count(self) -> int:
        """Notifications so far; take it before looking, and pass it to ``wait``."""
        return self._count

    def notify(self) -> None:
        """Wake all readers."""
        self._count += 1
        self._notified.set()
        self._notified = asyncio.Event()

    async def wait(self, seen: int, seconds: float | None = None) -> None:
        """Return when it was notified since ``seen``, or after ``seconds``."""
        if self._count == seen:
            # asyncio.wait_for() of Python 3.11 forgets that it was canceled if it is notified at that moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._notified.wait()
