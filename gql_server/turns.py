"""Lets others in between operations that take long to read or to execute."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial

SHORT_CHARACTERS = 1_000
"""A text of so many is read within a few milliseconds."""
LONGEST_BREAK_SECONDS = 0.25
LONGEST_TURN_SECONDS = 0.01
"""Of an operation that begins: what takes longer waits for a worker, a file or the database."""


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


class FairTurns:
    """Has operations begun one after the other, or a few at a time, those of all clients in turn.

    Who sends thousands at once waits for himself: each of the others waits for one of them at most.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._free = at_once
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, client: Hashable) -> "Turn":
        """Wait for a client's turn."""
        if self._free:
            self._free -= 1
            return Turn(self._pass_on, LONGEST_TURN_SECONDS)
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._pass_on()
            raise
        return Turn(self._pass_on, LONGEST_TURN_SECONDS)

    def waiting(self, client: Hashable) -> int:
        """Return how many operations of a client wait."""
        return len(self._waiting.get(client, ()))

    def _pass_on(self) -> None:
        while self._waiting:
            client, futures = self._waiting.popitem(last=False)
            future = futures.popleft()
            if futures:
                self._waiting[client] = futures  # Behind all others.
            if not future.done():
                future.set_result(None)
                return
        self._free += 1


class Turn:
    """A turn that is given back once, at the latest after a while: what takes longer waits for something."""

    def __init__(self, give_back: Callable[[], None], seconds: float) -> None:
        self._give_back: Callable[[], None] | None = give_back
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self.end)

    def end(self, give_back: Callable[[], None] | None = None) -> None:
        """Give it back, in another way if one is given, unless that has been done."""
        self._timer.cancel()
        of_itself, self._give_back = self._give_back, None
        if of_itself is not None:
            # Not now: many would go from beginning to end in this very step of the loop.
            self._loop.call_soon(give_back or of_itself)


class LargeTurns:
    """Has large operations executed one after the other, with a break after each while others wait.

    Much of an operation is executed without giving the event loop away. Without the breaks what another
    client asks for, in many small steps, would wait for all of them at each step.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, and hold it while the block runs; what waits for something itself loses it."""
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        began, turn = time.monotonic(), Turn(self._turn.release, LONGEST_BREAK_SECONDS)
        try:
            yield
        finally:
            seconds = min(time.monotonic() - began, LONGEST_BREAK_SECONDS)
            turn.end(partial(self._pass_on, seconds))

    def _pass_on(self, seconds: float) -> None:
        if self._waiting:
            asyncio.get_running_loop().call_later(seconds, self._turn.release)
        else:
            self._turn.release()
