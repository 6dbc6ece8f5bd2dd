"""With many jobs, lists and retention go by an index in their order instead of sorting all jobs."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.jobs import queue
from gql_server.services import jobs, pages, retention
from gql_server.services.app_context import AppContext
from models import Job
from models.base import now
from models.enums import JobKind, JobStatus
from tests.support.serving import idle_job, serving

FEW, MANY = [JobStatus.RUNNING, JobStatus.QUEUED], [JobStatus.FAILED, JobStatus.SUCCEEDED]
KINDS = [JobKind.TRAIN_SAE, JobKind.INDEX_NEURONS]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AppContext]:
    async with serving(tmp_path) as parts:
        yield parts


_NOTED: ContextVar[bool] = ContextVar("noted", default=False)


@contextmanager
def noted(server: AppContext) -> Iterator[list[tuple[str, Any]]]:
    """Give the list that the block's statements go into, but none of the supervisor's."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if _NOTED.get():
            statements.append((statement, parameters))

    engine, was = server.database._readers.sync_engine, _NOTED.set(True)
    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)
    _NOTED.reset(was)


async def plan_of(server: AppContext, read: Callable[[AsyncSession], Awaitable[Any]]) -> str:
    """Return how SQLite goes about the statement that is executed."""
    with noted(server) as statements:
        async with server.database.read() as session:
            await read(session)
    ((statement, parameters),) = [one for one in statements if one[0].startswith("SELECT")]
    with closing(sqlite3.connect(server.settings.database_path)) as connection:
        steps = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    return "; ".join(step[3] for step in steps)


async def add_jobs(server: AppContext) -> list[Job]:
    """Insert jobs of all kinds in all states, some made at the same time; return them newest first."""
    added = [
        idle_job(kind=kind, status=status, created_at=now() - timedelta(seconds=place // 3))
        for place, (kind, status) in enumerate((kind, status) for kind in JobKind for status in JobStatus)
    ]
    async with server.database.write() as session:
        session.add_all(added)
    return sorted(added, key=lambda job: (job.created_at, job.id), reverse=True)


@pytest.mark.parametrize("statuses", [None, FEW, MANY, FEW + MANY, []])
@pytest.mark.parametrize("kinds", [None, KINDS])
async def test_a_filtered_list_is_paged_through_in_order(
    server: AppContext, statuses: list[JobStatus] | None, kinds: list[JobKind] | None
) -> None:
    added = await add_jobs(server)
    expected = [
        job.id
        for job in added
        if (statuses is None or job.status in statuses) and (kinds is None or job.kind in kinds)
    ]
    conditions, found, after = jobs.conditions(statuses, kinds), [], None
    while True:
        async with server.database.read() as session:
            page = await pages.newest_first(session, Job, conditions, 4, after)
        found += [job.id for job in page.items]
        if not page.has_next:
            break
        after = page.cursors[-1]
    assert found == expected


@pytest.mark.parametrize("kinds", [None, KINDS])
@pytest.mark.parametrize("statuses", [None, MANY, FEW + MANY, [JobStatus.FAILED]])
async def test_a_page_of_jobs_is_read_in_the_order_of_an_index(
    server: AppContext, statuses: list[JobStatus] | None, kinds: list[JobKind] | None
) -> None:
    await add_jobs(server)
    async with server.database.read() as session:
        (cursor,) = (await pages.newest_first(session, Job, [], 1, None)).cursors
    conditions = jobs.conditions(statuses, kinds)
    index = "USING INDEX ix_jobs_created_at_id_status_kind"
    first = await plan_of(server, lambda session: pages.newest_first(session, Job, conditions, 20, None))
    assert first == f"SCAN jobs {index}"
    later = await plan_of(server, lambda session: pages.newest_first(session, Job, conditions, 20, cursor))
    assert later == f"SEARCH jobs {index} ((created_at,id)<(?,?))"


async def test_the_few_unfinished_jobs_are_looked_up(server: AppContext) -> None:
    conditions = jobs.conditions(FEW, KINDS)
    plan = await plan_of(server, lambda session: pages.newest_first(session, Job, conditions, 20, None))
    assert plan.startswith("SEARCH jobs USING INDEX ix_jobs_status_lane_queued_at_id (status=?)")


async def test_retention_goes_by_an_index_that_has_no_jobs_whose_logs_are_gone(server: AppContext) -> None:
    plan = await plan_of(server, lambda session: retention._some_with_old_logs(session, now()))
    assert plan == "SEARCH jobs USING INDEX ix_jobs_finished_at_id_with_log (finished_at<?)"


async def test_counts_for_the_metrics_are_read_from_an_index_alone(server: AppContext) -> None:
    assert await plan_of(server, queue.counts) == "SCAN jobs USING COVERING INDEX ix_jobs_kind_status_lane"


async def test_how_long_jobs_usually_take_is_learned_without_sorting_them(server: AppContext) -> None:
    plan = await plan_of(server, lambda session: queue._usual_seconds(session, "jobs"))
    assert plan == "SEARCH jobs USING INDEX ix_jobs_status_lane_queued_at_id (status=? AND lane=?)"
