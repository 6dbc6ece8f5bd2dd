"""Turns of work that few may do at once, and not many may wait for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gql_server.errors import QueueFull

RETRY_SECONDS = 5


class BoundedTurns:
    """Has a few at a time work, in the order in which they came, and refuses who would wait behind many."""

    def __init__(self, at_once: int, most_waiting: int, refusal: str) -> None:
        """Take how many work at once, how many may wait, and the sentence for who may not."""
        self._turns = asyncio.Semaphore(at_once)
        self._room = at_once + most_waiting
        self._refusal = refusal

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while the block runs.

        Raises:
            QueueFull: Too many wait already.
        """
        if not self._room:
            raise QueueFull(self._refusal, RETRY_SECONDS, code="BUSY")
        self._room -= 1
        try:
            async with self._turns:
                yield
        finally:
            self._room += 1
