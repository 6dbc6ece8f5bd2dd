"""Waits for other tasks of this process, without a clock."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks go on until a condition holds."""
    while not condition():
        await give_way()


async def give_way() -> None:
    """Let other tasks take one step."""
    await asyncio.sleep(0)
