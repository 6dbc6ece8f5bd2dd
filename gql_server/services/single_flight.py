"""Single-flight calls: who wants the same at the same moment waits for the one call under way."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass
class _Call(Generic[V]):
    # An event wakes all who wait in one step of the loop; with a shielded future it would be two, and they
    # would not be there together for the next call.
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    shared: V | None = None


class SingleFlight(Generic[V]):
    """Calls under way, by key. Nothing is kept of a call that has ended."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, _Call[V]] = {}

    async def do(
        self, key: Hashable, work: Callable[[], Awaitable[V]], can_share: Callable[[V], bool] = lambda _: True
    ) -> V:
        """Return the result of the call under way for ``key``, or make the call for all who ask meanwhile.

        A caller works for itself where that call fails, is canceled, or has a result that it cannot share.
        """
        if (call := self._calls.get(key)) is not None:
            await call.ended.wait()
            return await work() if call.shared is None else call.shared
        call = self._calls[key] = _Call()
        try:
            await asyncio.sleep(0)  # All who were woken together find the call, even if it never waits.
            result = await work()
            call.shared = result if can_share(result) else None
            return result
        finally:
            del self._calls[key]
            call.ended.set()
