"""Work under way that others, who want the same at the same moment, wait for instead of doing it again."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class SingleFlight(Generic[V]):
    """What is being done, by what it is for. Nothing is kept of it when it is done."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, _Flight[V]] = {}

    async def join(self, key: Hashable, work: Callable[[], Awaitable[V | None]]) -> V | None:
        """Return what the work came to that is under way for a key, or else do it for all who join it.

        Who would share in None, or in work that was canceled or failed, does it for himself.
        """
        flight = self._under_way.get(key)
        if flight is None:
            return await self._lead(key, work)
        await flight.landed.wait()
        return await work() if flight.result is None else flight.result

    async def _lead(self, key: Hashable, work: Callable[[], Awaitable[V | None]]) -> V | None:
        flight = self._under_way[key] = _Flight()
        try:
            await asyncio.sleep(0)  # All who were woken together shall find it, even if it never waits.
            flight.result = await work()
            return flight.result
        finally:
            del self._under_way[key]
            flight.landed.set()


class _Flight(Generic[V]):
    def __init__(self) -> None:
        self.landed = asyncio.Event()
        self.result: V | None = None
