"""graphql-transport-ws with clients that send nonsense or vanish."""

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect
from structlog.testing import capture_logs

from gql_server.api.operations.request_checks import INVALID_TEXT, NO_OPERATION_NAME
from gql_server.services.app_context import AppContext
from tests.support.serving import endpoint
from tests.support.sockets import connected, subscribe


def closed_with(socket: WebSocketTestSession) -> tuple[int, str]:
    """Return the code and the reason that the socket is closed with."""
    with pytest.raises(WebSocketDisconnect) as closing:
        socket.receive_json()
    return closing.value.code, closing.value.reason


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "5",
        '"x"',
        "{}",
        "{",
        "[" * 200_000,
        '{"type": 5}',
        '{"type": []}',
        '{"type": "' + "x" * 1000 + '"}',
        '{"type": "\\ud800"}',
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": "1", "payload": null}',
        '{"type": "subscribe", "id": "1", "payload": []}',
        '{"type": "subscribe", "id": [], "payload": {"query": "{ __typename }"}}',
        '{"type": "complete", "id": {}}',
        '{"type": "complete"}',
        '{"type": "connection_init", "payload": 5}',
        json.dumps(subscribe(query="{ __typename }", operationName="a" * 1001)),
        '{"type": "ping", "payload": "x"}',
        '{"type": "pong", "payload": []}',
        '{"type": "complete", "id": ""}',
        '{"type": "subscribe", "id": "", "payload": {"query": "{ __typename }"}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "extensions": 5}}',
        json.dumps(subscribe()),
        json.dumps(subscribe(query=5)),
        json.dumps(subscribe(query=None)),
        json.dumps(subscribe(query="{ __typename }", variables=[])),
        json.dumps(subscribe(query="{ __typename }", operationName=5)),
    ],
    ids=lambda text: text[:60],
)
async def test_a_message_that_is_none_closes_the_socket_with_a_reason(
    server: AppContext, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    with capture_logs() as logs, connected(server) as socket:
        socket.send_text(text)
        code, reason = closed_with(socket)
    assert code == 4400
    assert 0 < len(reason.encode()) <= 123
    assert not [line for line in logs if line["log_level"] == "error"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_client_of_persisted_queries_is_told_to_send_the_text(server: AppContext) -> None:
    with connected(server) as socket:
        socket.send_json(subscribe(extensions={"persistedQuery": {"version": 1, "sha256Hash": "ec" * 32}}))
        error = socket.receive_json()
        assert (error["type"], error["id"]) == ("error", "1")
        assert error["payload"][0]["message"] == "PersistedQueryNotSupported"
        socket.send_json(subscribe(query="{ __typename }"))
        assert socket.receive_json()["payload"]["data"] == {"__typename": "Query"}


async def test_bytes_close_the_socket(server: AppContext) -> None:
    with connected(server) as socket:
        socket.send_bytes(b"{}")
        assert closed_with(socket) == (4400, "WebSocket message type must be text")


async def test_several_operations_need_a_name_here_too(server: AppContext) -> None:
    with connected(server) as socket:
        query = "query a { __typename } query b { b: __typename }"
        socket.send_json(subscribe(query=query))
        refused = socket.receive_json()
        socket.send_json(subscribe(query=query, operationName="b"))
        named = socket.receive_json()
    assert (refused["type"], refused["payload"][0]["message"]) == ("error", NO_OPERATION_NAME)
    assert named["payload"]["data"] == {"b": "Query"}


async def test_text_that_is_no_unicode_is_refused_here_too(server: AppContext) -> None:
    query = "subscription ($id: ID!) { jobProgress(id: $id) { __typename } }"
    with connected(server) as socket:
        socket.send_json(subscribe(query=query, variables={"id": "\ud800"}))
        (error,) = socket.receive_json()["payload"]
    assert (error["message"], error["extensions"]["code"]) == (INVALID_TEXT, "INVALID_INPUT")


async def test_a_bad_variable_of_a_subscription_is_invalid_input(server: AppContext) -> None:
    query = "subscription ($id: ID!) { jobProgress(id: $id) { __typename } }"
    with connected(server) as socket:
        socket.send_json(subscribe(query=query, variables={"id": None}))
        (error,) = socket.receive_json()["payload"]
    assert error["extensions"]["code"] == "INVALID_INPUT"


@pytest.mark.parametrize(
    "payload",
    [
        {"query": "{ " + "é" * 1000},
        {"query": "query a { __typename }", "operationName": "\ud800"},
        {"query": "query a { __typename }", "operationName": "b"},
        {"query": "{ nothing }"},
        {"query": "fragment A on Query { __typename }"},
    ],
    ids=str,
)
async def test_a_mistake_in_an_operation_ends_that_operation_alone(
    server: AppContext, payload: dict[str, Any]
) -> None:
    with connected(server) as socket:
        socket.send_json(subscribe(**payload))
        refused = socket.receive_json()
        socket.send_json(
            subscribe(query="{ __typename }", variables=None, operationName=None, extensions=None)
        )
        answered = socket.receive_json()
    assert (refused["type"], refused["id"]) == ("error", "1")
    assert refused["payload"][0]["message"]
    assert answered["payload"]["data"] == {"__typename": "Query"}


async def test_a_long_message_before_the_connection_is_acknowledged_is_not_read(server: AppContext) -> None:
    client = TestClient(endpoint(server))
    with client.websocket_connect("ws://localhost/graphql", subprotocols=["graphql-transport-ws"]) as socket:
        socket.send_text('{"type": "ping", "payload": {"a": "' + "x" * 70_000 + '"}}')
        assert closed_with(socket)[0] == 4400
    with connected(server) as socket:
        socket.send_text('{"type": "ping", "payload": {"a": "' + "x" * 70_000 + '"}}')
        assert socket.receive_json() == {"type": "pong"}


async def test_a_payload_that_is_null_is_none(server: AppContext) -> None:
    client = TestClient(endpoint(server))
    with client.websocket_connect("ws://localhost/graphql", subprotocols=["graphql-transport-ws"]) as socket:
        socket.send_json({"type": "ping", "payload": None})
        assert socket.receive_json() == {"type": "pong"}
        socket.send_json({"type": "connection_init", "payload": None})
        assert socket.receive_json() == {"type": "connection_ack"}


async def test_an_empty_query_is_refused_without_being_a_fault_of_the_server(server: AppContext) -> None:
    with connected(server) as socket:
        socket.send_json(subscribe(query=""))
        (error,) = socket.receive_json()["payload"]
    assert "extensions" not in error


class GoneSocket:
    """The server's side of a socket whose client vanishes while the first result is sent."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        texts = [{"type": "websocket.receive", "text": json.dumps(message)} for message in messages]
        self._received = [{"type": "websocket.connect"}, *texts]
        self._gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._received:
            return self._received.pop(0)
        await self._gone.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(self, message: Any) -> None:
        if '"next"' in message.get("text", ""):
            self._gone.set()
            raise OSError  # As uvicorn does.


async def test_a_client_that_vanishes_leaves_no_error_in_the_log(
    server: AppContext, caplog: pytest.LogCaptureFixture
) -> None:
    scope = {
        "type": "websocket",
        "path": "/graphql",
        "headers": [(b"host", b"localhost")],
        "subprotocols": ["graphql-transport-ws"],
    }
    socket = GoneSocket({"type": "connection_init"}, subscribe(query="{ __typename }"))
    with capture_logs() as logs:
        await endpoint(server)(scope, socket.receive, socket.send)
    assert {line["log_level"] for line in logs} == {"debug"}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
