"""The queue: its order, its limit, and what a client is told that finds it full."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gql_server.database.database import Database
from gql_server.database.migrate import migrate
from gql_server.errors import QueueFull
from gql_server.jobs import queue
from gql_server.services import launching
from gql_server.services.saes import TrainHandler
from models import Job
from models.base import now
from models.enums import JobStatus


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Give a database whose jobs nobody takes."""
    path = tmp_path / "database.sqlite3"
    migrate(path)
    database = Database(path)
    yield database
    await database.close()


def job(lane: Any = "jobs", **columns: Any) -> Job:
    row = launching.new_job(TrainHandler, artifact_id="sae_x", request={})
    for name, value in ({"lane": lane, "status": JobStatus.QUEUED} | columns).items():
        setattr(row, name, value)
    return row


async def add(database: Database, *rows: Job) -> None:
    async with database.write() as session:
        session.add_all(rows)


async def advice(database: Database, lane: str = "jobs") -> int:
    async with database.read() as session:
        with pytest.raises(QueueFull) as refusal:
            await queue.check_room(session, lane, 1)
    return refusal.value.retry_after_seconds


def ended(seconds: float, number: int) -> Job:
    start = now() - timedelta(hours=number)
    return job(status=JobStatus.SUCCEEDED, started_at=start, finished_at=start + timedelta(seconds=seconds))


async def test_each_lane_has_room_of_its_own(database: Database) -> None:
    await add(database, job())
    async with database.read() as session:
        await queue.check_room(session, "interactive", 1)
        await queue.check_room(session, "jobs", 2)
    assert await advice(database) > 0


async def test_the_advice_is_how_long_the_running_job_says_it_takes(database: Database) -> None:
    await add(database, job(), job(status=JobStatus.RUNNING, started_at=now(), eta_seconds=41.5))
    assert await advice(database) == 42


async def test_a_job_that_does_not_say_is_taken_to_last_as_long_as_others_did(
    database: Database,
) -> None:
    await add(database, job(), *(ended(seconds, n) for n, seconds in enumerate((100, 5000, 120))))
    await add(database, ended(9000, 1), ended(1, 2), job("interactive", status=JobStatus.SUCCEEDED))
    assert await advice(database) == 120
    await add(database, job(status=JobStatus.RUNNING, started_at=now() - timedelta(seconds=20)))
    assert await advice(database) in (99, 100)
    await add(database, *(ended(1, n) for n in range(9)))
    assert await advice(database) == 1


async def test_a_job_is_taken_to_last_as_long_as_the_newest_twenty_of_its_lane(database: Database) -> None:
    def many(lane: str, count: int, seconds: float, hours_ago: int) -> list[Job]:
        start = now() - timedelta(hours=hours_ago)
        end = start + timedelta(seconds=seconds)
        times = {"queued_at": start, "started_at": start, "finished_at": end}
        return [job(lane, status=JobStatus.SUCCEEDED, **times) for _ in range(count)]

    await add(database, job(), *many("jobs", 25, 500, hours_ago=9), *many("jobs", 20, 70, hours_ago=2))
    await add(database, *many("interactive", 30, 7, hours_ago=1))
    await add(database, job("interactive", status=JobStatus.RUNNING, started_at=now(), eta_seconds=4))
    assert await advice(database) == 70


async def test_a_job_that_never_started_says_nothing_of_how_long_jobs_last(database: Database) -> None:
    without = [job(status=JobStatus.SUCCEEDED, finished_at=now()), job(status=JobStatus.SUCCEEDED)]
    await add(database, job(), *without, ended(50, 1))
    assert await advice(database) == 50


async def test_the_order_holds_when_the_clock_is_set_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [datetime.fromisoformat(f"2026-01-01T{hour}:00:00+00:00") for hour in ("12", "13", "03", "04")]
    added = []
    for time in times:
        monkeypatch.setattr(queue, "now", lambda time=time: time)
        async with database.write() as session:
            added.append(job())
            await queue.add(session, added[-1])
    order = []
    for _ in times:
        async with database.write() as session:
            first = await queue.next_of(session, "jobs")
            assert first is not None
            order.append(first.id)
            first.status = JobStatus.CANCELED
    assert order == [one.id for one in added]


async def test_jobs_of_one_moment_come_in_the_order_in_which_they_were_added(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = datetime.fromisoformat("2026-01-01T12:00:00+00:00")
    monkeypatch.setattr(queue, "now", lambda: moment)
    # By their IDs alone, the later ones would be first.
    added = [job(id=f"job_{letter}") for letter in "cba"]
    for one in added:
        async with database.write() as session:
            await queue.add(session, one)
    async with database.read() as session:
        waiting = await session.scalars(select(Job).order_by(Job.queued_at))
        assert [one.id for one in waiting] == ["job_c", "job_b", "job_a"]
        first = await queue.next_of(session, "jobs")
    assert first is not None and first.id == "job_c"
    assert len({one.queued_at for one in added}) == 3


def touching(kind: str, result: str, run: str | None = None, **columns: Any) -> Job:
    """Return a job that works on one artifact and reads a run."""
    request = {} if run is None else {"activation_run_id": run}
    return job(id=f"job_{kind}", result_id=result, request=request, **columns)


async def test_jobs_that_touch_other_artifacts_begin_before_one_that_has_to_wait(database: Database) -> None:
    rows = [
        touching("index", "sae_a", "run_r", status=JobStatus.CANCELING),
        touching("evaluation", "sae_a"),
        touching("training", "sae_b", "run_r"),
        touching("capture", "run_r", "run_r"),
        touching("training_later", "sae_c", "run_r"),
        touching("another_capture", "run_s", "run_s"),
        touching("load", "lm_x", lane="interactive"),
    ]
    for row in rows:
        status = row.status
        async with database.write() as session:
            await queue.add(session, row)
            row.status = status

    async def begun() -> list[str]:
        """Begin all jobs that may, and return their IDs in that order."""
        found = list[str]()
        async with database.write() as session:
            while (first := await queue.next_of(session, "jobs")) is not None:
                first.status = JobStatus.RUNNING
                await session.flush()
                found.append(first.id)
        return found

    async def end(*kinds: str) -> None:
        async with database.write() as session:
            for kind in kinds:
                (await session.get_one(Job, f"job_{kind}")).status = JobStatus.SUCCEEDED

    # The capture writes the run that the training and the index read; who reads it later waits for it.
    assert await begun() == ["job_training", "job_another_capture"]
    await end("index")
    assert await begun() == ["job_evaluation"]
    await end("training")
    assert await begun() == ["job_capture"]
    await end("evaluation")
    assert await begun() == []
    await end("capture")
    assert await begun() == ["job_training_later"]


async def test_the_advice_is_of_the_running_job_that_ends_first(database: Database) -> None:
    running = {"status": JobStatus.RUNNING, "started_at": now()}
    await add(database, job(), *(job(eta_seconds=eta, **running) for eta in (900.0, 41.5, 77.0)))
    assert await advice(database) == 42


async def test_a_job_that_is_queued_in_its_old_place_waits_for_those_that_run_by_now(
    database: Database,
) -> None:
    async with database.write() as session:
        await queue.add(session, touching("taken_up_again", "sae_a"))
        await queue.add(session, running := touching("evaluation", "sae_a"))
        running.status = JobStatus.RUNNING
    async with database.read() as session:
        assert await queue.next_of(session, "jobs") is None
