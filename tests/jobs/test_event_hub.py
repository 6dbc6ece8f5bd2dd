"""What watchers of jobs get, over a real database: each event once, in order, whatever the timing."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from gql_server.errors import NotFound
from gql_server.jobs import event_log
from gql_server.jobs.event_hub import FEED_EVENTS, NotReadable
from gql_server.services import jobs
from gql_server.services.app_context import AppContext
from models import Job
from models.enums import JobStatus
from tests.support.job_logs import add_job, append_events, watched_by
from tests.support.serving import serving
from tests.support.waiting import give_way, until

TRIES = 1000
SECONDS_PER_TRY = 10


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AppContext]:
    async with serving(tmp_path) as parts:
        yield parts


async def numbers(server: AppContext, job_id: str, after: int = 0) -> list[int]:
    async with asyncio.timeout(SECONDS_PER_TRY):
        return [event.sequence async for event in jobs.watch(server, job_id, after)]


async def jitter(chance: random.Random, most: int) -> None:
    """Let other tasks go on a random number of times."""
    for _ in range(chance.randrange(most + 1)):
        await give_way()


@pytest.mark.parametrize("seed", range(12))
async def test_watchers_that_come_at_any_time_with_any_cursor_get_exactly_what_is_after_it(
    server: AppContext, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("gql_server.jobs.event_hub.FEED_EVENTS", 8)
    monkeypatch.setattr("gql_server.jobs.event_hub.EVENTS_AT_ONCE", 3)
    chance = random.Random(seed)
    job = await add_job(server)

    async def write() -> None:
        for _ in range(chance.randrange(20)):
            await append_events(server, job.id, chance.choice([1, 1, 2, 7, 20]))
            await jitter(chance, 50)
        await append_events(server, job.id, 0, JobStatus.FAILED)

    async def watch(after: int) -> tuple[int, list[int]]:
        await jitter(chance, 300)
        got = []
        async for event in jobs.watch(server, job.id, after):
            got.append(event.sequence)
            if not chance.randrange(4):
                await jitter(chance, 100)
        return after, got

    async with asyncio.timeout(60):
        watchers = [watch(chance.choice([0, 0, chance.randrange(60)])) for _ in range(20)]
        writing = asyncio.create_task(write())
        watched = await asyncio.gather(*watchers)
        await writing
    async with server.database.read() as session:
        last = (await session.get_one(Job, job.id)).last_sequence
    for after, got in watched:
        assert got == list(range(after + 1, last + 1))


async def test_watchers_far_behind_get_the_whole_log(server: AppContext) -> None:
    count = 3 * FEED_EVENTS
    job = await add_job(server, count)
    await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
    everything = list(range(1, count + 2))
    got = await asyncio.gather(*(numbers(server, job.id, after) for after in (0, 1, count - 1, count + 1)))
    assert got == [everything, everything[1:], everything[count - 1 :], []]


async def test_a_watcher_that_stops_reading_holds_nothing_and_gets_the_rest_when_it_goes_on(
    server: AppContext,
) -> None:
    job = await add_job(server, 1)
    slow = jobs.watch(server, job.id, 0)
    assert (await anext(slow)).sequence == 1
    quick = jobs.watch(server, job.id, 0)
    feed = server.event_hub._feeds[job.id]
    for sequence in range(1, 2 * FEED_EVENTS):
        assert (await anext(quick)).sequence == sequence
        await append_events(server, job.id, 1)
        assert len(feed._events) <= FEED_EVENTS
    assert feed.start > FEED_EVENTS // 2, "the slow one's next event is in the database alone"
    await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
    last = 2 * FEED_EVENTS + 1
    assert [event.sequence async for event in slow] == list(range(2, last + 1))
    assert [event.sequence async for event in quick] == [last - 1, last]


async def test_one_read_serves_a_thousand_watchers(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, reads = await add_job(server, 3), 0
    read = server.database.read

    def counted() -> Any:
        nonlocal reads
        reads += 1
        return read()

    monkeypatch.setattr(server.database, "read", counted)
    watching = [asyncio.ensure_future(numbers(server, job.id)) for _ in range(1000)]
    await until(lambda: watched_by(server, job.id) == 1000)
    await append_events(server, job.id, 5, JobStatus.SUCCEEDED)
    assert await asyncio.gather(*watching) == [list(range(1, 10))] * 1000
    assert reads < 10


async def test_the_reader_ends_with_its_last_watcher(server: AppContext) -> None:
    first, second = await add_job(server, 1), await add_job(server, 1)
    watchers = [jobs.watch(server, job.id, 0) for job in (first, first, second)]
    for watcher in watchers:
        await anext(watcher)
    reader = server.event_hub._reader
    assert reader is not None
    await watchers[0].aclose()  # type: ignore[attr-defined]
    await watchers[2].aclose()  # type: ignore[attr-defined]
    assert not reader.done()
    assert set(server.event_hub._feeds) == {first.id}
    await watchers[1].aclose()  # type: ignore[attr-defined]
    assert reader.done()
    assert not server.event_hub._feeds
    await append_events(server, first.id, 0, JobStatus.SUCCEEDED)
    assert await numbers(server, first.id) == [1, 2]
    assert server.event_hub._reader is None


async def test_a_watcher_that_is_canceled_while_it_waits_leaves_nothing_behind(server: AppContext) -> None:
    job = await add_job(server)
    watching = asyncio.ensure_future(numbers(server, job.id))
    await until(lambda: watched_by(server, job.id) == 1)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert not server.event_hub._feeds
    assert server.event_hub._reader is None


async def test_a_failing_read_reaches_the_watchers_and_the_next_ones_find_the_database_again(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await add_job(server, 1)
    watchers = [jobs.watch(server, job.id, 0) for _ in range(2)]
    for watcher in watchers:
        await anext(watcher)

    def broken() -> Any:
        raise OperationalError("SELECT", {}, OSError("disk I/O error"))

    with monkeypatch.context() as patch:
        patch.setattr(server.database, "read", broken)
        server.notifier.notify()
        for watcher in watchers:
            with pytest.raises(NotReadable, match=job.id) as failure:
                await asyncio.wait_for(anext(watcher), SECONDS_PER_TRY)
            assert isinstance(failure.value.__cause__, OperationalError)
        with pytest.raises(OperationalError):
            await numbers(server, job.id)
    await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
    assert await numbers(server, job.id) == [1, 2]


async def test_who_watches_after_a_retry_does_not_see_the_old_end(server: AppContext) -> None:
    job = await add_job(server, 1)
    await append_events(server, job.id, 0, JobStatus.FAILED)
    slow = jobs.watch(server, job.id, 0)
    assert (await anext(slow)).sequence == 1  # It keeps the tail, whose job has ended.
    async with server.database.write() as session:
        await event_log.append_status(session, await session.get_one(Job, job.id), JobStatus.QUEUED)
    late = asyncio.ensure_future(numbers(server, job.id, after=2))
    await until(lambda: server.event_hub._feeds[job.id].last == 3)
    await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
    assert await late == [3, 4]
    assert [event.sequence async for event in slow] == [2, 3, 4]


async def test_there_is_nothing_to_watch_of_a_job_that_is_not_there(server: AppContext) -> None:
    with pytest.raises(NotFound):
        await numbers(server, "job_x")
    assert not server.event_hub._feeds


async def test_what_another_process_has_written_is_found_without_the_bell(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gql_server.jobs.event_hub.LOOK_AGAIN_SECONDS", 0.001)
    job = await add_job(server)
    watching = asyncio.ensure_future(numbers(server, job.id))
    async with server.database.write() as session:
        await event_log.append_status(session, await session.get_one(Job, job.id), JobStatus.SUCCEEDED)
    assert await watching == [1]


@pytest.mark.slow
async def test_a_job_that_ends_in_the_very_moment_of_subscribing_always_completes_the_subscription(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gql_server.jobs.event_hub.LOOK_AGAIN_SECONDS", 3600.0)  # The notifier alone must do.
    chance = random.Random(0)

    async def end(job_id: str, most: int) -> None:
        await jitter(chance, most)
        await append_events(
            server, job_id, chance.randrange(2), chance.choice([JobStatus.FAILED, JobStatus.CANCELED])
        )

    async def watch(job_id: str, most: int) -> list[int]:
        await jitter(chance, most)
        return await numbers(server, job_id)

    for number in range(TRIES):
        job = await add_job(server, 1)
        most = chance.choice([0, 5, 20, 60])
        ending = asyncio.create_task(end(job.id, most))
        got = await asyncio.gather(*(watch(job.id, most) for _ in range(2)))
        await ending
        assert got[0] == got[1] == list(range(1, got[0][-1] + 1)), f"try {number}"
        assert got[0][-1] >= 2


@pytest.mark.parametrize("steps", range(8))
async def test_the_last_watcher_leaves_as_the_bell_rings(server: AppContext, steps: int) -> None:
    job = await add_job(server)
    await append_events(server, job.id, 0, JobStatus.SUCCEEDED)
    watcher = jobs.watch(server, job.id, 0)
    assert (await anext(watcher)).sequence == 1

    leaving = asyncio.ensure_future(anext(watcher, None))
    for _ in range(steps):
        await give_way()
    server.notifier.notify()

    # What reads for all is stopped by the last one who leaves, even if it is woken at that moment.
    async with asyncio.timeout(SECONDS_PER_TRY):
        assert await leaving is None
