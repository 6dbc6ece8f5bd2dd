"""Who has not shown the token asks seldom, and who guesses it waits; whoever has it does neither."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gql_server.api.transport import intake
from gql_server.limits import rate_limits
from gql_server.limits.rate_limits import Rates
from gql_server.services.app_context import AppContext
from tests.support.serving import client_of

TOKEN = "open-sesame"
QUERY = {"query": "{ __typename }"}
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


def test_an_address_may_ask_so_often_at_once_and_then_so_often_a_second() -> None:
    seconds = 0.0
    counted = Rates(lambda: seconds)
    assert [counted.allows("a") for _ in range(rate_limits.BURST + 1)] == [True] * rate_limits.BURST + [False]
    assert counted.allows("b"), "another address has its own"
    seconds = 1.0
    assert sum(counted.allows("a") for _ in range(100)) == rate_limits.PER_SECOND


def test_guesses_are_answered_later_and_later_and_forgiven_with_time() -> None:
    seconds = 0.0
    counted = Rates(lambda: seconds)
    waits = [counted.guessed("a") for _ in range(rate_limits.FREE_GUESSES + 8)]
    assert waits[: rate_limits.FREE_GUESSES] == [0.0] * rate_limits.FREE_GUESSES
    assert waits[rate_limits.FREE_GUESSES :] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert counted.guessed("b") == 0.0
    seconds = 100 * rate_limits.FORGIVEN_SECONDS
    assert counted.guessed("a") == 0.0


def test_of_many_addresses_the_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_ADDRESSES", 2)
    counted = Rates(lambda: 0.0)
    for _ in range(rate_limits.BURST):
        counted.allows("a")
    counted.allows("b")
    assert not counted.allows("a")
    counted.allows("b"), counted.allows("c")
    assert counted.allows("a"), "it was forgotten"


@pytest.fixture
def guesses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give a list that fills with the addresses that have guessed; nobody waits."""
    found: list[str] = []

    def guessed(_self: Rates, address: str) -> float:
        found.append(address)
        return 0.0

    monkeypatch.setattr(Rates, "guessed", guessed)
    return found


async def asks(client: httpx.AsyncClient, **more: Any) -> int:
    return (await client.post("/graphql", json=QUERY, **more)).status_code


async def test_wrong_tokens_are_guesses_and_none_at_all_is_not(
    server: AppContext, guesses: list[str]
) -> None:
    async with client_of(server, token=SecretStr(TOKEN)) as client:
        assert await asks(client) == 401
        assert await asks(client, headers=RIGHT) == 200
        assert guesses == []
        assert await asks(client, headers={"Authorization": "Bearer wrong"}) == 401
        sent = await client.post("/sign-in", data={"token": "wrong"})
        assert (sent.status_code, guesses) == (401, ["127.0.0.1"] * 2)


async def test_who_asks_too_often_without_the_token_is_told_and_who_has_it_is_not(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "PER_SECOND", 0)
    async with client_of(server, token=SecretStr(TOKEN)) as client:
        codes = [await asks(client) for _ in range(rate_limits.BURST + 50)]
        assert codes == [401] * rate_limits.BURST + [429] * 50
        assert (await client.get("/healthz/live")).status_code == 429
        assert await asks(client, headers=RIGHT) == 200


async def test_a_form_of_a_stranger_holds_no_place_for_an_upload(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_UPLOADS", 1)
    began, end = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        began.set()
        await end.wait()
        yield b"--x--\r\n"

    multipart = {"Content-Type": "multipart/form-data; boundary=x", "X-Requested-With": "x"}
    async with client_of(server, token=SecretStr(TOKEN)) as client:
        headers = multipart | {"Content-Length": "12"}
        stranger = asyncio.ensure_future(client.post("/sign-in", content=slowly(), headers=headers))
        await began.wait()
        uploaded = await client.post("/graphql", content=b"--x--\r\n", headers=multipart | RIGHT)
        assert uploaded.status_code == 400, "a form with nothing in it, which is no matter of places"
        end.set()
        assert (await stranger).status_code == 400
        large = await client.post("/sign-in", content=b"x" * 100_000)
        assert large.status_code == 413
