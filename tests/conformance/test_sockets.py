"""graphql-transport-ws frame by frame, as its specification has it, with no GraphQL client in between."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from websockets import ClientConnection, ConnectionClosed, Subprotocol

from tests.conformance.conftest import TOKEN
from tests.support.server_process import RunningServer

PROTOCOL = "graphql-transport-ws"
ANSWER_SECONDS = 8
INIT = {"type": "connection_init"}
ACK = {"type": "connection_ack"}
QUERY = "{ __typename }"
ENDLESS = "subscription { jobs { id } }"


class Socket:
    """A socket of which each frame is written and read by hand."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, frame: Any) -> None:
        """Send an object as JSON, or a text or bytes as they are."""
        await self._connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def receive(self) -> Any:
        """Return the next message."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return json.loads(await self._connection.recv())
        except TimeoutError:
            pytest.fail(f"Nothing came within {ANSWER_SECONDS} seconds.")

    async def answer(self) -> Any:
        """Return the next message that is no ping."""
        while (message := await self.receive())["type"] == "ping":
            pass
        return message

    async def close_code(self) -> int | None:
        """Return the code with which the server closes the socket, perhaps after some pings."""
        try:
            while True:
                message = await self.receive()
                assert message["type"] == "ping", message
        except ConnectionClosed:
            return self._connection.close_code

    async def initialize(self, **payload: Any) -> None:
        """Do the handshake."""
        await self.send(INIT | ({"payload": payload} if payload else {}))
        assert await self.receive() == ACK


@asynccontextmanager
async def open_socket(
    server: RunningServer, protocols: tuple[str, ...] = (PROTOCOL,), **options: Any
) -> AsyncIterator[Socket]:
    """Open a socket, without a message yet. It sends no pings of WebSocket's own."""
    url = f"{server.url.replace('http', 'ws')}/graphql"
    subprotocols = [Subprotocol(name) for name in protocols] or None
    async with websockets.connect(
        url, subprotocols=subprotocols, ping_interval=None, **options
    ) as connection:
        yield Socket(connection)


def subscribe(query: str, id: str = "1") -> dict[str, Any]:
    return {"id": id, "type": "subscribe", "payload": {"query": query}}


# ------------------------------------------------------------------------- 4400: malformed


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "no JSON",
        b"\x00\x01",
        "null",
        [],
        {},
        {"type": 1},
        {"type": "start"},
        {"type": "next", "id": "1", "payload": {}},
        {"type": "ping", "payload": "no object"},
        {"type": "pong", "payload": []},
        {"type": "subscribe"},
        {"type": "subscribe", "id": "1"},
        {"type": "subscribe", "id": 1, "payload": {"query": QUERY}},
        {"type": "subscribe", "id": "", "payload": {"query": QUERY}},
        {"type": "subscribe", "id": "1", "payload": {"query": None}},
        {"type": "subscribe", "id": "1", "payload": {"query": QUERY, "variables": []}},
        {"type": "subscribe", "id": "1", "payload": {"query": QUERY, "operationName": 1}},
        {"type": "subscribe", "id": "1", "payload": {"query": QUERY, "extensions": "no object"}},
        {"type": "complete"},
        {"type": "complete", "id": ""},
    ],
    ids=str,
)
async def test_a_malformed_message_closes_with_4400(running_server: RunningServer, frame: Any) -> None:
    async with open_socket(running_server) as socket:
        await socket.initialize()
        await socket.send(frame)

        assert await socket.close_code() == 4400


async def test_a_malformed_connection_init_closes_with_4400(running_server: RunningServer) -> None:
    async with open_socket(running_server) as socket:
        await socket.send(INIT | {"payload": "no object"})

        assert await socket.close_code() == 4400


async def test_null_stands_for_what_may_be_left_out(running_server: RunningServer) -> None:
    nulls = dict.fromkeys(["variables", "operationName", "extensions"])
    async with open_socket(running_server) as socket:
        await socket.send(INIT | {"payload": None})
        assert await socket.receive() == ACK
        await socket.send({"type": "ping", "payload": None})
        assert (await socket.receive())["type"] == "pong"
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": QUERY} | nulls})
        assert (await socket.receive())["type"] == "next"


@pytest.mark.parametrize("query", ["{", "{ noSuchField }"], ids=["syntax", "validation"])
async def test_a_wrong_document_is_an_error_of_its_operation_and_closes_nothing(
    running_server: RunningServer, query: str
) -> None:
    async with open_socket(running_server) as socket:
        await socket.initialize()
        await socket.send(subscribe(query))
        error = await socket.receive()
        await socket.send(subscribe(QUERY))

        assert (error["id"], error["type"]) == ("1", "error")
        assert error["payload"][0]["message"]
        assert (await socket.receive())["payload"]["data"] == {"__typename": "Query"}


