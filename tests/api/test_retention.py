"""What clients are told whose cursor lies in the part of a log that retention has removed."""

from typing import Any

import httpx
import pytest

from gql_server.jobs import event_log
from gql_server.services.app_context import AppContext
from gql_server.services.retention import remove_old_logs
from models import Job
from models.base import now
from models.enums import JobStatus
from tests.api.asking import ask
from tests.support.job_logs import LONG_AGO, add_job_finished_at
from tests.support.serving import endpoint
from tests.support.sockets import connected, subscribe

EVENTS = "query($id: ID!, $after: Int!) { job(id: $id) { events(after: $after, first: 2) { sequence } } }"
PROGRESS = """subscription($id: ID!, $after: Int!) { jobProgress(id: $id, after: $after) {
  sequence ... on JobStatusChanged { status attempt } job { eventsRemovedThrough } } }"""
MESSAGE = (
    "The events of this job up to number 57 have been removed, as the logs of jobs that ended long ago are;"
    " ask for those after 57."
)


@pytest.fixture
async def job_id(server: AppContext) -> str:
    """Give a job whose first attempt's 57 events are removed, and that has succeeded in the second."""
    id = await add_job_finished_at(server, now() - LONG_AGO, events=57)
    settings = server.settings.model_copy(update={"retention_days": 1.0})
    assert await remove_old_logs(server.database, settings) == 1
    async with server.database.write() as session:
        job = await session.get_one(Job, id)
        job.attempt, job.finished_at = 2, now()
        for status in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.SUCCEEDED):
            await event_log.append_status(session, job, status)
    return id


async def over_http(server: AppContext, query: str, **variables: Any) -> dict[str, Any]:
    transport = httpx.ASGITransport(endpoint(server))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post("/graphql", json={"query": query, "variables": variables})
    result: dict[str, Any] = answer.json()
    return result


async def test_a_cursor_into_a_removed_log_is_a_conflict_over_http(server: AppContext, job_id: str) -> None:
    for after in (1, 56):
        (error,) = (await over_http(server, EVENTS, id=job_id, after=after))["errors"]
        assert (error["message"], error["extensions"]) == (MESSAGE, {"code": "CONFLICT"})
        assert error["path"] == ["job", "events"]


@pytest.mark.parametrize(("after", "sequences"), [(0, [58, 59]), (57, [58, 59]), (59, [60]), (60, [])])
async def test_what_is_there_of_a_log_is_given(
    server: AppContext, job_id: str, after: int, sequences: list[int]
) -> None:
    data = (await over_http(server, EVENTS, id=job_id, after=after))["data"]
    assert [event["sequence"] for event in data["job"]["events"]] == sequences


async def test_a_list_of_jobs_has_all_that_is_there_and_refuses_only_where_events_were_removed(
    server: AppContext, job_id: str
) -> None:
    other = await add_job_finished_at(server, None, events=2)
    query = "{ jobs { nodes { id eventsRemovedThrough events { sequence } } } }"
    nodes = (await ask(server, query))["jobs"]["nodes"]
    assert {node["id"]: (node["eventsRemovedThrough"], len(node["events"])) for node in nodes} == {
        job_id: (57, 3),
        other: (0, 2),
    }
    query = """query($here: ID!, $gone: ID!) { here: job(id: $here) { events(after: 1) { sequence } }
      gone: job(id: $gone) { events(after: 1) { sequence } } }"""
    result = await over_http(server, query, here=other, gone=job_id)
    assert [error["path"] for error in result["errors"]] == [["gone", "events"]]
    assert result["data"] == {"here": {"events": [{"sequence": 2}]}, "gone": None}


async def test_a_cursor_into_a_removed_log_is_a_conflict_over_websocket(
    server: AppContext, job_id: str
) -> None:
    with connected(server) as socket:
        for after in (0, 56):
            socket.send_json(subscribe(query=PROGRESS, variables={"id": job_id, "after": after}))
            message = socket.receive_json()
            (error,) = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
            assert (error["message"], error["extensions"]) == (MESSAGE, {"code": "CONFLICT"})
            if message["type"] == "next":
                assert socket.receive_json()["type"] == "complete"


async def test_who_asks_for_what_is_left_gets_it_with_its_attempt(server: AppContext, job_id: str) -> None:
    with connected(server) as socket:
        socket.send_json(subscribe(query=PROGRESS, variables={"id": job_id, "after": 57}))
        messages = [socket.receive_json() for _ in range(4)]
    events = [message["payload"]["data"]["jobProgress"] for message in messages[:-1]]
    job = {"eventsRemovedThrough": 57}
    assert events == [
        {"sequence": 58, "status": "QUEUED", "attempt": 2, "job": job},
        {"sequence": 59, "status": "RUNNING", "attempt": 2, "job": job},
        {"sequence": 60, "status": "SUCCEEDED", "attempt": 2, "job": job},
    ]
    assert messages[-1]["type"] == "complete"
