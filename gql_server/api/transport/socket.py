"""Strawberry's graphql-transport-ws, made safe for clients that send nonsense or vanish."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import structlog
from cross_web import HTTPException
from graphql import GraphQLError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import (
    NonJsonMessageReceived,
    NonTextMessageReceived,
    WebSocketDisconnected,
)
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import SubscribeMessage

from gql_server.api import refusals
from gql_server.api.context import Context
from gql_server.api.operations.execution import SharedData
from gql_server.api.operations.json_text import byte_count
from gql_server.api.operations.limits import too_complex
from gql_server.api.transport import persisted_queries
from gql_server.errors import QueueFull
from gql_server.limits.clients import waiting_to_be_sent
from gql_server.settings import Settings

log = structlog.get_logger(__name__)

MAX_FIRST_CHARACTERS = 64 * 1024
"""The longest message before the connection is acknowledged, which anybody can send."""
BAD_REQUEST = 4400
INIT_TIMEOUT = 4408
NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
TRY_AGAIN_LATER = 1013
SERVICE_RESTART = 1012
"""WebSocket's close code of a server that goes; clients may connect again."""
CLOSING_SECONDS = 0.5
HELD_UP_SECONDS = 1.0
"""A pause of this process after which silent clients get more time."""
OPERATIONS_AHEAD = 4
"""A socket's waiting operations at which its messages are no longer read."""
AHEAD_SECONDS = 0.005
AT_ONCE_SECONDS = 0.001
MAX_NAME = 1000
"""Characters of an operation's name, which comes back in errors."""
MAX_REASON_BYTES = 123
"""A WebSocket's close frame has no room for more."""


