"""The /graphql endpoint: GraphQL over HTTP and graphql-transport-ws, and GraphiQL for browsers."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

from cross_web import AsyncHTTPRequestAdapter, FormData, HTTPException, StarletteRequestAdapter
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException as FormRefused
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.streaming import JSONEncoder, SSETransport
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from gql_server.api.common import ErrorCode
from gql_server.api.context import COMPLETE, Context, event_id
from gql_server.api.operations.json_text import byte_count, json_bytes
from gql_server.api.operations.limits import FAR_BEYOND, too_complex
from gql_server.api.operations.request_checks import is_unicode
from gql_server.api.schema import schema
from gql_server.api.transport import graphiql, persisted_queries
from gql_server.api.transport.access import Access
from gql_server.api.transport.answers import NO_PAGE, RefusedRequest, deny
from gql_server.api.transport.negotiation import EVENT_STREAM, GRAPHQL_JSON, JSON, media_type_for, names
from gql_server.api.transport.socket import MAX_NAME, OpenSockets, SocketAdapter, SocketHandler
from gql_server.errors import QueueFull
from gql_server.limits.clients import admit
from gql_server.limits.json_size import PLAIN_BYTES, count_values, may_have_many_values
from gql_server.limits.rate_limits import Rates
from gql_server.processes.reader_pool import ReadingEnded
from gql_server.services.app_context import AppContext
from gql_server.telemetry.references import TRANSPORT

LAST_EVENT_ID = "last-event-id"
"""The header in which an EventSource that connects again says what it had last."""

MALFORMED = "The request is no GraphQL request as JSON, nor as multipart/form-data with operations and map."
BAD_OPERATION_NAME = f"operationName must be valid text of at most {MAX_NAME} characters, or null."
NOT_ACCEPTABLE = (
    "The answer can be application/graphql-response+json, application/json or text/event-stream;"
    " Accept names none of them."
)
UNSUPPORTED = (
    "The body must be application/json or multipart/form-data in UTF-8; Content-Type says otherwise."
)
MUTATION_BY_GET = "A mutation changes something, so it goes by POST, not by GET."
SUBSCRIPTION_OVER_HTTP = "Subscriptions go over WebSocket (graphql-transport-ws) or text/event-stream."

MAX_FILES = 20
"""The limit of an upload's files; each has up to 1 MiB in memory before it goes to the disk."""
MAX_FIELDS = 10
"""The limit of an upload's fields besides the files."""

UNREADABLE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    RecursionError,
    MultiPartException,
    FormRefused,  # Inside of a Starlette application, in MultiPartException's place.
)
"""Exceptions of Strawberry and Starlette for malformed bodies."""


class _OnlyAHashError(Exception):
    """The request names a persisted query instead of sending its text."""


class RequestAdapter(StarletteRequestAdapter):
    """A request whose media type may be written in any case."""

    async def get_form_data(self) -> FormData:
        """Return a form that has no more parts than a GraphQL request may need."""
        form = await self._request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS)
        return FormData(files=form, form=form)

    @property
    def content_type(self) -> str | None:
        """The Content-Type header, as Strawberry compares it."""
        return (super().content_type or "").lower()


class EventStream(SSETransport):
    """Server-sent events with lines that end as every client's parser knows, and IDs to go on from."""

    def encode_next(self, response: GraphQLHTTPResponse, encode_json: JSONEncoder) -> str:
        """Return an event; one of a job's log has its sequence number as its ID."""
        id = event_id.get()
        return (f"id: {id}\n" if id else "") + super().encode_next(response, encode_json)

    def encode_complete(self) -> str:
        """Return the last event, with an ID by which a reconnection is known to have it."""
        return f"id: {COMPLETE}\n{super().encode_complete()}"

    def encode_event(self, event: str, data: str | None = None) -> str:
        """Return an event; the standard allows either end of a line, but urql's parser does not."""
        return super().encode_event(event, data).replace("\r\n", "\n")

    def encode_comment(self, comment: str) -> str:
        """Return a comment, which keeps the connection alive."""
        return super().encode_comment(comment).replace("\r\n", "\n")