# ----------------------------------------------------------- 4401, 4403: who may do what


async def test_a_subscribe_before_the_handshake_closes_with_4401(running_server: RunningServer) -> None:
    async with open_socket(running_server) as socket:
        await socket.send(subscribe(QUERY))

        assert await socket.close_code() == 4401


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer another"},
        {"Authorization": f"Basic {TOKEN}"},
    ],
    ids=str,
)
async def test_a_handshake_without_the_token_closes_with_4403(
    strict_server: RunningServer, payload: dict[str, str] | None
) -> None:
    async with open_socket(strict_server) as socket:
        await socket.send(INIT | {"payload": payload})

        assert await socket.close_code() == 4403


async def test_the_token_may_come_in_the_payload_or_in_a_header(strict_server: RunningServer) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with open_socket(strict_server) as socket:
        await socket.initialize(**bearer)
    async with open_socket(strict_server, additional_headers=bearer) as socket:
        await socket.initialize()


# ------------------------------------------- 4406, 4408, 4409, 4429, and an operation too many


@pytest.mark.parametrize("protocols", [(), ("graphql-ws",), ("mqtt",)], ids=["none", "legacy", "another"])
async def test_another_subprotocol_closes_with_4406(
    running_server: RunningServer, protocols: tuple[str, ...]
) -> None:
    async with open_socket(running_server, protocols) as socket:
        assert await socket.close_code() == 4406


async def test_a_socket_without_a_handshake_in_time_closes_with_4408(strict_server: RunningServer) -> None:
    async with open_socket(strict_server) as socket:
        assert await socket.close_code() == 4408


async def test_an_operation_id_in_use_closes_with_4409(running_server: RunningServer) -> None:
    async with open_socket(running_server) as socket:
        await socket.initialize()
        await socket.send(subscribe(ENDLESS))
        await socket.send(subscribe(QUERY))

        assert await socket.close_code() == 4409


async def test_an_operation_id_can_be_used_again_once_its_operation_has_ended(
    running_server: RunningServer,
) -> None:
    async with open_socket(running_server) as socket:
        await socket.initialize()
        await socket.send(subscribe(ENDLESS))
        await socket.send({"id": "1", "type": "complete"})
        for _ in range(2):
            await socket.send(subscribe(QUERY))
            answer = [await socket.receive(), await socket.receive()]

            assert [message["type"] for message in answer] == ["next", "complete"]


async def test_an_operation_too_many_is_an_error_of_its_own(strict_server: RunningServer) -> None:
    async with open_socket(strict_server) as socket:
        await socket.initialize(Authorization=f"Bearer {TOKEN}")
        for id in ("1", "2", "3"):
            await socket.send(subscribe(ENDLESS, id))
        error = await socket.answer()

        assert (error["id"], error["type"]) == ("3", "error")
        assert error["payload"][0]["extensions"]["code"] == "TOO_COMPLEX"
        assert error["payload"][0]["extensions"]["limit"] == "operations"


async def test_a_second_connection_init_closes_with_4429(running_server: RunningServer) -> None:
    async with open_socket(running_server) as socket:
        await socket.initialize()
        await socket.send(INIT)

        assert await socket.close_code() == 4429


# ---------------------------------------------------------------------------- ping and pong


async def test_a_ping_gets_a_pong_before_the_handshake_and_after(running_server: RunningServer) -> None:
    async with open_socket(running_server) as socket:
        await socket.send({"type": "ping"})
        assert (await socket.receive())["type"] == "pong"
        await socket.initialize()
        await socket.send({"type": "ping", "payload": {"of": "the client"}})
        assert (await socket.receive())["type"] == "pong"
        await socket.send({"type": "pong"})  # Nobody asked for it, which is allowed.
        await socket.send(subscribe(QUERY))
        assert (await socket.receive())["type"] == "next"


async def test_the_server_pings_for_as_long_as_a_pong_comes_back(strict_server: RunningServer) -> None:
    async with open_socket(strict_server) as socket:
        await socket.initialize(Authorization=f"Bearer {TOKEN}")
        for _ in range(3):
            assert (await socket.receive())["type"] == "ping"
            await socket.send({"type": "pong"})


async def test_a_socket_on_which_nothing_comes_back_is_closed(strict_server: RunningServer) -> None:
    async with open_socket(strict_server) as socket:
        await socket.initialize(Authorization=f"Bearer {TOKEN}")

        assert await socket.close_code() is not None