class OpenSockets:
    """The open sockets: their number is limited, and a server that stops closes them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: WeakSet[SocketAdapter] = WeakSet()

    async def make_room(self) -> bool:
        """Return whether one more fits, if need be in place of one that has not sent connection_init."""
        if len(self._open) < self._limit:
            return True
        waiting = [socket for socket in self._open if not socket.is_acknowledged]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda socket: socket.opened_at)
        self.remove(oldest)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await oldest.close(INIT_TIMEOUT, "Too many WebSockets are open.")
        return True

    def remove(self, socket: "SocketAdapter") -> None:
        """Forget a socket that has been served to its end."""
        self._open.discard(socket)

    def add(self, socket: "SocketAdapter") -> None:
        """Add a socket for as long as it lives."""
        self._open.add(socket)

    async def close(self, reason: str) -> None:
        """Close all of them, without waiting for those who do not read."""
        closings = [asyncio.ensure_future(one.close(SERVICE_RESTART, reason)) for one in self._open]
        if closings:
            _, late = await asyncio.wait(closings, timeout=CLOSING_SECONDS)
            for closing in late:
                closing.cancel()


class SocketAdapter(ASGIWebSocketAdapter):
    """A socket whose client may vanish, and whose closing reasons are cut to fit."""

    def __init__(self, view: Any, request: WebSocket, response: WebSocket) -> None:
        super().__init__(view, request, response)
        self.is_acknowledged = False
        self.has_more = False
        """Whether the last message had arrived before it was waited for."""
        self.opened_at = asyncio.get_running_loop().time()
        self.message_bytes = 0
        """Bytes of the last message."""
        self._sending = asyncio.Lock()
        self._check_values: Callable[[bytes], Awaitable[None]] = view.check_values
        self._is_too_long: Callable[[str], bool] = view.is_too_long
        self._open_sockets: OpenSockets = view.open_sockets
        self._open_sockets.add(self)

    def forget(self) -> None:
        """Count as open no longer."""
        self._open_sockets.remove(self)

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:
        """Give the messages; before the connection is acknowledged, long ones are refused unread."""
        try:
            clock = asyncio.get_running_loop().time
            while not self._is_closed:
                asked_at = clock()
                text = await self.ws.receive_text()
                self.has_more = clock() - asked_at < AT_ONCE_SECONDS
                if not self.is_acknowledged and len(text) > MAX_FIRST_CHARACTERS:
                    await self.close(BAD_REQUEST, "The first message is too long.")
                    return
                encoded = text.encode(errors="surrogatepass")
                self.message_bytes = len(encoded)
                try:
                    await self._check_values(encoded)
                except HTTPException as refusal:
                    is_busy = refusal.status_code == 503
                    await self.close(TRY_AGAIN_LATER if is_busy else BAD_REQUEST, refusal.reason)
                    return
                yield self.view.decode_json(text)
        except json.JSONDecodeError as error:
            raise NonJsonMessageReceived from error
        except KeyError as error:
            raise NonTextMessageReceived from error
        except WebSocketDisconnect:
            return

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Send a message, or raise WebSocketDisconnected."""
        if self._is_closed:
            raise WebSocketDisconnected
        match message:
            case {"type": "next", "id": id, "payload": {"data": SharedData() as data, **rest}} if (
                not rest and not self._is_too_long(data.text)
            ):
                await self._send_text(
                    f'{{"id":{json.dumps(id)},"type":"next","payload":{{"data":{data.text}}}}}'
                )
            case _:
                await self._send_text(self.view.encode_json_string(message))

    async def _send_text(self, text: str) -> None:
        """Send when what was sent before has been taken, so that not all of it waits in one buffer."""
        try:
            with waiting_to_be_sent(self.ws.scope, byte_count(text)):
                async with self._sending:
                    await self.ws.send_text(text)
        except WebSocketDisconnect as error:
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        """Close the socket, unless it is closed."""
        if self._is_closed:
            return
        shortened = reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")
        with suppress(WebSocketDisconnect):
            await super().close(code, shortened)

    @property
    def _is_closed(self) -> bool:
        return WebSocketState.DISCONNECTED in (self.ws.application_state, self.ws.client_state)


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """Strawberry's handler, which takes every message for a well-formed one, and every client for alive."""

    websocket: SocketAdapter

    async def handle(self) -> None:
        """Serve the socket, and close it if its client no longer answers."""
        self._heard_at = self._busy_at = asyncio.get_running_loop().time()
        watch = asyncio.create_task(self._keep_watch())
        try:
            await super().handle()
        finally:
            self.websocket.forget()
            watch.cancel()

    async def _keep_watch(self) -> None:
        """Ping, and close a socket that does not answer, or that nobody uses."""
        clock, settings = asyncio.get_running_loop().time, self._settings
        asked_at = 0.0
        while True:
            slept_from = clock()
            await asyncio.sleep(settings.ping_seconds)
            if self.operations:
                self._busy_at = clock()
            # Where this process was held up itself, the answer lies unread.
            is_late = clock() > slept_from + settings.ping_seconds + HELD_UP_SECONDS
            if self._heard_at < asked_at and not is_late:
                await self.websocket.close(GOING_AWAY, "Nothing has come back since the last ping.")
            elif clock() - self._busy_at > settings.socket_idle_seconds:
                await self.websocket.close(NORMAL_CLOSURE, "No operation was under way for a long time.")
            asked_at = clock()
            # What is sent to a socket that nobody reads waits; uvicorn cuts it off when its own pings do too.
            with suppress(TimeoutError, WebSocketDisconnected):
                async with asyncio.timeout(settings.ping_seconds):
                    await self.send_message({"type": "ping"})

    def forget_id(self, id: str) -> None:
        """Forget an operation that has ended."""
        super().forget_id(id)
        self._busy_at = asyncio.get_running_loop().time()

    async def cleanup_operation(self, operation_id: str) -> None:
        """Forget an operation that the client has ended."""
        await super().cleanup_operation(operation_id)
        self._busy_at = asyncio.get_running_loop().time()

    @property
    def _settings(self) -> Settings:
        settings: Settings = self.context.server.settings
        return settings

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Begin an operation, unless too many are under way."""
        limit = self._settings.max_operations_per_socket
        self._busy_at = asyncio.get_running_loop().time()
        payload: Any = message["payload"]
        if self.connection_acknowledged and _is_only_a_hash(payload):
            await self._refuse(message["id"], persisted_queries.error())
            return
        if (
            message["id"] in self.operations
            or len(self.operations) < limit
            or not self.connection_acknowledged
        ):
            await self._begin(message)
            return
        sentence = f"{limit:,} operations are under way on this socket, which is the limit."
        await self._refuse(message["id"], too_complex("operations", limit, limit + 1, sentence).formatted)

    async def _begin(self, message: SubscribeMessage) -> None:
        """Begin an operation whose message is held until it ends, unless too much is."""
        held, client, n_bytes = self.context.server.open_messages, self.context.client, 0
        if self.connection_acknowledged and message["id"] not in self.operations:
            n_bytes = self.websocket.message_bytes
            try:
                held.add(client, n_bytes)
            except QueueFull as refusal:
                error = refusals.top_level(refusal, GraphQLError(refusal.message))
                await self._refuse(message["id"], error.formatted)
                return
        await super().handle_subscribe(message)
        if n_bytes:
            task = self.operations[message["id"]].task
            assert task is not None
            task.add_done_callback(lambda _: held.remove(client, n_bytes))

    async def _refuse(self, id: str, error: Any) -> None:
        await self.send_message({"id": id, "type": "error", "payload": [error]})

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:
        """Refuse an operation with an error message; the socket's other operations go on."""
        return None

    async def handle_message(self, message: Any) -> None:
        """Handle a message, or close the socket with what is wrong with it."""
        self._heard_at = asyncio.get_running_loop().time()
        if self.websocket.has_more:
            # Who does not wait for answers waits for the break that a large operation's end begins.
            await self.context.server.operation_turns.large.rest()
        problem = _problem(message)
        if problem is None:
            # Strawberry knows a payload that is left out, but not one that is null.
            given: Any = {key: value for key, value in message.items() if value is not None}
            await super().handle_message(given)
            self.websocket.is_acknowledged = self.connection_acknowledged
            # What has come already is read without a pause, which would put its operations before all others.
            await asyncio.sleep(0)
            await self._let_operations_begin()
        else:
            await self.handle_invalid_message(problem)

    async def _let_operations_begin(self) -> None:
        """Wait while too many operations of this socket wait for their turn."""
        turns, client = self.context.server.operation_turns, self.context.client
        while turns.waiting(client) > OPERATIONS_AHEAD:  # noqa: ASYNC110 (nobody tells of it)
            await asyncio.sleep(AHEAD_SECONDS)

    async def handle_task_exception(self, error: Exception) -> None:
        """Log the error of an operation's task, unless the client has gone."""
        if isinstance(error, WebSocketDisconnected):
            log.debug("client gone during an operation")
        else:
            log.error("operation on a socket failed", exc_info=error)


