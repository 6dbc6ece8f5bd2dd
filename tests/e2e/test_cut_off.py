"""Subscribers whose connections are cut off, and who come back with the last number that they know."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError
from gql.transport.websockets import WebsocketsTransport

from tests.e2e.client import api
from tests.e2e.test_workers import start_capture
from tests.support.server_process import server_process

SUBSCRIBERS = 200
AT_ONCE = 20
EVENTS_TO_A_CUT = 40
DOCUMENT = """subscription($id: ID!, $after: Int!) { jobProgress(id: $id, after: $after) {
  sequence ... on JobStatusChanged { status } } }"""


class Subscriber:
    """Follows a job over one connection after the other."""

    def __init__(self, url: str, job_id: str, chance: random.Random) -> None:
        self._url = url
        self._job_id = job_id
        self._chance = chance
        self.events: list[dict[str, Any]] = []
        self.cuts = 0

    async def follow(self) -> None:
        """Come back until the subscription completes, with at least one cut before."""
        while not await self._connection():
            self.cuts += 1

    async def _connection(self) -> bool:
        """Return whether the subscription has completed, and not been cut off."""
        transport = WebsocketsTransport(self._url, subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL])
        rest = self._chance.randrange(EVENTS_TO_A_CUT) if self.cuts < 4 else None
        cut = False
        try:
            async with Client(transport=transport) as session:
                after = self.events[-1]["sequence"] if self.events else 0
                if rest == 0:
                    cut = cut_off(transport)
                variables = {"id": self._job_id, "after": after}
                async for data in session.subscribe(GraphQLRequest(DOCUMENT, variable_values=variables)):
                    self.events.append(data["jobProgress"])
                    if rest is not None and len(self.events) >= rest + after and not cut:
                        cut = cut_off(transport)  # What has come by then is still read.
        except TransportError:
            assert cut
        return not cut


def cut_off(transport: WebsocketsTransport) -> bool:
    """Reset the TCP connection: nothing is said to the other side."""
    socket: Any = transport.adapter
    socket.websocket.transport.abort()
    return True


@pytest.mark.slow
async def test_a_subscriber_that_is_cut_off_and_comes_back_gets_each_event_exactly_once(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "PROGRESS_INTERVAL_SECONDS": "0.001"}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            job_id = await start_capture(client, tiny_model_dir, sampleLimit=400)
            url = f"{server.url.replace('http', 'ws')}/graphql"
            subscribers = [Subscriber(url, job_id, random.Random(seed)) for seed in range(SUBSCRIBERS)]
            room = asyncio.Semaphore(AT_ONCE)

            async def follow(subscriber: Subscriber) -> None:
                async with room:
                    await subscriber.follow()

            await asyncio.gather(*(follow(subscriber) for subscriber in subscribers))
            query = "query($id: ID!) { job(id: $id) { lastSequence status } }"
            job = (await client.ask(query, id=job_id))["job"]
    assert job["status"] == "SUCCEEDED"
    for subscriber in subscribers:
        sequences = [event["sequence"] for event in subscriber.events]
        assert sequences == list(range(1, job["lastSequence"] + 1))
        assert subscriber.events[-1]["status"] == "SUCCEEDED"
    assert job["lastSequence"] > 100
    assert sum(subscriber.cuts for subscriber in subscribers) > 3 * SUBSCRIBERS
