"""GraphQL over HTTP and over server-sent events: media types, statuses, methods."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gql_server.api.transport.negotiation import EVENT_STREAM, GRAPHQL_JSON, JSON, media_type_for
from gql_server.jobs import event_log
from gql_server.limits.fair_turns import SHORT_CHARACTERS, Turn
from gql_server.services.app_context import AppContext
from models import Job
from models.enums import JobStatus
from tests.support.serving import endpoint, idle_job

TYPENAME = {"query": "{ __typename }"}


@pytest.fixture
async def client(server: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the endpoint behind its guard, which names no media type by itself."""
    transport = httpx.ASGITransport(endpoint(server))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        del client.headers["accept"]
        yield client


# ----------------------------------------------------------------------------- media types


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("APPLICATION/JSON; charset=utf-8", JSON),
        ("application/graphql-response+json", GRAPHQL_JSON),
        ("application/graphql-response+json, application/json", GRAPHQL_JSON),
        ("application/json, application/graphql-response+json", GRAPHQL_JSON),
        ("application/graphql-response+json;q=0.5, application/json", JSON),
        ("application/graphql-response+json;q=0, */*", JSON),
        ("application/json;q=0, */*", GRAPHQL_JSON),
        ("application/json;q=0, application/graphql-response+json;q=0, */*", None),
        ("text/event-stream", EVENT_STREAM),
        ("text/event-stream, application/json;q=0.1", EVENT_STREAM),
        # Some clients name everything that they understand in every request.
        ("application/graphql-response+json, application/json, text/event-stream", GRAPHQL_JSON),
        ("text/html", None),
        ("image/png, text/*", None),
        ("application/json;q=x", None),
        (",;,", None),
    ],
)  # fmt: skip
def test_the_media_type_is_the_best_of_those_that_the_client_takes(
    accept: str | None, expected: str | None
) -> None:
    assert media_type_for(accept) == expected


@pytest.mark.parametrize("media_type", [JSON, GRAPHQL_JSON])
async def test_an_answer_has_the_media_type_that_was_asked_for(
    client: httpx.AsyncClient, media_type: str
) -> None:
    response = await client.post("/graphql", json=TYPENAME, headers={"Accept": media_type})
    assert response.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert response.json()["data"] == {"__typename": "Query"}


