"""The tour's way to the API: one question over HTTP, a job's events over a WebSocket."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import httpx
from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

from gql_server.tour import documents

ANSWER_SECONDS = 300
"""The longest that the tour waits for one answer; the first generation may wait for the model to load."""
SOCKET_TRIES = 5


class TourError(Exception):
    """The tour cannot go on; the message says why in a sentence."""


class Api(Protocol):
    """What the tour needs of a server."""

    async def ask(self, document: str, **variables: Any) -> Any:
        """Return the data of one query or mutation; a refusal in its ``result`` is a TourError."""
        ...

    def events(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        """Give a job's events from the first to its end."""
        ...

    async def has_explorer(self) -> bool:
        """Say whether the server shows the explorer's pages."""
        ...


class RemoteApi:
    """A server at a URL such as http://127.0.0.1:8000."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http_url = f"{url}/graphql"
        self._socket_url = f"ws{self._http_url.removeprefix('http')}"

    async def ask(self, document: str, **variables: Any) -> Any:
        """Return the data of one query or mutation; a refusal in its ``result`` is a TourError."""
        transport = HTTPXAsyncTransport(url=self._http_url, timeout=ANSWER_SECONDS)
        try:
            async with Client(transport=transport, execute_timeout=ANSWER_SECONDS) as session:
                data = await session.execute(GraphQLRequest(document, variable_values=variables))
        except (TransportError, httpx.HTTPError) as error:
            raise TourError(_reason(error)) from error
        return checked(data)

    async def events(self, job_id: str) -> AsyncIterator[dict[str, Any]]:
        """Give a job's events from the first to its end; after a lost connection, from where it broke off."""
        after = 0
        for tries_left in reversed(range(SOCKET_TRIES)):
            try:
                async for event in self._events_after(job_id, after):
                    after = event["sequence"]
                    yield event
                return
            except (TransportError, OSError) as error:
                if isinstance(error, TransportQueryError) or not tries_left:
                    raise TourError(_reason(error)) from error
                await asyncio.sleep(1)

    async def has_explorer(self) -> bool:
        """Say whether the server shows the explorer's pages."""
        async with httpx.AsyncClient(base_url=self._url, timeout=ANSWER_SECONDS) as client:
            try:
                return await shows_explorer(client)
            except httpx.HTTPError as error:
                raise TourError(_reason(error)) from error

    async def _events_after(self, job_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
        request = GraphQLRequest(documents.JOB_PROGRESS, variable_values={"id": job_id, "after": after})
        async with Client(transport=WebsocketsTransport(url=self._socket_url)) as session:
            async for data in session.subscribe(request):
                yield data["jobProgress"]


def checked(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an answer's data.

    Raises:
        TourError: Its ``result`` is a refusal, which has a code and a message.
    """
    result = data.get("result")
    if isinstance(result, Mapping) and "code" in result:
        raise TourError(f"The server refused: {result['message']}")
    return data


async def shows_explorer(client: httpx.AsyncClient) -> bool:
    """Say whether / is the explorer, rather than how to build it or (switched off) the way to GraphiQL."""
    page = await client.get("/")
    return "/static/explorer/" in page.text


async def wait_until_healthy(url: str, *, seconds: float = 60) -> None:
    """Wait until the server answers that it can serve.

    Raises:
        TourError: It has not within the time.
    """
    deadline = time.monotonic() + seconds
    async with httpx.AsyncClient() as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"{url}/healthz")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise TourError(f"No server answered at {url} within {seconds:.0f} seconds.")


def _reason(error: Exception) -> str:
    if isinstance(error, TransportQueryError) and error.errors:
        return f"The server answered with an error: {error.errors[0].get('message')}"
    return f"The connection to the server failed: {error or type(error).__name__}"
