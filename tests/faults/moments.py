"""When to strike: at any moment, while a job is at work, or at its very end."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto

from tests.faults.subject import LAST_PART, Subject

START_SECONDS = 9.0
"""What a worker's imports and a model's loading take together, about."""
LONGEST_WORK_SECONDS = 3.0
END_SECONDS = 0.4
PATIENCE_SECONDS = 180.0


class Moment(Enum):
    """A kind of moment."""

    ANY = auto()
    AT_WORK = auto()
    AT_THE_END = auto()


CHANCES = {Moment.ANY: 3, Moment.AT_WORK: 6, Moment.AT_THE_END: 2}


async def wait_for_moment(
    subjects: Sequence[Subject], news: asyncio.Condition, dice: random.Random, seconds: dict[str, float]
) -> bool:
    """Wait for a moment of a random kind; returns whether a job is still there.

    Args:
        subjects: The jobs that are queued or run.
        news: Told of each of their events.
        dice: Decides.
        seconds: How long each kind of job takes when nobody disturbs it.
    """
    moment = dice.choices(list(CHANCES), list(CHANCES.values()))[0]
    longest = max(seconds[subject.order.kind] for subject in subjects)
    if moment == Moment.ANY:
        await _pause(subjects, news, dice.uniform(0, START_SECONDS + min(longest, LONGEST_WORK_SECONDS)))
    elif moment == Moment.AT_WORK:
        await _reach(subjects, news, lambda subject: (subject.follower.fraction or 0) > 0)
        await _pause(subjects, news, dice.uniform(0, min(LONGEST_WORK_SECONDS, 0.5 * longest)))
    else:
        await _reach(subjects, news, lambda subject: (subject.follower.fraction or 0) >= LAST_PART)
        await _pause(subjects, news, dice.choice([0, dice.uniform(0, END_SECONDS)]))
    return not all(subject.over for subject in subjects)


async def _reach(
    subjects: Sequence[Subject], news: asyncio.Condition, reached: Callable[[Subject], bool]
) -> None:
    """Wait until a job that is under way is so far, or all are over."""

    def so_far() -> bool:
        under_way = [subject for subject in subjects if not subject.follower.ended]
        return any(map(reached, under_way)) or all(subject.over for subject in subjects)

    async with asyncio.timeout(PATIENCE_SECONDS), news:
        await news.wait_for(so_far)


async def _pause(subjects: Sequence[Subject], news: asyncio.Condition, seconds: float) -> None:
    """Wait so long, or until all jobs are over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), news:
            await news.wait_for(lambda: all(subject.over for subject in subjects))