async def test_who_takes_nothing_that_there_is_is_told_what_there_is(client: httpx.AsyncClient) -> None:
    response = await client.post("/graphql", json=TYPENAME, headers={"Accept": "application/xml"})
    assert response.status_code == 406
    assert GRAPHQL_JSON in response.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON; Charset=UTF-8", 200),
        ("application/json; charset=utf-16", 415),
        ("application/jsonx", 415),
        ("application/graphql", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
async def test_a_body_of_another_type_is_not_guessed_at(
    client: httpx.AsyncClient, content_type: str, status: int
) -> None:
    body = json.dumps(TYPENAME)
    response = await client.post("/graphql", content=body, headers={"Content-Type": content_type})
    assert response.status_code == status


# --------------------------------------------------------------------------------- statuses

REQUEST_ERRORS: list[dict[str, Any]] = [
    {"query": "{"},
    {"query": "{ nothing }"},
    {"query": "query ($n: Int!) { jobs(first: $n) { totalCount } }", "variables": {"n": "x"}},
    {"query": "{" + "a " * 3000 + "}"},
    {"query": '{ node(id: "x") { ...A } } fragment A on Node { ...A }'},
]


@pytest.mark.parametrize("request_", REQUEST_ERRORS, ids=lambda request: str(request)[:40])
async def test_a_request_that_is_not_executed_has_no_data_and_by_the_new_media_type_status_400(
    client: httpx.AsyncClient, request_: dict[str, Any]
) -> None:
    for media_type, status in ((JSON, 200), (GRAPHQL_JSON, 400)):
        response = await client.post("/graphql", json=request_, headers={"Accept": media_type})
        assert response.status_code == status
        answer = response.json()
        assert answer["errors"][0]["message"]
        assert "data" not in answer


async def test_an_error_of_a_field_leaves_status_200_and_the_data(client: httpx.AsyncClient) -> None:
    for query in (
        "{ jobs(first: 0) { totalCount } }",
        "{ server { version } jobs(first: 0) { totalCount } }",
    ):
        response = await client.post("/graphql", json={"query": query}, headers={"Accept": GRAPHQL_JSON})
        answer = response.json()
        assert response.status_code == 200
        assert answer["data"] is None
        assert answer["errors"][0]["path"] == ["jobs"]


async def test_a_body_that_is_none_is_an_error_in_graphqls_shape(client: httpx.AsyncClient) -> None:
    for accept, content_type in ((JSON, JSON), (GRAPHQL_JSON, GRAPHQL_JSON), (EVENT_STREAM, JSON)):
        headers = {"Accept": accept, "Content-Type": JSON}
        response = await client.post("/graphql", content=b"{", headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (400, content_type)
        assert response.json()["errors"][0]["extensions"]["code"] == "INVALID_INPUT"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_other_methods_are_not_allowed(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/graphql", json=TYPENAME)
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")


async def test_a_query_may_come_by_get(client: httpx.AsyncClient) -> None:
    query = "query A($n: Int!) { jobs(first: $n) { totalCount } } query B { __typename }"
    parameters = {"query": query, "operationName": "A", "variables": '{"n": 5}'}
    assert (await client.get("/graphql", params=parameters)).json()["data"] == {"jobs": {"totalCount": 0}}
    page = await client.get(
        "/graphql", params=parameters, headers={"Accept": "text/html, application/json;q=0.9"}
    )
    assert page.json()["data"] == {"jobs": {"totalCount": 0}}


async def test_a_get_without_a_query_is_told_what_is_missing(client: httpx.AsyncClient) -> None:
    response = await client.get("/graphql", headers={"Accept": "*/*"})
    assert response.status_code == 400
    assert "query" in response.json()["errors"][0]["message"]


# ---------------------------------------------------------------------- server-sent events


async def events(
    client: httpx.AsyncClient, method: str, query: str, **variables: Any
) -> list[tuple[str, Any]]:
    """Return the events of an answer: the name and the data of each."""
    request: dict[str, Any] = {"query": query, "variables": variables}
    if method == "GET":
        request = {"params": request | {"variables": json.dumps(variables)}}
    else:
        request = {"json": request}
    response = await client.request(method, "/graphql", headers={"Accept": EVENT_STREAM}, **request)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(EVENT_STREAM)
    assert "no-cache" in response.headers["cache-control"]
    return [event(block) for block in response.text.split("\n\n") if block and not block.startswith(":")]


def event(block: str) -> tuple[str, Any]:
    lines = [line.partition(": ") for line in block.split("\n")]
    fields = {name.rstrip(":"): value for name, _, value in lines}
    return fields["event"], json.loads(fields["data"]) if fields["data"] else None


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_subscription_is_a_stream_of_events_that_completes(
    server: AppContext, client: httpx.AsyncClient, method: str
) -> None:
    job = idle_job()
    async with server.database.write() as session:
        session.add(job)
        await session.flush()
        stored = await session.get_one(Job, job.id)
        for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
            await event_log.append_status(session, stored, status)
    query = "subscription ($id: ID!, $after: Int! = 0) { jobProgress(id: $id, after: $after) { sequence } }"
    found = await events(client, method, query, id=job.id)
    assert [name for name, _ in found] == ["next", "next", "complete"]
    assert [data["data"]["jobProgress"]["sequence"] for _, data in found[:-1]] == [1, 2]
    assert [name for name, _ in await events(client, method, query, id=job.id, after=1)] == [
        "next",
        "complete",
    ]


async def test_an_event_source_that_connects_again_goes_on_and_stops_at_the_end(
    server: AppContext, client: httpx.AsyncClient
) -> None:
    job = idle_job()
    async with server.database.write() as session:
        session.add(job)
        await session.flush()
        stored = await session.get_one(Job, job.id)
        for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
            await event_log.append_status(session, stored, status)
    query = f'subscription {{ jobProgress(id: "{job.id}") {{ at }} }}'

    async def ids(last: str | None) -> list[str]:
        headers = {"Accept": EVENT_STREAM} | ({"Last-Event-ID": last} if last else {})
        response = await client.get("/graphql", params={"query": query}, headers=headers)
        assert response.status_code == (204 if last == "complete" else 200)
        return [line[4:] for line in response.text.split("\n") if line.startswith("id: ")]

    assert await ids(None) == ["1", "2", "complete"]
    assert await ids("1") == ["2", "complete"]
    assert await ids("2") == ["complete"]
    assert await ids("complete") == []
    assert await ids("no-number") == ["1", "2", "complete"]
    posted = await client.post(
        "/graphql", json={"query": "{ __typename }"}, headers={"Last-Event-ID": "complete"}
    )
    assert posted.json()["data"] == {"__typename": "Query"}


async def test_queries_and_mutations_are_streams_of_one_event(client: httpx.AsyncClient) -> None:
    (name, answer), (last, nothing) = await events(client, "POST", "{ __typename }")
    assert (name, answer["data"], last, nothing) == ("next", {"__typename": "Query"}, "complete", None)
    mutation = 'mutation { deleteSae(id: "sae_x") { __typename } }'
    assert (await events(client, "POST", mutation))[0][1]["data"] == {"deleteSae": {"__typename": "NotFound"}}
    refused = (await events(client, "GET", mutation))[0][1]
    assert "not allowed" in refused["errors"][0]["message"]


@pytest.mark.parametrize("request_", REQUEST_ERRORS, ids=lambda request: str(request)[:40])
async def test_a_request_that_is_not_executed_is_one_event_too(
    client: httpx.AsyncClient, request_: dict[str, Any]
) -> None:
    (name, answer), _ = await events(client, "POST", request_["query"], **request_.get("variables", {}))
    assert name == "next"
    assert answer["errors"][0]["message"]
    assert "data" not in answer


async def test_a_long_text_with_a_mistake_is_followed_by_a_break_too(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks: list[float] = []
    monkeypatch.setattr(Turn, "held_up", lambda self, seconds: breaks.append(seconds))
    answer = await client.post("/graphql", json={"query": "{ __typename " + "#" * SHORT_CHARACTERS})
    assert "Syntax Error" in answer.json()["errors"][0]["message"]
    assert breaks and min(breaks) > 0
