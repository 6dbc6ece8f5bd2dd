"""Sends cases as clients would: over HTTP, as event streams, over WebSockets."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.fuzz.cases import Case, Way

PATIENCE_SECONDS = 30.0
"""For an answer; one that takes longer hangs."""
LISTENING_SECONDS = 1.0
QUIET_SECONDS = 0.3
"""After which a subscription that has sent something is left."""
MOST_EVENTS = 40
LONGEST_URL = 10_000
"""What is longer goes by POST: the server's HTTP library refuses it by itself."""
PREFLIGHT = {"GraphQL-Require-Preflight": "1"}
PROTOCOL = Subprotocol("graphql-transport-ws")


@dataclass
class Answer:
    """What came back."""

    status: int | None = None
    """Of HTTP; None over a WebSocket."""
    close: int | None = None
    """With which code the server closed the WebSocket."""
    texts: list[str] = field(default_factory=list)
    """The body, the events or the messages."""
    seconds: float = 0.0
    """Until the answer was there, of a stream until its first event."""
    trouble: str | None = None
    """What kept an answer from coming."""


class Sender:
    """Sends cases to a server."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self._socket_url = f"{url.replace('http', 'ws', 1)}/graphql"
        self._http = http

    async def send(self, case: Case) -> Answer:
        """Return what comes of a case, whatever that is."""
        answer = Answer()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._send(case, answer)
        except TimeoutError:
            answer.trouble = f"no answer within {PATIENCE_SECONDS:g} s"
        except (httpx.TransportError, OSError, websockets.WebSocketException) as error:
            answer.trouble = f"{type(error).__name__}: {error}"
        answer.seconds = answer.seconds or time.perf_counter() - began
        return answer

    async def _send(self, case: Case, answer: Answer) -> None:
        match case.way:
            case Way.SOCKET:
                subscribe = {"id": "1", "type": "subscribe", "payload": case.members}
                await self._over_socket([{"type": "connection_init"}, subscribe], case, answer)
            case Way.FRAMES:
                await self._over_socket(list(case.frames), case, answer)
            case Way.EVENTS:
                await self._stream(case, answer)
            case _:
                response = await self._request(case)
                answer.status, answer.texts = response.status_code, [response.text]

    async def _request(self, case: Case) -> httpx.Response:
        if case.way == Way.GET:
            parameters = {
                name: v if isinstance(v, str) else encoded(v).decode() for name, v in case.members.items()
            }
            safe = {name: _encodable(text) for name, text in parameters.items()}
            if sum(map(len, safe.values())) < LONGEST_URL:
                return await self._http.get("/graphql", params=safe, headers=case.headers)
        if case.way == Way.MULTIPART:
            return await self._http.post("/graphql", files=_form(case), headers=PREFLIGHT | case.headers)
        content = encoded(case.members) if case.content is None else case.content
        headers = {"Content-Type": "application/json"} | case.headers
        return await self._http.post("/graphql", content=content, headers=headers)

    async def _stream(self, case: Case, answer: Answer) -> None:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"} | case.headers
        began = time.perf_counter()
        async with self._http.stream(
            "POST", "/graphql", content=encoded(case.members), headers=headers
        ) as response:
            answer.status = response.status_code
            answer.seconds = time.perf_counter() - began
            async for line in _for_a_while(response.aiter_lines()):
                if line.startswith("data:") and line.strip() != "data:":
                    answer.texts.append(line.removeprefix("data:").strip())
                elif line.startswith("{"):
                    answer.texts.append(line)

    async def _over_socket(self, frames: list[Any], case: Case, answer: Answer) -> None:
        began = time.perf_counter()
        socket = await connect(self._socket_url, subprotocols=[PROTOCOL], max_size=None)
        try:
            for frame in frames:
                await socket.send(frame if isinstance(frame, str) else json.dumps(frame))
            async for text in _for_a_while(_messages(socket)):
                message = json.loads(text)
                if message["type"] in ("next", "error", "complete") and not answer.seconds:
                    answer.seconds = time.perf_counter() - began
                if message["type"] == "ping":
                    await socket.send('{"type": "pong"}')
                elif message["type"] != "connection_ack":
                    answer.texts.append(text)
                if message["type"] in ("error", "complete") and case.way == Way.SOCKET:
                    break
            if not case.hangs_up:
                await socket.send('{"id": "1", "type": "complete"}')
        except websockets.ConnectionClosed:
            pass
        finally:
            if case.hangs_up:
                socket.transport.abort()
            await socket.close()
            answer.close = socket.close_code


async def _messages(socket: ClientConnection) -> AsyncIterator[str]:
    async for message in socket:
        yield message if isinstance(message, str) else message.decode()


async def _for_a_while(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Give what comes until nothing has come for a moment, or enough has."""
    clock = asyncio.get_running_loop().time
    end, count = clock() + LISTENING_SECONDS, 0
    while clock() < end and count < MOST_EVENTS:
        line: str | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS if count else LISTENING_SECONDS):
                line = await anext(lines, None)
        if line is None:
            return
        count += 1
        yield line


def encoded(members: Any) -> bytes:
    """Return members as JSON in ASCII, in which lone surrogates have a place too."""
    return json.dumps(members).encode()


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _form(case: Case) -> dict[str, Any]:
    places = {str(number): [path] for number, path in enumerate(case.files)}
    form: dict[str, Any] = {
        "operations": (None, encoded(case.members)),
        "map": (None, encoded(places)),
    }
    for number, file in enumerate(case.files.values()):
        form[str(number)] = (_encodable(file.name), file.content, "application/octet-stream")
    return form
