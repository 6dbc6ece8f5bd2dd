"""Retention removes whole logs of jobs that ended long ago, and cursors into them say so."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from gql_server.errors import Conflict
from gql_server.jobs import event_log
from gql_server.services import jobs, retention
from gql_server.services.app_context import AppContext
from gql_server.services.retention import remove_old_logs
from gql_server.settings import Settings
from models import Job, JobEvent
from models.base import now
from models.enums import JobStatus
from tests.support.job_logs import LONG_AGO, RETENTION_DAYS, add_job_finished_at
from tests.support.serving import serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AppContext]:
    async with serving(tmp_path, retention_days=RETENTION_DAYS) as parts:
        yield parts


async def events_left(server: AppContext, job_id: str) -> tuple[int, int]:
    """Return how many events of a job there are, and the number of the newest that was removed."""
    async with server.database.read() as session:
        count = select(func.count()).where(JobEvent.job_id == job_id)
        job = await session.get_one(Job, job_id)
        return await session.scalar(count) or 0, job.removed_sequence


async def remove(server: AppContext) -> int:
    return await remove_old_logs(server.database, server.settings)


async def test_only_logs_of_jobs_that_ended_long_ago_go_and_their_jobs_stay(server: AppContext) -> None:
    old = await add_job_finished_at(server, now() - LONG_AGO)
    recent = await add_job_finished_at(server, now() - timedelta(days=RETENTION_DAYS - 1))
    running = await add_job_finished_at(server, None)
    assert await remove(server) == 1
    assert await events_left(server, old) == (0, 3)
    assert await events_left(server, recent) == (3, 0)
    assert await events_left(server, running) == (3, 0)
    assert await remove(server) == 0


@pytest.mark.parametrize("days", [None, 1e9, float("inf")])
async def test_logs_are_kept_where_nothing_can_be_old_enough(tmp_path: Path, days: float | None) -> None:
    async with serving(tmp_path, retention_days=days) as server:
        old = await add_job_finished_at(server, now() - LONG_AGO)
        assert await remove(server) == 0
        assert await events_left(server, old) == (3, 0)


async def test_the_writer_is_let_go_of_between_portions(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "JOBS_AT_ONCE", 3)
    monkeypatch.setattr(retention, "EVENTS_AT_ONCE", 10)
    old = [await add_job_finished_at(server, now() - LONG_AGO, events) for events in (1, 1, 1, 1, 12, 9, 9)]
    removed_at_once: list[int] = []
    write = server.database.write

    def watched() -> Any:
        removed_at_once.append(0)
        return write()

    monkeypatch.setattr(server.database, "write", watched)
    assert await remove(server) == len(old)
    # Three jobs; then one, as the next log is long; most of the long one; its rest; one; one; and nothing.
    assert len(removed_at_once) == 7
    assert [await events_left(server, id) for id in old] == [(0, n) for n in (1, 1, 1, 1, 12, 9, 9)]


async def test_a_log_that_goes_on_after_its_beginning_was_removed_is_there_from_then_on(
    server: AppContext,
) -> None:
    job_id = await add_job_finished_at(server, now() - LONG_AGO, events=57)
    await remove(server)
    async with server.database.write() as session:
        job = await session.get_one(Job, job_id)
        for status in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.SUCCEEDED):
            await event_log.append_status(session, job, status)
    assert [event.sequence async for event in jobs.watch(server, job_id, 57)] == [58, 59, 60]
    for after in (0, 56):
        with pytest.raises(Conflict, match=r"up to number 57 have been removed.* ask for those after 57\."):
            await anext(jobs.watch(server, job_id, after))
    await remove(server)
    assert [event.sequence async for event in jobs.watch(server, job_id, 60)] == []


async def test_a_watcher_whose_next_events_are_removed_is_told(server: AppContext) -> None:
    job_id = await add_job_finished_at(server, now() - LONG_AGO, events=400)
    slow = jobs.watch(server, job_id, 0)
    assert (await anext(slow)).sequence == 1
    await remove(server)
    with pytest.raises(Conflict, match="up to number 400"):
        async for _ in slow:
            pass


async def test_old_logs_are_looked_for_again_after_a_failure_until_the_server_ends(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SECONDS_BETWEEN", 0)
    old = await add_job_finished_at(server, now() - LONG_AGO)
    write, failures = server.database.write, 2

    def failing() -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise OperationalError("BEGIN IMMEDIATE", {}, OSError("disk I/O error"))
        return write()

    monkeypatch.setattr(server.database, "write", failing)
    removing = asyncio.create_task(retention.keep_removing(server.database, server.settings))
    async with asyncio.timeout(10):
        while await events_left(server, old) != (0, 3):
            pass
    removing.cancel()
    await asyncio.gather(removing, return_exceptions=True)


async def test_nothing_is_looked_for_where_logs_are_kept_for_ever(server: AppContext) -> None:
    settings = Settings(artifact_dir=server.settings.artifact_dir)
    async with asyncio.timeout(10):
        await retention.keep_removing(server.database, settings)
