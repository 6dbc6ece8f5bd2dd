"""The /graphql endpoint: GraphQL over HTTP and graphql-transport-ws, and GraphiQL for browsers."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from gql_server.api import graphiql
from gql_server.api.context import Context
from gql_server.api.schema import schema
from gql_server.server import Server

CONNECTION_INIT_TIMEOUT = timedelta(seconds=10)
MAX_OPERATIONS_PER_SOCKET = 100


class GraphQLView(GraphQL[Context, None]):
    """Strawberry's ASGI view with this server's context and page."""

    def __init__(self, server: Server) -> None:
        # graphql-ws, the legacy protocol, let clients skip the connection's handshake; it is not offered.
        super().__init__(
            schema,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=CONNECTION_INIT_TIMEOUT,
            max_subscriptions_per_connection=MAX_OPERATIONS_PER_SOCKET,
            multipart_uploads_enabled=True,
        )
        self._server = server

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """Return the context of a request, or of a whole socket."""
        return Context(self._server)

    async def render_graphql_ide(self, request: Request) -> Response:
        """Return the page for a browser."""
        from_cdn = request.query_params.get("from") == "cdn"
        headers = {} if from_cdn else {"Content-Security-Policy": graphiql.CONTENT_SECURITY_POLICY}
        return HTMLResponse(graphiql.page(from_cdn=from_cdn), headers=headers)
