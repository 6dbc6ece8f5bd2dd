"""Single-flight calls: who wants the same at the same moment waits for the one call under way."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class SingleFlight(Generic[V]):
    """Calls under way, by key. Nothing is kept of a call that has ended."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, _Call[V]] = {}

    async def do(self, key: Hashable, work: Callable[[], Awaitable[V | None]]) -> V | None:
        """Return the result of the call under way for ``key``, or make it for all who ask meanwhile.

        Who would share in None, or in a call that was canceled or failed, makes one of his own.
        """
        call = self._calls.get(key)
        if call is None:
            return await self._lead(key, work)
        await call.ended.wait()
        return await work() if call.result is None else call.result

    async def _lead(self, key: Hashable, work: Callable[[], Awaitable[V | None]]) -> V | None:
        call = self._calls[key] = _Call()
        try:
            await asyncio.sleep(0)  # All who were woken together shall find it, even if it never waits.
            call.result = await work()
            return call.result
        finally:
            del self._calls[key]
            call.ended.set()


class _Call(Generic[V]):
    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.result: V | None = None
