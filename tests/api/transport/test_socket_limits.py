"""Sockets that do too much, nothing, or do not answer; over real ones, in this process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gql_server.api.operations.execution import SharedData
from gql_server.api.transport.access import Access
from gql_server.api.transport.socket import SocketAdapter
from gql_server.api.transport.view import GraphQLView
from gql_server.limits import message_budget, subscription_budget
from gql_server.limits.rate_limits import Rates
from gql_server.services.app_context import AppContext
from tests.support.listening import listening
from tests.support.serving import endpoint
from tests.support.waiting import until

PROTOCOL: Any = ["graphql-transport-ws"]
FOLLOW = "subscription { jobs { id } }"


@asynccontextmanager
async def socket_url(server: AppContext, **settings: Any) -> AsyncIterator[str]:
    """Give the address for sockets of a server with settings of its own."""
    async with listening(endpoint(server, **settings)) as (host, port):
        yield f"ws://{host}:{port}/graphql"


@asynccontextmanager
async def connected(server: AppContext, **settings: Any) -> AsyncIterator[ClientConnection]:
    """Give a socket whose connection has been acknowledged."""
    async with socket_url(server, **settings) as url, connect(url, subprotocols=PROTOCOL) as connection:
        await begin(connection)
        yield connection


async def begin(connection: ClientConnection) -> None:
    await send(connection, {"type": "connection_init"})
    assert await received(connection) == {"type": "connection_ack"}


async def send(connection: ClientConnection, message: Any) -> None:
    await connection.send(json.dumps(message))


async def subscribe(connection: ClientConnection, id: str, query: str = FOLLOW) -> None:
    await send(connection, {"type": "subscribe", "id": id, "payload": {"query": query}})


async def received(connection: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(connection.recv(), 10))


async def closed_with(connection: ClientConnection) -> int:
    with suppress(ConnectionClosed):
        async for _ in connection:
            pass
    await connection.wait_closed()
    assert connection.close_code is not None
    assert connection.close_reason
    return connection.close_code


async def test_more_operations_than_may_be_are_refused_one_by_one(server: AppContext) -> None:
    async with connected(server, max_operations_per_socket=2) as connection:
        for id in "abc":
            await subscribe(connection, id)
        refused = await received(connection)
        assert (refused["type"], refused["id"]) == ("error", "c")
        extensions = refused["payload"][0]["extensions"]
        assert extensions == {"code": "TOO_COMPLEX", "limit": "operations", "allowed": 2, "actual": 3}
        await send(connection, {"type": "complete", "id": "a"})
        await subscribe(connection, "c", "{ __typename }")
        assert (await received(connection))["payload"]["data"] == {"__typename": "Query"}


async def test_a_socket_that_nobody_uses_is_closed_and_one_with_a_subscription_is_not(
    server: AppContext,
) -> None:
    async with connected(server, ping_seconds=0.05, socket_idle_seconds=0.2) as connection:
        await subscribe(connection, "a")
        for _ in range(10):
            assert await received(connection) == {"type": "ping"}
            await send(connection, {"type": "pong"})
        await send(connection, {"type": "complete", "id": "a"})
        async for message in connection:
            assert json.loads(message) == {"type": "ping"}
            with suppress(ConnectionClosed):
                await send(connection, {"type": "pong"})
        assert connection.close_code == 1000


async def test_a_socket_that_answers_no_ping_is_closed(server: AppContext) -> None:
    async with connected(server, ping_seconds=0.05) as connection:
        assert await closed_with(connection) == 1001


async def test_a_socket_is_not_blamed_for_a_pause_of_the_server_itself(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gql_server.api.transport.socket.HELD_UP_SECONDS", 0.05)
    async with connected(server, ping_seconds=0.1) as connection:
        assert await received(connection) == {"type": "ping"}
        time.sleep(0.5)  # noqa: ASYNC251 – client and server are in this process, and neither hears the other.
        assert await received(connection) == {"type": "ping"}, "it is asked again, not closed"
        await send(connection, {"type": "pong"})


async def test_a_socket_that_does_not_begin_is_closed(server: AppContext) -> None:
    async with (
        socket_url(server, socket_init_seconds=0.05) as url,
        connect(url, subprotocols=PROTOCOL) as one,
    ):
        assert await closed_with(one) == 4408


async def test_a_socket_that_has_not_begun_makes_room_for_another(server: AppContext) -> None:
    async with socket_url(server, max_sockets=2) as url, AsyncExitStack() as sockets:
        begun, idle = [await sockets.enter_async_context(connect(url, subprotocols=PROTOCOL)) for _ in "ab"]
        await begin(begun)
        another = await sockets.enter_async_context(connect(url, subprotocols=PROTOCOL))
        assert await closed_with(idle) == 4408
        await begin(another)
        await subscribe(begun, "a", "{ __typename }")
        assert (await received(begun))["payload"]["data"] == {"__typename": "Query"}


async def test_there_are_no_more_sockets_than_may_be(server: AppContext) -> None:
    async with socket_url(server, max_sockets=1) as url:
        async with connect(url, subprotocols=PROTOCOL) as one:
            await begin(one)
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, subprotocols=PROTOCOL)
            assert refused.value.response.status_code == 503
            assert b"BUSY" in refused.value.response.body
        async with asyncio.timeout(10):
            while not await can_connect(url):
                pass


async def can_connect(url: str) -> bool:
    try:
        async with connect(url, subprotocols=PROTOCOL):
            return True
    except InvalidStatus:
        return False


async def test_a_message_with_too_many_values_closes_the_socket(server: AppContext) -> None:
    async with connected(server) as connection:
        payload = {"query": FOLLOW, "variables": {"a": [[1]] * 30_000}}
        await send(connection, {"type": "subscribe", "id": "a", "payload": payload})
        assert await closed_with(connection) == 4400


async def test_an_answer_that_is_too_long_is_an_error_of_its_operation(server: AppContext) -> None:
    async with connected(server, max_answer_bytes=2_000) as connection:
        await subscribe(connection, "a", "{ __schema { types { name description } } }")
        message = await received(connection)
        assert (message["id"], message["type"], "data" in message["payload"]) == ("a", "next", False)
        assert message["payload"]["errors"][0]["extensions"]["limit"] == "bytes"
        assert await received(connection) == {"id": "a", "type": "complete"}
        await subscribe(connection, "b", "{ __typename }")
        assert (await received(connection))["payload"]["data"] == {"__typename": "Query"}


async def test_answers_that_go_to_several_may_not_be_too_long_either(server: AppContext) -> None:
    sent: list[Any] = []

    async def send_text(message: Any) -> None:
        sent.append(json.loads(message["text"]))

    settings = server.settings.model_copy(update={"max_answer_bytes": 50})
    view = GraphQLView(replace(server, settings=settings), Access(None), Rates())
    socket = WebSocket({"type": "websocket"}, receive=asyncio.Event().wait, send=send_text)  # type: ignore[arg-type]
    socket.client_state = socket.application_state = WebSocketState.CONNECTED
    adapter = SocketAdapter(view, socket, socket)
    for length in (10, 100):
        data = SharedData(a="x" * length)
        await adapter.send_json({"type": "next", "id": "1", "payload": {"data": data}})
    assert sent[0]["payload"] == {"data": {"a": "x" * 10}}
    assert sent[1]["payload"]["errors"][0]["extensions"]["limit"] == "bytes"
    assert "data" not in sent[1]["payload"]


async def test_messages_of_open_operations_have_a_budget_on_a_connection_and_in_all(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_budget, "MAX_BYTES_OF_CLIENT", 25_000)
    monkeypatch.setattr(message_budget, "MAX_BYTES", 35_000)
    long = {"query": FOLLOW, "variables": {"unused": "x" * 10_000}}
    async with socket_url(server) as url, AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(connect(url, subprotocols=PROTOCOL)) for _ in range(2)
        ]
        for connection in (first, second):
            await begin(connection)
        for id in "abc":
            await send(first, {"type": "subscribe", "id": id, "payload": long})
        assert "on this connection" in await refusal_of(first, "c")
        await send(second, {"type": "subscribe", "id": "a", "payload": long})
        await send(second, {"type": "subscribe", "id": "b", "payload": long})
        assert "of all clients" in await refusal_of(second, "b")
        await subscribe(second, "c", "{ __typename }")
        assert (await received(second))["id"] == "c", "a small one has its place all the same"
        assert (await received(second))["type"] == "complete"
        await send(first, {"type": "complete", "id": "a"})
        await until(lambda: server.open_messages._bytes < 25_000)
        await send(second, {"type": "subscribe", "id": "d", "payload": long})
        await subscribe(second, "e", "{ __typename }")
        assert (await received(second))["id"] == "e", "there is room for the long one now"
    await until(lambda: server.open_messages._bytes == 0)
    assert not server.open_messages._by_client


async def test_subscriptions_have_a_budget_on_a_connection_and_in_all(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_budget, "MAX_COST_OF_CLIENT", 1_000)
    monkeypatch.setattr(subscription_budget, "MAX_COST", 1_500)
    async with socket_url(server) as url, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(url, subprotocols=PROTOCOL)) for _ in range(2)]
        for connection in sockets:
            await begin(connection)
        first, second = sockets
        for id in "abc":
            await subscribe(first, id)
        assert "on this connection" in await refusal_of(first, "c")
        await subscribe(second, "a")
        await subscribe(second, "b")
        assert "of all clients" in await refusal_of(second, "b")
        await send(first, {"type": "complete", "id": "a"})
        await asyncio.sleep(0.1)
        await subscribe(second, "c")
        await subscribe(second, "d", "{ __typename }")
        assert (await received(second))["id"] == "d", "the third has its place now"


async def refusal_of(connection: ClientConnection, id: str) -> str:
    """Return with what an operation is refused."""
    message = await received(connection)
    assert message["id"] == id
    payload = message["payload"]
    (error,) = payload if message["type"] == "error" else payload["errors"]
    assert error["extensions"]["code"] == "BUSY"
    if message["type"] == "next":
        assert (await received(connection))["type"] == "complete"
    return str(error["message"])
