"""Refuses requests with a foreign host or origin, without the token, of plain forms, or with huge bodies."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from urllib.parse import quote

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.http.websocket_origin import is_same_origin, normalize_allowed_origins, normalize_origin

from gql_server.api.transport import sign_in
from gql_server.api.transport.access import CHALLENGE, WRONG_TOKEN, Access
from gql_server.api.transport.answers import RefusedRequest, deny
from gql_server.api.transport.hosts import is_loopback
from gql_server.api.transport.intake import Full, Intake
from gql_server.api.transport.negotiation import names
from gql_server.limits.clients import admit, take_counted
from gql_server.limits.rate_limits import Rates
from gql_server.settings import Settings

PREFLIGHT_HEADERS = ("graphql-require-preflight", "apollo-require-preflight", "x-requested-with")
"""A cross-site form can send none of these; a cross-site script only after a preflight, which is refused."""

OPEN_PATHS = ("/healthz", sign_in.PATH)
"""Paths, with all below them, that need no token: there is nothing of anybody's in them."""

LOOPBACK_ONLY = "This server answers under loopback names only, such as localhost or 127.0.0.1."
OTHER_ORIGIN = (
    "Pages of this origin may not use this server; GQL_SERVER_ALLOWED_ORIGINS lists those that may."
)
TOO_SLOW = "The body did not come in time."
STRANGERS_BODY_BYTES = 64 * 1024
TOO_OFTEN = "This address asks too often without the access token; try again in a few seconds."
BODY_SECONDS = 60
BODY_BYTES_PER_SECOND = 32 * 1024
"""A body has a minute, and more time as long as it arrives at this rate."""
NO_PREFLIGHT = "An upload needs the header GraphQL-Require-Preflight (any value)."


