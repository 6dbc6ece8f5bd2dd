"""A client of the public API that is not ours: gql, over HTTP and graphql-transport-ws."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

TIMEOUT_SECONDS = 120
REFUSAL = "... on Error { code message }"


class Api:
    """Sends documents to a server."""

    def __init__(self, http: AsyncClientSession, socket: AsyncClientSession) -> None:
        self._http = http
        self._socket = socket

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a query or mutation; raises on errors."""
        data: dict[str, Any] = await self._http.execute(GraphQLRequest(document, variable_values=variables))
        return data

    async def do(self, field: str, selection: str, **arguments: tuple[str, Any]) -> dict[str, Any]:
        """Return the result of one mutation or query field; arguments are given as (type, value)."""
        return await self._one("mutation", field, selection, arguments)

    async def get(self, field: str, selection: str, **arguments: tuple[str, Any]) -> dict[str, Any]:
        """Return one query field that has a union of results."""
        return await self._one("query", field, selection, arguments)

    async def _one(
        self, operation: str, field: str, selection: str, arguments: dict[str, tuple[str, Any]]
    ) -> dict[str, Any]:
        declared = ", ".join(f"${name}: {type}" for name, (type, _) in arguments.items())
        passed = ", ".join(f"{name}: ${name}" for name in arguments)
        document = f"{operation}({declared}) {{ {field}({passed}) {{ __typename {selection} {REFUSAL} }} }}"
        data = await self.ask(document, **{name: value for name, (_, value) in arguments.items()})
        result: dict[str, Any] = data[field]
        return result

    async def listen(self, document: str, **variables: Any) -> AsyncIterator[dict[str, Any]]:
        """Give the data of a subscription's events."""
        async for data in self._socket.subscribe(GraphQLRequest(document, variable_values=variables)):
            yield data

    async def follow(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return all events of a job, having waited for its end."""
        document = """
            subscription($id: ID!, $after: Int!) { jobProgress(id: $id, after: $after) {
              __typename sequence job { status error }
              ... on JobStatusChanged { status error } ... on JobLogged { message }
              ... on JobProgressed { progress { fraction completed total unit } }
              ... on TrainingStepped { point { step explainedVariance l0 deadFraction } } } }"""
        return [data["jobProgress"] async for data in self.listen(document, id=job_id, after=after)]

    async def run_job(self, mutation: str, **arguments: tuple[str, Any]) -> tuple[str, list[dict[str, Any]]]:
        """Launch a job that must succeed; returns the ID of its result and its events."""
        launched = await self.do(mutation, "... on JobLaunched { job { id } }", **arguments)
        assert launched["__typename"] == "JobLaunched", launched
        events = await self.follow(launched["job"]["id"])
        assert events[-1].get("status") == "SUCCEEDED", events[-1]
        job = await self.ask(
            "query($id: ID!) { job(id: $id) { result { __typename ... on Node { id } } } }",
            id=launched["job"]["id"],
        )
        return job["job"]["result"]["id"], events


@asynccontextmanager
async def api(url: str, token: str = "") -> AsyncIterator[Api]:
    """Give a client of the server at a URL."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    http = HTTPXAsyncTransport(f"{url}/graphql", timeout=TIMEOUT_SECONDS, headers=headers)
    socket = WebsocketsTransport(
        f"{url.replace('http', 'ws')}/graphql",
        headers=headers,
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )
    async with (
        Client(transport=http, execute_timeout=TIMEOUT_SECONDS) as http_session,
        Client(transport=socket, execute_timeout=TIMEOUT_SECONDS) as socket_session,
    ):
        yield Api(http_session, socket_session)


async def load_model(client: Api, path: str, name: str) -> str:
    """Add a language model and load it; returns its ID."""
    added = await client.do(
        "addLanguageModel",
        "... on LanguageModelAdded { languageModel { id } }",
        input=("AddLanguageModelInput!", {"name": name, "source": {"path": path}}),
    )
    assert added["__typename"] == "LanguageModelAdded", added
    id = added["languageModel"]["id"]
    await client.run_job("loadLanguageModel", id=("ID!", id))
    return str(id)
