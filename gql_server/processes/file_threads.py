"""Looks at directories that people fill, which may be on a disk that does not answer."""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from gql_server.errors import QueueFull

AT_ONCE, HASHES_AT_ONCE = 8, 2
SECONDS = 30
"""How long a look may take for whoever waits for it."""
HASHING_SECONDS = 1800
"""How long reading a language model's files whole may take."""
RETRY_SECONDS = 30

Given = ParamSpec("Given")
Made = TypeVar("Made")


class FileThreads:
    """Runs looks in threads of their own: what hangs there keeps only others of its kind waiting."""

    def __init__(self) -> None:
        self._looks, self._hashes = CapacityLimiter(AT_ONCE), CapacityLimiter(HASHES_AT_ONCE)

    async def look(self, function: Callable[Given, Made], *args: Given.args, **named: Given.kwargs) -> Made:
        """Return what a function finds that looks at files without reading them whole.

        Raises:
            QueueFull: It did not come in time.
        """
        return await self._run(SECONDS, self._looks, partial(function, *args, **named))

    async def hash(self, function: Callable[Given, Made], *args: Given.args, **named: Given.kwargs) -> Made:
        """Return what a function finds that may read large files whole.

        Raises:
            QueueFull: It did not come in time.
        """
        return await self._run(HASHING_SECONDS, self._hashes, partial(function, *args, **named))

    async def _run(self, seconds: float, limiter: CapacityLimiter, look: Callable[[], Made]) -> Made:
        try:
            with anyio.fail_after(seconds):
                # A thread that hangs is left to itself, and counts until it has ended.
                return await to_thread.run_sync(look, abandon_on_cancel=True, limiter=limiter)
        except TimeoutError:
            message = f"The directories that files are in did not answer within {seconds:g} seconds."
            raise QueueFull(f"{message} Try again.", RETRY_SECONDS, code="BUSY") from None
