"""References of requests, in answers and in the log, and what is counted of requests."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from gql_server.telemetry.request_middleware import RequestTelemetryMiddleware
from gql_server.telemetry.telemetry import Telemetry
from tests.support.scraping import rendered, scrape
from tests.support.serving import client_of, serving

REFERENCE = re.compile(r"[0-9a-f]{16}")


async def fail(request: Request) -> Response:
    raise ZeroDivisionError("swordfish")


async def fail_halfway(request: Request) -> Response:
    async def parts() -> Any:
        yield b"one"
        raise ZeroDivisionError("swordfish")

    return StreamingResponse(parts())


async def greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.receive()


def app_with(telemetry: Telemetry) -> Starlette:
    return Starlette(
        routes=[Route("/fail", fail), Route("/halfway", fail_halfway), WebSocketRoute("/", greet)],
        middleware=[Middleware(RequestTelemetryMiddleware, telemetry=telemetry)],
    )


def client_over(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_each_answer_has_a_reference_of_its_own_whoever_gives_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        answers = [
            await client.get("/healthz/live"),
            await client.get("/nowhere"),
            await client.get("/healthz/live", headers={"Host": "elsewhere.example"}),
            await client.post("/graphql", json={"query": "{ __typename }"}),
        ]
    references = [answer.headers["X-Request-Id"] for answer in answers]
    assert all(REFERENCE.fullmatch(reference) for reference in references)
    assert len(set(references)) == 4
    assert get_contextvars() == {}


async def test_requests_are_counted_by_route_and_status_and_by_nothing_of_the_clients_choice(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        for path in ("/top-texts/a/b", "/top-texts/c/d", "/nowhere", "/else", "/healthz/live?a=b"):
            await client.get(path)
        await client.request("BREW", "/nowhere")
        scraped = await scrape(client)
    assert {tuple(s.labels.values()): s.value for s in scraped.samples if "requests_total" in s.name} == {
        ("GET", "/top-texts/{sae_id}/{name}", "404"): 2,
        ("GET", "unmatched", "404"): 2,
        ("GET", "/healthz/live", "200"): 1,
        ("other", "unmatched", "404"): 1,
    }
    duration = "gql_server_http_request_duration_seconds_count"
    assert scraped.value(duration, method="GET", route="/top-texts/{sae_id}/{name}") == 2


async def test_refused_requests_are_logged_without_what_they_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        with capture_logs([merge_contextvars]) as logs:
            await client.get("/healthz/live")
            answer = await client.get("/secret-path?query=secret")
    well, refused = logs
    assert (well["log_level"], refused["log_level"]) == ("debug", "info")
    assert refused["request"] == answer.headers["X-Request-Id"]
    assert (refused["route"], refused["status"]) == ("unmatched", 404)
    assert "secret" not in repr(logs)


async def test_a_failure_is_answered_with_the_reference_under_which_the_log_has_more() -> None:
    telemetry = Telemetry()
    async with client_over(app_with(telemetry)) as client:
        with capture_logs([merge_contextvars]) as logs:
            answer = await client.get("/fail")
    assert answer.status_code == 500
    (error,) = answer.json()["errors"]
    reference = answer.headers["X-Request-Id"]
    assert error["extensions"] == {"code": "INTERNAL", "reference": reference}
    assert "swordfish" not in answer.text
    (failure,) = [line for line in logs if line["event"] == "request failed"]
    assert failure["request"] == reference and failure["exc_info"]
    count = rendered(telemetry).value(
        "gql_server_http_requests_total", method="GET", route="/fail", status="500"
    )
    assert count == 1


async def test_a_failure_in_the_middle_of_an_answer_ends_the_connection() -> None:
    async with client_over(app_with(Telemetry())) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/halfway")


def test_open_sockets_are_counted() -> None:
    telemetry = Telemetry()
    with TestClient(app_with(telemetry)).websocket_connect("/") as socket:
        socket.receive_text()
        during = rendered(telemetry).value("gql_server_websockets_open")
        socket.close()
    after = rendered(telemetry).value("gql_server_websockets_open")
    assert (during, after) == (1, 0)
