"""graphql-transport-ws over a TestClient."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient, WebSocketTestSession

from gql_server.services.app_context import AppContext
from tests.support.serving import endpoint


@contextmanager
def connected(server: AppContext) -> Iterator[WebSocketTestSession]:
    """Give a socket whose connection has been acknowledged."""
    client = TestClient(endpoint(server))
    with client.websocket_connect("ws://localhost/graphql", subprotocols=["graphql-transport-ws"]) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}
        yield socket


def subscribe(**payload: Any) -> dict[str, Any]:
    return {"type": "subscribe", "id": "1", "payload": payload}
