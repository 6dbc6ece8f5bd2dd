"""The /graphql endpoint: GraphQL over HTTP and graphql-transport-ws, and GraphiQL for browsers."""

import json
from datetime import timedelta
from typing import Any

from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLRequestData
from strawberry.http.streaming import SSETransport
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from gql_server.api import graphiql
from gql_server.api.context import Context
from gql_server.api.request_checks import is_unicode
from gql_server.api.schema import schema
from gql_server.api.socket import OpenSockets, SocketAdapter, SocketHandler
from gql_server.server import Server

CONNECTION_INIT_TIMEOUT = timedelta(seconds=10)
MAX_OPERATIONS_PER_SOCKET = 100

MALFORMED = "The request is no GraphQL request as JSON, nor as multipart/form-data with operations and map."
BAD_OPERATION_NAME = "The GraphQL operation's `operationName` must be valid text or null, if provided."
SUBSCRIPTION_OVER_HTTP = "Subscriptions go over WebSocket (graphql-transport-ws) or text/event-stream."

UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, RecursionError, MultiPartException)
"""What Strawberry and Starlette raise where a body is not what they take it for."""


class GraphQLView(GraphQL[Context, None]):
    """Strawberry's ASGI view with this server's context and page."""

    graphql_transport_ws_handler_class = SocketHandler
    websocket_adapter_class = SocketAdapter

    def __init__(self, server: Server) -> None:
        # graphql-ws, the legacy protocol, let clients skip the connection's handshake; it is not offered.
        super().__init__(
            schema,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL],
            connection_init_wait_timeout=CONNECTION_INIT_TIMEOUT,
            max_subscriptions_per_connection=MAX_OPERATIONS_PER_SOCKET,
            multipart_uploads_enabled=True,
        )
        self._server = server
        self.open_sockets = OpenSockets()

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """Return the context of a request, or of a whole socket."""
        streaming = isinstance(request, WebSocket) or SSETransport().accepts(
            request.headers.get("accept", "")
        )
        return Context(self._server, streaming=streaming)

    async def render_graphql_ide(self, request: Request) -> Response:
        """Return the page for a browser."""
        from_cdn = request.query_params.get("from") == "cdn"
        headers = {} if from_cdn else {"Content-Security-Policy": graphiql.CONTENT_SECURITY_POLICY}
        return HTMLResponse(graphiql.page(from_cdn=from_cdn), headers=headers)

    async def run(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer, and close the files that were uploaded, which Strawberry leaves open."""
        try:
            return await super().run(request, *args, **kwargs)
        finally:
            if isinstance(request, Request):
                await request.close()

    def decode_json(self, data: str | bytes) -> object:
        """Return what JSON says. Raises JSONDecodeError, the one error that Strawberry expects, for all else.

        Deep nesting, bytes that are no UTF-8, and integers of thousands of digits each have another.
        """
        try:
            return json.loads(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise json.JSONDecodeError("not readable", "", 0) from error

    async def parse_multipart(self, request: AsyncHTTPRequestAdapter) -> dict[str, str]:
        """Return what a form asks for, with its files in their places."""
        form = (await request.get_form_data()).form
        if not all(isinstance(form.get(name), str) for name in ("operations", "map")):
            raise HTTPException(400, MALFORMED)
        return await super().parse_multipart(request)

    async def parse_http_body(
        self, request: AsyncHTTPRequestAdapter
    ) -> GraphQLRequestData | list[GraphQLRequestData]:
        """Return what is asked for. Strawberry takes a body for well-formed as soon as it is JSON."""
        try:
            data = await super().parse_http_body(request)
        except UNREADABLE as error:
            raise HTTPException(400, MALFORMED) from error
        if isinstance(data, GraphQLRequestData) and not _is_operation_name(data.operation_name):
            raise HTTPException(400, BAD_OPERATION_NAME)
        return data

    async def execute_single(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Return an operation's result; a subscription is told where it would have one."""
        try:
            return await super().execute_single(*args, **kwargs)
        except HTTPException as error:
            cause = error.__cause__
            if (
                isinstance(cause, InvalidOperationTypeError)
                and cause.operation_type is OperationType.SUBSCRIPTION
            ):
                raise HTTPException(400, SUBSCRIPTION_OVER_HTTP) from cause
            raise


def _is_operation_name(name: object) -> bool:
    return name is None or (isinstance(name, str) and is_unicode(name))
