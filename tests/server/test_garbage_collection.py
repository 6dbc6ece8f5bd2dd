"""Garbage in circles goes even where Python does not look for it by itself."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from gql_server.server import garbage_collection
from tests.support.waiting import until


class Circle:
    """What refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
async def collecting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Task[None]]:
    """Have garbage looked for, every hour."""
    monkeypatch.setattr(garbage_collection, "INTERVAL_SECONDS", 3600.0)
    monkeypatch.setattr(garbage_collection, "LOOK_SECONDS", 0.01)
    task = asyncio.create_task(garbage_collection.collect_seldom())
    await asyncio.sleep(0)
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def old_circle() -> "weakref.ref[Circle]":
    """Return a reference to an object that is among the old ones, and that nobody else refers to."""
    circle = Circle()
    gc.collect()
    return weakref.ref(circle)


async def test_an_old_circle_goes_when_its_time_has_come(
    collecting: asyncio.Task[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    circle = old_circle()
    await asyncio.sleep(0.05)
    assert circle() is not None
    monkeypatch.setattr(garbage_collection, "INTERVAL_SECONDS", 0.0)
    await until(lambda: circle() is None)


async def test_an_old_circle_goes_when_memory_grows(
    collecting: asyncio.Task[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    circle = old_circle()
    monkeypatch.setattr(garbage_collection, "_peak_bytes", lambda: 2**60)
    await until(lambda: circle() is None)


async def test_python_looks_by_itself_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = gc.get_threshold()
    task = asyncio.create_task(garbage_collection.collect_seldom())
    await asyncio.sleep(0)
    assert gc.get_threshold() == (*usual[:2], garbage_collection.NEVER)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert gc.get_threshold() == usual
