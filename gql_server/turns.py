"""Lets others in between operations whose documents take long to read."""

import asyncio
import time

SHORT_CHARACTERS = 1_000
"""A text of so many is read within a few milliseconds."""
LONGEST_BREAK_SECONDS = 0.25


class Turns:
    """Has long documents read one after the other, with a break after each for as long as it took.

    Reading one holds up the event loop. What another client asks for takes many steps of the loop, and with a
    document before each step it would wait for all documents that have been sent.
    """

    def __init__(self) -> None:
        self._line = asyncio.Lock()
        self._free_at = 0.0

    async def wait(self) -> None:
        """Wait for one's turn, in the order of asking; then read without giving the loop away."""
        async with self._line:
            await asyncio.sleep(self._free_at - time.monotonic())

    def took(self, seconds: float) -> None:
        """Note how long reading a document has taken."""
        self._free_at = time.monotonic() + min(seconds, LONGEST_BREAK_SECONDS)
