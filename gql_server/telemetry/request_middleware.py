"""ASGI middleware that gives every request a reference, counts it, and logs those that were refused."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPMethod

import structlog
from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gql_server.telemetry.metrics import Metrics
from gql_server.telemetry.outcomes import INTERNAL
from gql_server.telemetry.references import REQUEST, TRANSPORT, new_reference
from gql_server.telemetry.telemetry import Telemetry
from gql_server.telemetry.tracing import Span, prefixed

log = structlog.get_logger(__name__)

HEADER = "X-Request-Id"
METHODS = frozenset(HTTPMethod)
UNTRACED = ("/healthz", "/metrics", "/static")
FAILED = "Internal error; the server's log has more under the reference {}."


class RequestTelemetryMiddleware:
    """The outermost middleware, so that requests which others refuse have a reference too."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._metrics = telemetry.metrics
        self._tracer = telemetry.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        telemetry = RequestTelemetry(scope, send, self._metrics)
        match scope["type"]:
            case "http":
                with bound_contextvars(**{REQUEST: telemetry.reference}), self._traced(telemetry):
                    await self._answer(telemetry, receive)
            case "websocket":
                with bound_contextvars(socket=telemetry.reference):
                    await self._converse(telemetry, receive)
            case _:
                await self._app(scope, receive, send)

    @contextmanager
    def _traced(self, telemetry: "RequestTelemetry") -> Iterator[None]:
        """Give a request a span, unless it is a health check, a scrape or a static file."""
        if get_route_path(telemetry.scope).startswith(UNTRACED):
            yield
            return
        with self._tracer.span("HTTP", headers=Headers(scope=telemetry.scope)) as span:
            telemetry.span = span
            yield

    async def _answer(self, telemetry: "RequestTelemetry", receive: Receive) -> None:
        token = TRANSPORT.set("http")  # The endpoint says so where it answers by server-sent events.
        try:
            await self._app(telemetry.scope, receive, telemetry.send)
        except ClientDisconnect:
            log.debug("client gone during a request")
        except Exception:
            if telemetry.begun:
                raise  # Nothing can be said to the client any more; the connection is closed.
            log.exception("request failed")
            await telemetry.fail(receive)
        finally:
            TRANSPORT.reset(token)

    async def _converse(self, telemetry: "RequestTelemetry", receive: Receive) -> None:
        token = TRANSPORT.set("websocket")
        # A socket may be open for days: each of its operations is a span of its own.
        self._tracer.adopt(Headers(scope=telemetry.scope))
        try:
            await self._app(telemetry.scope, receive, telemetry.send)
        finally:
            TRANSPORT.reset(token)
            telemetry.close()


class RequestTelemetry:
    """The telemetry of one request and its answer, or of a WebSocket."""

    def __init__(self, scope: Scope, send: Send, metrics: Metrics) -> None:
        self.scope = scope
        self.reference = new_reference()
        self.span = Span()
        self._send = send
        self._metrics = metrics.http
        self._arrived = time.perf_counter()
        self.begun = False
        """Whether an answer is on its way, or the socket is open."""

    async def send(self, message: Message) -> None:
        """Pass on a message to the client; an answer's beginning with the reference."""
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                MutableHeaders(scope=message)[HEADER] = self.reference
                self._begin(message["status"])
            case "websocket.accept":
                self.begun = True
                self._metrics.socket_opened()
        await self._send(message)

    async def fail(self, receive: Receive) -> None:
        """Answer that the server has failed, and where to look."""
        extensions = {"code": "INTERNAL", "reference": self.reference}
        error = {"message": FAILED.format(self.reference), "extensions": extensions}
        await JSONResponse({"errors": [error]}, status_code=500)(self.scope, receive, self.send)

    def close(self) -> None:
        """Count and log a socket's end."""
        if self.scope["type"] == "websocket" and self.begun:
            self._metrics.socket_closed()
            log.debug("socket closed", seconds=round(self._seconds, 3))

    def _begin(self, status: int) -> None:
        self.begun = self.scope["type"] == "http"
        method = self.scope.get("method", "GET")  # A WebSocket's handshake has none in its scope.
        method = method if method in METHODS else "other"
        route = getattr(self.scope.get("route"), "path", "unmatched")
        self._metrics.answered(method, route, status, self._seconds)
        # The path and what is asked in it may hold anything.
        say = log.info if status >= 400 else log.debug
        milliseconds = round(1000 * self._seconds, 1)
        self.span.name(f"{method} {route}")
        self.span.note(prefixed({"request": self.reference}))
        self.span.note(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= 500:
            self.span.conclude(INTERNAL)
        say("answered", method=method, route=route, status=status, milliseconds=milliseconds)

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._arrived
