"""How answers are written: characters as themselves, and packed for clients that take it."""

import gzip
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from gql_server.api.operations.json_text import byte_count, json_bytes
from gql_server.services.app_context import AppContext
from tests.support.serving import add_language_model, endpoint

NAMES = "{ languageModels { name } }"
NAME = "Modell für Čeština, 日本語 und 🦜"


@pytest.fixture
async def client(server: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(endpoint(server))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        del client.headers["accept-encoding"]
        for number in range(30):
            await add_language_model(server, name=f"{NAME} {number}")
        yield client


async def raw_answer(client: httpx.AsyncClient, query: str, **headers: str) -> tuple[httpx.Headers, bytes]:
    """Return an answer's headers and its body as it came."""
    async with client.stream("POST", "/graphql", json={"query": query}, headers=headers) as response:
        return response.headers, b"".join([part async for part in response.aiter_raw()])


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        (None, False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0, identity", False),
        ("br, zstd", False),
        ("identity", False),
    ],
)
async def test_an_answer_is_packed_for_clients_that_take_gzip(
    client: httpx.AsyncClient, accepted: str | None, packed: bool
) -> None:
    sent = {} if accepted is None else {"Accept-Encoding": accepted}
    headers, body = await raw_answer(client, NAMES, **sent)
    assert headers.get("content-encoding") == ("gzip" if packed else None)
    assert headers["vary"].lower() == "accept-encoding"
    assert int(headers["content-length"]) == len(body)
    text = gzip.decompress(body) if packed else body
    assert len(json.loads(text)["data"]["languageModels"]) == 30
    assert packed == (len(body) < len(text) / 2)


async def test_a_short_answer_and_a_stream_of_events_are_not_packed(client: httpx.AsyncClient) -> None:
    headers, body = await raw_answer(client, "{ __typename }", **{"Accept-Encoding": "gzip"})
    assert "content-encoding" not in headers and json.loads(body)
    stream = {"Accept-Encoding": "gzip", "Accept": "text/event-stream"}
    headers, body = await raw_answer(client, NAMES, **stream)
    assert "content-encoding" not in headers
    assert len(body) > 1_000 and NAME.encode() in body


async def test_characters_are_written_as_themselves(client: httpx.AsyncClient) -> None:
    _, body = await raw_answer(client, NAMES)
    assert body.count(NAME.encode()) == 30 and b"\\u" not in body


def test_half_of_a_surrogate_pair_is_escaped_since_utf_8_has_no_place_for_it() -> None:
    answer = {"errors": [{"message": "The file 'Größe\udcff.csv' is not there."}], "data": None}
    body = json_bytes(answer)
    assert json.loads(body.decode("ascii")) == answer


def test_the_bytes_of_a_text_are_those_that_are_sent() -> None:
    assert byte_count("für 🦜") == 9 == byte_count("für 🦜".encode())
