"""Keeps strangers out: other hosts' names, other origins' pages, uploads by a plain form, huge bodies."""

import ipaddress

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from strawberry.http.websocket_origin import is_same_origin

PREFLIGHT_HEADERS = ("graphql-require-preflight", "apollo-require-preflight", "x-requested-with")
"""A cross-site form can send none of these; a cross-site script only after a preflight, which is refused."""


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
            await self._app(scope, self._limited(receive) if scope["type"] == "http" else receive, send)
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
        multipart = headers.get("content-type", "").startswith("multipart/")
        if multipart and not any(name in headers for name in PREFLIGHT_HEADERS):
            return 400, "An upload needs the header GraphQL-Require-Preflight (any value)."
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return 413, f"The body has {length} bytes; {self._max_body_bytes} may be."
        return None

    def _limited(self, receive: Receive) -> Receive:
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                # As if the client had gone: whatever reads the body stops there.
                return {"type": "http.disconnect"}
            return message

        return receive_limited


def _is_loopback(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