def _problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "A message must be a JSON object."
    if not isinstance(message.get("type"), str):
        return "A message's type must be a string."
    if message["type"] in ("subscribe", "complete") and not _is_id(message.get("id")):
        return "The id of a subscribe or complete message must be a string that is not empty."
    if message["type"] == "subscribe":
        return _problem_of_payload(message.get("payload"))
    if not isinstance(message.get("payload"), dict | None):
        return "A payload must be an object, or null, or left out."
    return None


def _is_id(id: object) -> bool:
    return isinstance(id, str) and id != ""


def _is_only_a_hash(payload: dict[str, Any]) -> bool:
    return persisted_queries.is_only_a_hash(payload.get("query"), payload.get("extensions"))


def _problem_of_payload(payload: Any) -> str | None:
    if not isinstance(payload, dict):
        return "The payload of a subscribe message must be an object."
    if not isinstance(payload.get("extensions"), dict | None):
        return "payload.extensions must be an object or null."
    if not isinstance(payload.get("query"), str) and not _is_only_a_hash(payload):
        return "payload.query must be a string."
    if not isinstance(payload.get("variables"), dict | None):
        return "payload.variables must be an object or null."
    name = payload.get("operationName")
    if not isinstance(name, str | None) or len(name or "") > MAX_NAME:
        return f"payload.operationName must be a string of at most {MAX_NAME} characters, or null."
    return None
