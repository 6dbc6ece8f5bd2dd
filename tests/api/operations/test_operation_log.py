"""One line and one count for each operation, whatever it came over."""

import asyncio
from typing import Any

import pytest
from graphql import parse
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from gql_server.api.operations.root_fields import root_fields
from gql_server.services import jobs
from gql_server.services.app_context import AppContext
from tests.api.asking import execute, follow
from tests.support.scraping import rendered, scrape
from tests.support.serving import client_of
from tests.support.sockets import connected, subscribe

MINE = "query Mine { server { version } me: jobs { totalCount } }"
DELETE = 'mutation Tidy { gone: deleteSae(id: "sae_0") { __typename } }'
FOLLOW = 'subscription Follow { jobProgress(id: "job_x") { sequence } }'


def operations(logs: list[Any]) -> list[dict[str, Any]]:
    return [dict(line) for line in logs if line["event"] == "operation"]


async def test_a_query_over_http_is_told_under_the_reference_of_its_request(server: AppContext) -> None:
    async with client_of(server) as client:
        with capture_logs([merge_contextvars]) as logs:
            answer = await client.post(
                "/graphql", json={"query": "query Mine { server { version } me: jobs { totalCount } }"}
            )
        scraped = await scrape(client)
    (line,) = operations(logs)
    assert line.pop("milliseconds") >= 0
    assert line == {
        "event": "operation",
        "log_level": "debug",
        "request": answer.headers["X-Request-Id"],
        "operation": "Mine",
        "type": "query",
        "fields": ["server", "jobs"],
        "outcome": "ok",
        "transport": "http",
    }
    total = "gql_server_graphql_operations_total"
    assert scraped.value(total, type="query", outcome="ok", transport="http") == 1
    assert scraped.value("gql_server_graphql_operation_duration_seconds_count", type="query") == 1
    assert scraped.value("gql_server_graphql_operations_in_progress", type="query") == 0


@pytest.mark.parametrize(
    ("query", "variables", "type", "outcome"),
    [
        ("{ server {", {}, "unknown", "INVALID_DOCUMENT"),
        ("{ server { nothing } }", {}, "query", "INVALID_DOCUMENT"),
        ("query($n: Int!) { jobs(first: $n) { totalCount } }", {"n": "x"}, "query", "INVALID_INPUT"),
        ('{ jobs(after: "nonsense") { totalCount } }', {}, "query", "INVALID_INPUT"),
        (DELETE, {}, "mutation", "NOT_FOUND"),
    ],
)
async def test_what_was_refused_is_told_with_its_code_even_if_it_was_not_asked_for(
    server: AppContext, query: str, variables: dict[str, Any], type: str, outcome: str
) -> None:
    with capture_logs() as logs:
        await execute(server, query, **variables)
    (line,) = operations(logs)
    assert (line["log_level"], line["type"], line["outcome"]) == ("info", type, outcome)
    labels = {"type": type, "outcome": outcome, "transport": "internal"}
    assert rendered(server.telemetry).value("gql_server_graphql_operations_total", **labels) == 1


async def test_a_failure_is_internal_and_the_names_that_a_client_gives_are_no_free_text(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise ZeroDivisionError("swordfish")

    monkeypatch.setattr(server.executor, "describe", fails)
    async with client_of(server) as client:
        with capture_logs() as logs:
            await client.post("/graphql", json={"query": "{ server { devices } }"})
            body = {"query": "{ server { devices } }", "operationName": "my secret\nprompt"}
            await client.post("/graphql", json=body)
    failed, unnamed = operations(logs)
    assert failed["outcome"] == "INTERNAL"
    assert unnamed["operation"] is None
    assert "secret" not in repr(operations(logs))


async def test_a_subscription_is_under_way_until_its_client_ends_it(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch(*_: object) -> Any:
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(jobs, "watch", watch)
    with capture_logs([merge_contextvars]) as logs:
        with connected(server) as socket:
            for id in ("1", "2"):
                socket.send_json({**subscribe(query=FOLLOW), "id": id})
            socket.send_json({**subscribe(query="{ __typename }"), "id": "3"})
            while socket.receive_json()["type"] != "complete":
                pass
            during = rendered(server.telemetry)
        after = rendered(server.telemetry)
    assert during.value("gql_server_graphql_subscriptions", field="jobProgress") == 2
    assert after.value("gql_server_graphql_subscriptions", field="jobProgress") == 0
    assert after.value("gql_server_graphql_operations_in_progress", type="subscription") == 0
    assert [line["outcome"] for line in operations(logs)] == ["ok", "canceled", "canceled"]
    assert [line["fields"] for line in operations(logs)] == [["__typename"], ["jobProgress"], ["jobProgress"]]


async def test_a_subscription_that_is_refused_in_its_data_is_told(server: AppContext) -> None:
    query = """subscription { generation(input: {languageModelId: "lm_0", prompts: []}) { __typename } }"""
    with capture_logs() as logs:
        (result,) = await follow(server, query)
    assert result.data == {"generation": {"__typename": "InvalidInput"}}
    (line,) = operations(logs)
    assert (line["type"], line["outcome"]) == ("subscription", "INVALID_INPUT")


async def test_operations_over_server_sent_events_are_told_apart(server: AppContext) -> None:
    async with client_of(server) as client:
        with capture_logs([merge_contextvars]) as logs:
            answer = await client.post(
                "/graphql", json={"query": FOLLOW}, headers={"Accept": "text/event-stream"}
            )
    assert answer.status_code == 200
    (line,) = operations(logs)
    assert (line["transport"], line["outcome"]) == ("sse", "NOT_FOUND")
    assert line["request"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("{ a b: c a }", ["a", "c"]),
        ("{ ...F ... { x } } fragment F on Query { y ...F }", ["y", "x"]),
        ("query A { a } query B { b }", []),
        ("{ " + " ".join(f"f{n}" for n in range(50)) + " }", [f"f{n}" for n in range(10)]),
        ("{ " + "f" * 100 + " }", ["f" * 40]),
    ],
)
def test_root_fields_are_found_through_fragments_and_are_few_and_short(query: str, fields: list[str]) -> None:
    assert root_fields(parse(query), None) == fields


def test_without_a_document_there_are_no_root_fields() -> None:
    assert root_fields(None, "x") == []
