"""Refusals over HTTP before there is an operation, in the shape of a GraphQL answer."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from gql_server.api.common import ErrorCode
from gql_server.api.transport.negotiation import EVENT_STREAM, JSON, media_type_for

_CODES = {
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    413: ErrorCode.TOO_COMPLEX,
    421: ErrorCode.FORBIDDEN,
    500: ErrorCode.INTERNAL,
    429: ErrorCode.BUSY,
    503: ErrorCode.BUSY,
}
"""Other statuses say that the request is wrong."""


NO_PAGE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of what is no page, and not to be shown in one."""


class RefusedRequest(JSONResponse):
    """A status, and an entry in ``errors`` that says why."""

    def __init__(
        self,
        status: int,
        message: str,
        accept: str | None = None,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        chosen = media_type_for(accept)
        # Nothing but JSON is written here, whatever was to come.
        self.media_type = JSON if chosen in (None, EVENT_STREAM) else chosen
        code = _CODES.get(status, ErrorCode.INVALID_INPUT)
        error = {"message": message, "extensions": {"code": str(code), **extensions}}
        super().__init__({"errors": [error]}, status, NO_PAGE | dict(headers or {}))


async def deny(socket: WebSocket, refusal: Response) -> None:
    """Answer a handshake with a refusal, where the server can; else with a bare 403."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(refusal)
    else:
        await socket.close(1008)
