"""Large operations leave the event loop to others in between."""

import asyncio
import time
from itertools import pairwise

import pytest

from gql_server import turns
from gql_server.turns import FairTurns, LargeTurns


async def held_up(turn: LargeTurns, steps: list[str], name: str) -> None:
    """Take a turn, and hold up the loop in it."""
    async with turn.turn():
        steps.append(name)
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass


async def test_between_large_operations_that_come_together_others_have_their_steps() -> None:
    turn, steps = LargeTurns(), list[str]()
    large = [asyncio.ensure_future(held_up(turn, steps, "large")) for _ in range(4)]

    async def small() -> None:
        while not all(task.done() for task in large):
            steps.append("small")
            await asyncio.sleep(0)

    await asyncio.gather(small(), *large)
    places = [place for place, name in enumerate(steps) if name == "large"]
    assert len(places) == 4
    assert all(after - before > 3 for before, after in pairwise(places))


async def test_one_that_waits_for_something_loses_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LONGEST_BREAK_SECONDS", 0.01)
    turn, end = LargeTurns(), asyncio.Event()

    async def waits() -> None:
        async with turn.turn():
            await end.wait()

    waiting = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    async with asyncio.timeout(10), turn.turn():
        end.set()
    await waiting
    for _ in range(3):
        async with asyncio.timeout(10), turn.turn():
            pass


async def test_who_gives_up_waiting_is_not_waited_for() -> None:
    turn, steps = LargeTurns(), list[str]()
    async with turn.turn():
        waiting = asyncio.ensure_future(held_up(turn, steps, "given up"))
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(10):
        await held_up(turn, steps, "next")
    assert steps == ["next"]


async def test_who_sends_many_waits_for_himself_and_another_for_one_of_them() -> None:
    fair, order = FairTurns(at_once=1), list[str]()

    async def operate(client: str) -> None:
        turn = await fair.take(client)
        order.append(client)
        await asyncio.sleep(0)
        turn.end()
        turn.end()

    await asyncio.gather(*(operate(client) for client in "aaaabbbc"))
    assert "".join(order) == "aabcabab"


async def test_a_turn_that_lasts_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LONGEST_TURN_SECONDS", 0.01)
    fair = FairTurns(at_once=1)
    first = await fair.take("a")
    async with asyncio.timeout(10):
        second = await fair.take("b")
    first.end()
    waiting = asyncio.ensure_future(fair.take("c"))
    await asyncio.sleep(0)
    assert not waiting.done(), "what was given back is not given back again"
    second.end()
    (await waiting).end()


async def test_who_gives_up_before_his_turn_or_just_then_keeps_nobody_waiting() -> None:
    fair = FairTurns(at_once=1)
    first = await fair.take("a")
    waiting = [asyncio.ensure_future(fair.take(client)) for client in "bcd"]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    first.end()  # It is the third's now, who gives up before he knows.
    waiting[1].cancel()
    async with asyncio.timeout(10):
        (await waiting[2]).end()
        (await fair.take("e")).end()


async def test_operations_without_a_pause_do_not_all_go_in_one_step_of_the_loop() -> None:
    fair, steps = FairTurns(at_once=2), list[str]()

    async def operate() -> None:
        turn = await fair.take("a")
        steps.append("operation")
        turn.end()

    operations = [asyncio.ensure_future(operate()) for _ in range(6)]
    while not all(one.done() for one in operations):
        steps.append("small")
        await asyncio.sleep(0)
    runs = "".join(name[0] for name in steps).split("s")
    assert max(len(run) for run in runs) == 2
