"""Turns of operations, so that long ones do not hold up the others."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

SHORT_CHARACTERS = 1_000
"""The length of a text that is parsed within a few milliseconds."""
LONGEST_BREAK_SECONDS = 0.25
SHORTEST_BREAK_SECONDS = 0.02
UNMEASURED = 2
"""An operation takes twice as long as reading its document, an event twice as long as resolving fields."""
LONGEST_TURN_SECONDS = 0.01
"""The longest turn of an operation that begins: a longer one waits for a worker, a file or the database."""

Futures = deque[asyncio.Future[None]]


class Breaks:
    """Leaves half of the event loop's time to others than those who take turns.

    What another client asks for takes some twenty steps of the loop, and would wait for a document or an
    event before each of them. So the breaks are long enough for many steps, with several turns between them.
    """

    def __init__(self, length: float = 1) -> None:
        """Take how long they are, times what is told of the turns before."""
        self._length = length
        self._held_up_seconds = 0.0
        self.until = 0.0
        """When the last one ends, or has ended; by the monotonic clock."""

    def end_after(self, seconds: float) -> float:
        """Take in for how long a turn has just held up the loop; return when the next one may begin."""
        now = time.monotonic()
        self._held_up_seconds += seconds
        length = min(self._length * self._held_up_seconds, LONGEST_BREAK_SECONDS)
        if length > SHORTEST_BREAK_SECONDS:
            self.until, self._held_up_seconds = now + length, 0.0
        return max(self.until, now)


class FairTurns:
    """Has operations begun one after the other, or a few at a time, those of all clients in turn.

    Who sends thousands at once waits for himself. Every other turn goes to clients that have had none since
    they began to wait, so that many who send thousands each do not hold up one that asks once.
    """

    def __init__(
        self,
        at_once: int = 1,
        longest_seconds: float = LONGEST_TURN_SECONDS,
        breaks: Breaks | None = None,
        others_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take how many have a turn at once, how long one may be, and the breaks, which lines may share.

        ``others_wait`` says whether somebody waits in another line, who may come into this one.
        """
        self._free = at_once
        self._breaks = breaks or Breaks()
        self._longest_seconds = longest_seconds
        self._others_wait = others_wait
        self._new: OrderedDict[Hashable, Futures] = OrderedDict()
        self._served: OrderedDict[Hashable, Futures] = OrderedDict()
        self._was_new = False

    async def take(self, client: Hashable) -> "Turn":
        """Wait for a client's turn."""
        if self._free:
            self._free -= 1
            return Turn(self._give_back, self._longest_seconds)
        future = asyncio.get_running_loop().create_future()
        of_client = self._served.get(client)
        if of_client is None:
            of_client = self._new.setdefault(client, deque())
        of_client.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._pass_on()
            raise
        return Turn(self._give_back, self._longest_seconds)

    def is_waited_for(self) -> bool:
        """Whether anybody waits."""
        return bool(self._new or self._served)

    def waiting(self, client: Hashable) -> int:
        """Return the number of a client's waiting operations."""
        return len(self._new.get(client, ())) + len(self._served.get(client, ()))

    def _give_back(self, held_up_seconds: float) -> None:
        # Not now: many would go from beginning to end in this very step of the loop.
        asyncio.get_running_loop().call_soon(self._pass_on_after, held_up_seconds)

    def _pass_on_after(self, held_up_seconds: float) -> None:
        begins_again = self._breaks.end_after(held_up_seconds) if held_up_seconds else 0.0
        if held_up_seconds and (self.is_waited_for() or self._others_wait()):
            asyncio.get_running_loop().call_at(begins_again, self._pass_on)
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._new or self._served:
            self._was_new = bool(self._new) and not (self._was_new and self._served)
            client, futures = (self._new if self._was_new else self._served).popitem(last=False)
            future = futures.popleft()
            if futures:
                self._served[client] = futures  # Behind all others.
            if not future.done():
                future.set_result(None)
                return
        self._free += 1


class Turn:
    """A turn that is given back once, at the latest after a while: what takes longer waits for something."""

    def __init__(self, give_back: Callable[[float], None], seconds: float) -> None:
        self._give_back: Callable[[float], None] | None = give_back
        self._held_up_seconds = 0.0
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end)

    def held_up(self, seconds: float) -> None:
        """Note how long this turn has held up the event loop; where others wait, a break comes after it."""
        self._held_up_seconds = seconds

    def end(self) -> None:
        """Give it back, unless that has been done."""
        self._timer.cancel()
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            # Later than it was to end at the latest, it has held up the loop, whatever was told.
            late = asyncio.get_running_loop().time() - self._timer.when()
            give_back(max(self._held_up_seconds, late, 0.0))


EVENTS_AT_ONCE = 4
"""Of subscriptions; some wait for the database."""


class OperationTurns:
    """Of operations that begin, and of events. Those that take long have breaks in between."""

    def __init__(self) -> None:
        breaks = Breaks(UNMEASURED)
        self.known = FairTurns()
        """Of operations whose documents have been read."""
        self.short = FairTurns(breaks=breaks)
        """Of those whose documents are to be read."""
        self.long = FairTurns(breaks=breaks)
        """Of those whose documents may take some hundred milliseconds."""
        self.events = FairTurns(EVENTS_AT_ONCE, breaks=breaks)
        """Of subscriptions that answer an event."""
        self.bodies = LargeTurns()
        """Of long requests that are looked at."""
        self.large = LargeTurns(self._is_waited_for)
        """Of queries that take long to execute."""

    def _is_waited_for(self) -> bool:
        return any(line.is_waited_for() for line in (self.known, self.short, self.long))

    def of(self, text: str, *, is_known: bool) -> FairTurns:
        """Return the line for an operation's document."""
        if is_known:
            return self.known
        return self.short if len(text) <= SHORT_CHARACTERS else self.long

    def waiting(self, client: Hashable) -> int:
        """Return the number of a client's waiting operations."""
        return sum(line.waiting(client) for line in (self.known, self.short, self.long))


class LargeTurns:
    """Has large operations executed one after the other, with a break after each while others wait.

    Much of an operation is executed without giving the event loop away. Without the breaks what another
    client asks for, in many small steps, would wait for all of them at each step.
    """

    def __init__(self, others_wait: Callable[[], bool] = lambda: False) -> None:
        """Take what says whether somebody waits to begin, whose operation may be large."""
        self._breaks = Breaks()
        self._turns = FairTurns(
            longest_seconds=LONGEST_BREAK_SECONDS, breaks=self._breaks, others_wait=others_wait
        )

    async def rest(self) -> None:
        """Wait for the end of the break, which is one also where nobody waits for it."""
        await asyncio.sleep(self._breaks.until - time.monotonic())

    @asynccontextmanager
    async def turn(self, client: Hashable) -> AsyncIterator[None]:
        """Wait for a client's turn, and hold it while the block runs; what waits for something loses it."""
        turn = await self._turns.take(client)
        began = time.monotonic()
        try:
            yield
        finally:
            turn.held_up(time.monotonic() - began)
            turn.end()