class Guard:
    """ASGI middleware before everything else.

    A page of another site may make a browser send requests here, under its own name even, once its name
    leads to 127.0.0.1 (DNS rebinding). So an Origin must be this host or an allowed one, and where no token
    is asked for, the Host a loopback name.
    """

    def __init__(self, app: ASGIApp, settings: Settings, access: Access, rates: Rates) -> None:
        self._app = app
        self._settings = settings
        self._access = access
        self._origins = normalize_allowed_origins(settings.allowed_origins)
        self._intake = Intake()
        self._rates = rates
        self._turn = asyncio.Lock()
        self._any_host = not access.is_open or settings.allow_without_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_known = self._access.allows(headers)
        if not is_known:
            if "authorization" in headers:
                await asyncio.sleep(self._rates.guessed(_address(scope)))
            await self._strangers_turn()
        refusal = self._refusal(scope, headers, is_known)
        if scope["type"] == "http":
            passing = refusal or partial(self._pass_on, headers, is_known)
            await passing(scope, receive, send)
        elif refusal:
            await deny(WebSocket(scope, receive, send), refusal)
        else:
            await self._app(scope, receive, send)

    async def _strangers_turn(self) -> None:
        """Wait until this is the only stranger that is answered in a turn of the loop.

        Hundreds may come, or have waited for long enough, at the same moment, and whoever has the token is
        answered in several turns.
        """
        async with self._turn:
            await asyncio.sleep(0)

    def _refusal(self, scope: Scope, headers: Headers, is_known: bool) -> Response | None:
        accept = headers.get("accept")
        if not self._any_host and not _is_loopback(headers.get("host", "")):
            return RefusedRequest(421, LOOPBACK_ONLY, accept)
        if not self._is_origin_allowed(scope, headers):
            return RefusedRequest(403, OTHER_ORIGIN, accept)
        if is_known:
            admit(scope)
        elif not (take_counted(scope) or self._rates.allows(_address(scope))):
            return RefusedRequest(429, TOO_OFTEN, accept, {"Retry-After": "5", "Connection": "close"})
        if scope["type"] == "websocket":
            return None  # Its connection_init may bring the token.
        if not is_known and not _is_open(get_route_path(scope)):
            if scope["method"] == "GET" and names(accept, "text/html"):
                return sign_in.page(scope.get("root_path", ""), _asked(scope))
            return RefusedRequest(401, WRONG_TOKEN, accept, CHALLENGE)
        if _is_multipart(headers) and not any(name in headers for name in PREFLIGHT_HEADERS):
            return RefusedRequest(400, NO_PREFLIGHT, accept)
        length = headers.get("content-length", "")
        limit = self._limit(headers, is_known)
        if length.isdecimal() and _exceeds(length, limit):
            return _too_large(limit, accept)
        return None

    def _is_origin_allowed(self, scope: Scope, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            # A page can load a script, an image or a frame from anywhere, without an Origin. Browsers tell of
            # it here; what is left is a link to a page, which asks nothing.
            is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
            return not is_foreign or (headers.get("sec-fetch-dest") == "document" and _asks_nothing(scope))
        return (
            "*" in self._origins
            or is_same_origin(origin, headers.get("host"))
            or normalize_origin(origin) in self._origins
        )

    async def _pass_on(
        self, headers: Headers, is_known: bool, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Pass a request on; one whose body is too long or does not arrive is answered here."""
        # Strangers have nothing to upload, and must not hold the places for it.
        is_upload = is_known and _is_multipart(headers)
        limit, accept = self._limit(headers, is_known), headers.get("accept")
        try:
            with self._intake.upload() if is_upload else nullcontext(), self._intake.body() as body:
                count = _count_nothing if is_upload else body.add
                await self._app(scope, _limited(receive, limit, count), send)
        except _BodyTooLargeError:
            await _too_large(limit, accept)(scope, receive, send)
        except _BodyTooSlowError:
            await RefusedRequest(408, TOO_SLOW, accept)(scope, receive, send)
        except Full as full:
            refusal = RefusedRequest(503, str(full), accept, {"Retry-After": "5"})
            await refusal(scope, receive, send)

    def _limit(self, headers: Headers, is_known: bool) -> int:
        if not is_known:
            return STRANGERS_BODY_BYTES
        limits = self._settings.max_upload_bytes, self._settings.max_body_bytes
        return limits[0] if _is_multipart(headers) else min(limits)


class _BodyTooLargeError(Exception):
    """Ends whatever reads the body, which is before it answers."""


class _BodyTooSlowError(Exception):
    """Ends whatever waits for the body."""


def _too_large(limit: int, accept: str | None) -> Response:
    message = f"The body is too large; the limit is {limit:,} bytes."
    return RefusedRequest(413, message, accept, limit="bytes", allowed=limit)


def _count_nothing(_n_bytes: int) -> None:
    """Count nothing: the number of uploads limits what goes to the disk."""


def _limited(receive: Receive, limit: int, count: Callable[[int], None]) -> Receive:
    clock = asyncio.get_running_loop().time
    received, began = 0, clock()
    is_whole = False

    async def receive_limited() -> Message:
        nonlocal received, is_whole
        if is_whole:  # What comes now is that the client has gone, however late.
            return await receive()
        try:
            async with asyncio.timeout_at(began + BODY_SECONDS + received / BODY_BYTES_PER_SECOND):
                message = await receive()
        except TimeoutError:
            raise _BodyTooSlowError from None
        received += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if received > limit:
            raise _BodyTooLargeError
        count(len(message.get("body", b"")))
        return message

    return receive_limited


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _exceeds(length: str, limit: int) -> bool:
    # Python refuses to make a number of thousands of digits.
    return len(length) > len(str(limit)) + 10 or int(length) > limit


def _asks_nothing(scope: Scope) -> bool:
    return scope.get("method") == "GET" and b"query=" not in scope["query_string"]


def _asked(scope: Scope) -> str:
    """Return the path with the query, as sign_in leads back to it."""
    query = scope["query_string"].decode("latin-1")
    return quote(get_route_path(scope)) + (f"?{query}" if query else "")


def _is_open(path: str) -> bool:
    return any(path == open_path or path.startswith(f"{open_path}/") for open_path in OPEN_PATHS)


def _is_multipart(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/")


def _is_loopback(host: str) -> bool:
    host = host.lower()
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return is_loopback(name.strip("[]"))