class GraphQLView(GraphQL[Context, None]):
    """Strawberry's ASGI view with this server's context and page."""

    request_adapter_class = RequestAdapter
    stream_transport_classes_by_protocol = {GRAPHQL_SSE_PROTOCOL: EventStream}
    graphql_transport_ws_handler_class = SocketHandler
    websocket_adapter_class = SocketAdapter

    def __init__(self, server: AppContext, access: Access, rates: Rates) -> None:
        settings = server.settings
        # graphql-ws, the legacy protocol, let clients skip the connection's handshake; it is not offered.
        super().__init__(
            schema,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL],
            connection_init_wait_timeout=timedelta(seconds=settings.socket_init_seconds),
            max_subscriptions_per_connection=None,  # SocketHandler tells which limit it is.
            multipart_uploads_enabled=True,
            allowed_origins=settings.allowed_origins,
        )
        self.settings = settings
        self.open_sockets = OpenSockets(settings.max_sockets)
        self._server = server
        self._access, self._rates = access, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or serve a socket."""
        if scope["type"] == "websocket":
            await self._serve_socket(WebSocket(scope, receive, send))
            return
        listening = _Listening(receive, is_whole=scope["method"] != "POST")
        request = Request(scope, listening.receive)
        async with AsyncExitStack() as request.state.streams:
            try:
                async with listening:
                    response = await self._answer(request)
            except HTTPException as refusal:
                headers = {"Allow": "GET, POST"} if refusal.status_code == 405 else None
                response = RefusedRequest(refusal.status_code, refusal.reason, _accept(request), headers)
            except _OnlyAHashError:
                # With status 200, as that protocol has it: clients look at the error, not at the status.
                response = JSONResponse({"errors": [persisted_queries.error()]}, headers=NO_PAGE)
            if not listening.is_gone:
                await response(scope, receive, send)

    async def _serve_socket(self, socket: WebSocket) -> None:
        if await self.open_sockets.make_room():
            await self.run(socket)
        else:
            await deny(socket, RefusedRequest(503, "Too many WebSockets are open; try again later."))

    async def _answer(self, request: Request) -> Response:
        if self._wants_page(request):
            return await self.render_graphql_ide(request)
        if request.method == "GET" and request.headers.get(LAST_EVENT_ID) == COMPLETE:
            # A browser's EventSource connects again after every end, but not after this status.
            return Response(status_code=204)
        if media_type_for(_accept(request)) is None:
            raise HTTPException(406, NOT_ACCEPTABLE)
        if request.method == "POST" and not _is_readable(request):
            raise HTTPException(415, UNSUPPORTED)
        response: Response = await self.run(request)
        return response

    def _wants_page(self, request: Request) -> bool:
        # curl and programs take anything; a browser that is led here names HTML.
        asks = request.method != "GET" or "query" in request.query_params
        return not asks and names(_accept(request), "text/html")

    def should_render_graphql_ide(self, request: Any) -> bool:
        """Return False: requests for the page are answered before."""
        return False

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """Return the context of a request, or of a whole socket."""
        streaming = isinstance(request, WebSocket) or media_type_for(_accept(request)) == EVENT_STREAM
        # What comes over HTTP has passed the guard.
        allowed = not isinstance(request, WebSocket) or self._access.allows(request.headers)
        context = Context(self._server, streaming=streaming, authenticated=allowed)
        context.admit = partial(admit, request.scope)
        context.address = request.client.host if request.client else ""
        context.last_event_id = request.headers.get(LAST_EVENT_ID) if streaming else None
        return context

    async def on_ws_connect(self, context: Context) -> UnsetType:
        """Take a connection_init, or refuse it with 4403 where nothing has brought the token."""
        given = {name.lower(): value for name, value in (context.connection_params or {}).items()}
        if not context.authenticated and not self._access.allows_authorization(given.get("authorization")):
            if "authorization" in given:
                await asyncio.sleep(self._rates.guessed(context.address))
            raise ConnectionRejectionError
        context.admit()
        nothing: UnsetType = UNSET
        return nothing

    async def render_graphql_ide(self, request: Request) -> Response:
        """Return the page for a browser."""
        return graphiql.page(self.settings, from_cdn=request.query_params.get("from") == "cdn")

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        """Return the response that carries the answer's media type."""
        response: Response = await super().get_sub_response(request)
        response.media_type = media_type_for(_accept(request))
        return response

    async def execute_operation(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Return an operation's result; a stream of them ends with the request, whatever ends that."""
        result = await super().execute_operation(request, *args, **kwargs)
        if isinstance(result, AsyncGenerator):
            request.state.streams.push_async_callback(result.aclose)
        return result

    async def create_streaming_response(
        self,
        request: Any,
        stream: Callable[[], Any],
        sub_response: Response,
        headers: Mapping[str, str],
    ) -> Response:
        """Return the response of a stream, which ends with the request: Starlette leaves it open."""
        events = stream()
        request.state.streams.push_async_callback(events.aclose)
        return await super().create_streaming_response(request, lambda: events, sub_response, headers)

    def create_response(self, response_data: Any, sub_response: Response) -> Response:
        """Return an operation's result, with the status that the media type has for it."""
        media_type = sub_response.media_type or JSON
        body = self.encode_json(response_data)
        if self.is_too_long(body):
            response_data = self._too_long(body)
            body = self.encode_json(response_data)
        status = _status_of(response_data) if media_type == GRAPHQL_JSON else 200
        headers = {"Content-Type": f"{media_type}; charset=utf-8"} | NO_PAGE
        return Response(body, status, headers)

    def encode_json(self, data: object) -> bytes:
        """Return a result or a message as JSON."""
        return json_bytes(data)

    def encode_json_string(self, data: object) -> str:
        """Return a result or a message as text; one that is too long is replaced by an error."""
        text = super().encode_json_string(data)
        if not self.is_too_long(text):
            return text
        refusal = self._too_long(text)
        # Over server-sent events it is the result itself.
        message = {**data, "payload": refusal} if isinstance(data, dict) and "payload" in data else refusal
        return super().encode_json_string(message)

    def is_too_long(self, text: str | bytes) -> bool:
        """Return whether an answer has more bytes than one may have."""
        return byte_count(text) > self.settings.max_answer_bytes

    def _too_long(self, text: str | bytes) -> dict[str, Any]:
        limit = self.settings.max_answer_bytes
        found = byte_count(text)
        sentence = f"The answer has {found:,} bytes; the limit is {limit:,}. Ask for less at once."
        return {"errors": [too_complex("bytes", limit, found, sentence).formatted]}

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """Return a result as it is sent: without data where the operation was not executed."""
        answer = await super().process_result(request, result)
        if answer.get("data") is None and not any(error.path for error in result.errors or []):
            answer.pop("data", None)
        return answer

    async def run(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer, and close the files that were uploaded, which Strawberry leaves open."""
        try:
            return await super().run(request, *args, **kwargs)
        finally:
            if isinstance(request, Request):
                await request.close()

    def decode_json(self, data: str | bytes) -> object:
        """Return parsed JSON. Raises JSONDecodeError, the only error that Strawberry expects, for all else.

        Deep nesting, bytes that are no UTF-8, and integers of thousands of digits each have another.
        """
        try:
            return json.loads(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise json.JSONDecodeError("not readable", "", 0) from error

    async def check_values(self, text: bytes) -> None:
        """Refuse JSON with so many values that it would hold up everybody to make them.

        Raises:
            HTTPException: It has too many, or cannot be read.
        """
        if len(text) <= PLAIN_BYTES:
            return
        # Many that have come together would be looked at in one step of the loop.
        async with self._server.operation_turns.bodies.turn(object()):
            may_have_many = may_have_many_values(text)
        if not may_have_many:
            return
        try:
            count = await self._server.readers.bodies.run(count_values, text)
        except (ReadingEnded, QueueFull) as error:
            raise HTTPException(503, f"The request could not be read: {error}") from error
        if count is None:
            raise HTTPException(400, MALFORMED)
        limit = FAR_BEYOND * self.settings.max_variable_values
        if count > limit:
            sentence = f"The request has {count:,} values; the limit is {limit:,}."
            raise HTTPException(413, f"{sentence} Send a long list as a file.")

    async def parse_multipart(self, request: AsyncHTTPRequestAdapter) -> dict[str, str]:
        """Return what a form asks for, with its files in their places."""
        form = (await request.get_form_data()).form
        for name in ("operations", "map"):
            text = form.get(name)
            if not isinstance(text, str):
                raise HTTPException(400, MALFORMED)
            await self.check_values(text.encode(errors="surrogatepass"))
        return await super().parse_multipart(request)

    async def parse_http_body(
        self, request: AsyncHTTPRequestAdapter
    ) -> GraphQLRequestData | list[GraphQLRequestData]:
        """Return what is asked for. Strawberry takes a body for well-formed as soon as it is JSON."""
        try:
            if request.method == "POST" and "application/json" in (request.content_type or ""):
                await self.check_values(await request.get_body())
            data = await super().parse_http_body(request)
        except UNREADABLE as error:
            raise HTTPException(400, MALFORMED) from error
        if isinstance(data, GraphQLRequestData):
            if persisted_queries.is_only_a_hash(data.query, data.extensions):
                raise _OnlyAHashError
            if not _is_operation_name(data.operation_name):
                raise HTTPException(400, BAD_OPERATION_NAME)
            # Strawberry streams to whoever names event streams at all.
            streams = media_type_for(request.headers.get("accept")) == EVENT_STREAM
            data.protocol = "sse" if streams else "http"
            TRANSPORT.set(data.protocol)
        return data

    async def execute_single(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Return an operation's result; a wrong transport or method is refused with the right one."""
        try:
            return await super().execute_single(*args, **kwargs)
        except HTTPException as error:
            cause = error.__cause__
            if not isinstance(cause, InvalidOperationTypeError):
                raise
            if cause.operation_type is OperationType.SUBSCRIPTION:
                raise HTTPException(400, SUBSCRIPTION_OVER_HTTP) from cause
            raise HTTPException(405, MUTATION_BY_GET) from cause


class _Listening:
    """Cancels the answering of a request when its client goes."""

    def __init__(self, receive: Receive, is_whole: bool) -> None:
        """Take what the request comes from; ``is_whole`` says that it has no body."""
        self.is_gone = False
        self._receive = receive
        self._whole = asyncio.Event()
        if is_whole:
            self._whole.set()

    async def receive(self) -> Message:
        """Return the next part of the request."""
        message = await self._receive()
        if not message.get("more_body", False):
            self._whole.set()
        return message

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._listening = asyncio.create_task(self._listen())

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._listening.cancel()
        if not self.is_gone:
            return False
        # As asyncio.timeout does: somebody else may have canceled it as well.
        return self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError

    async def _listen(self) -> None:
        await self._whole.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._task.cancel()


def _accept(request: Request | WebSocket) -> str | None:
    return ", ".join(request.headers.getlist("accept")) or None


def _is_readable(request: Request) -> bool:
    """Return whether a body is of a type that is understood, in an encoding that JSON has."""
    media_type, parameters = parse_options_header(request.headers.get("content-type"))
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1").lower()
    return media_type in (b"application/json", b"multipart/form-data") and charset in ("utf-8", "utf8")


def _status_of(answer: Any) -> int:
    """Return the status that application/graphql-response+json has for an answer."""
    if "data" in answer:
        return 200
    codes = [error.get("extensions", {}).get("code") for error in answer["errors"]]
    return 500 if ErrorCode.INTERNAL in codes else 400


def _is_operation_name(name: object) -> bool:
    return name is None or (isinstance(name, str) and len(name) <= MAX_NAME and is_unicode(name))
