"""Keeps strangers out: other hosts' names, other origins' pages, uploads by a plain form, huge bodies."""

import ipaddress

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from strawberry.http.websocket_origin import is_same_origin

PREFLIGHT_HEADERS = ("graphql-require-preflight", "apollo-require-preflight", "x-requested-with")
"""A cross-site form can send none of these; a cross-site script only after a preflight, which is refused."""

MAX_JSON_BYTES = 16 * 2**20
"""Of a body that is not multipart: it is held in memory, several times over once it is parsed."""


class Guard:
    """ASGI middleware before everything else.

    A page of another site may make a browser send requests here, under its own name even, once its name
    leads to 127.0.0.1 (DNS rebinding). So the Host must be a loopback name, and an Origin that same host.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self._pass_on(scope, receive, send)
        elif scope["type"] == "http":
            status, reason = refusal
            await PlainTextResponse(reason, status_code=status)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not _is_loopback(host):
            return 421, "This server answers under loopback names only, such as localhost or 127.0.0.1."
        origin = headers.get("origin")
        if origin is not None and not is_same_origin(origin, host):
            return 403, "Pages of other origins may not use this server."
        if _is_multipart(headers) and not any(name in headers for name in PREFLIGHT_HEADERS):
            return 400, "An upload needs the header GraphQL-Require-Preflight (any value)."
        length = headers.get("content-length", "")
        if length.isdecimal() and _exceeds(length, self._limit(headers)):
            return _too_large(self._limit(headers))
        return None

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a body of no stated length is answered here once it gets too long."""
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        limit = self._limit(Headers(scope=scope))
        try:
            await self._app(scope, _limited(receive, limit), send)
        except _BodyTooLargeError:
            status, reason = _too_large(limit)
            await PlainTextResponse(reason, status_code=status)(scope, receive, send)

    def _limit(self, headers: Headers) -> int:
        return self._max_body_bytes if _is_multipart(headers) else min(MAX_JSON_BYTES, self._max_body_bytes)


class _BodyTooLargeError(Exception):
    """Ends whatever reads the body, which is before it answers."""


def _limited(receive: Receive, limit: int) -> Receive:
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _BodyTooLargeError
        return message

    return receive_limited


def _exceeds(length: str, limit: int) -> bool:
    # Python refuses to make a number of thousands of digits.
    return len(length) > len(str(limit)) + 10 or int(length) > limit


def _too_large(limit: int) -> tuple[int, str]:
    return 413, f"The body is too large; it may have {limit} bytes."


def _is_multipart(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/")


def _is_loopback(host: str) -> bool:
    host = host.lower()
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
