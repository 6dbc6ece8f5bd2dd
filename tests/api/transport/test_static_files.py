"""The pages' files: which form a browser gets, what it is told of keeping it, and what it may not read."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from gql_server.api.transport.static_files import BundledFiles

SCRIPT = b"export const answer = 42;\n" * 100
PACKED = gzip.compress(SCRIPT)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Give a script with its packed form, hashed and not, and a short one without, in a folder of its own."""
    static = tmp_path / "static"
    (static / "explorer").mkdir(parents=True)
    for name in ("page.js", "explorer/index-B3x_9aZq.js"):
        (static / name).write_bytes(SCRIPT)
        (static / f"{name}.gz").write_bytes(PACKED)
    (static / "short.css").write_bytes(b"p { margin: 0 }")
    (tmp_path / "secret.js").write_bytes(b"outside")
    return static


@pytest.fixture
async def client(directory: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=[Mount("/static", BundledFiles(directory))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        del client.headers["accept-encoding"]
        yield client


async def fetch(client: httpx.AsyncClient, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """Return an answer with its body as it came."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("GET", f"/static/{path}", headers=sent) as response:
        return response, b"".join([part async for part in response.aiter_raw()])


@pytest.mark.parametrize(
    ("accepted", "packed"), [(None, False), ("br, gzip", True), ("gzip;q=0, br", False), ("br", False)]
)
async def test_a_client_that_takes_gzip_gets_the_packed_file_as_the_type_that_it_is(
    client: httpx.AsyncClient, accepted: str | None, packed: bool
) -> None:
    response, body = await fetch(
        client, "page.js", **({} if accepted is None else {"accept_encoding": accepted})
    )

    assert body == (PACKED if packed else SCRIPT)
    assert response.headers.get("content-encoding") == ("gzip" if packed else None)
    assert int(response.headers["content-length"]) == len(body)
    assert response.headers["content-type"].startswith("text/javascript")
    assert response.headers["vary"] == "Accept-Encoding"


async def test_the_two_forms_have_tags_of_their_own_and_are_known_again(
    client: httpx.AsyncClient,
) -> None:
    plain, _ = await fetch(client, "page.js")
    packed, _ = await fetch(client, "page.js", accept_encoding="gzip")
    assert plain.headers["etag"] != packed.headers["etag"]

    for accepted, known in (("gzip", packed), ("identity", plain)):
        same, body = await fetch(
            client, "page.js", accept_encoding=accepted, if_none_match=known.headers["etag"]
        )
        assert (same.status_code, body) == (304, b"")
        assert same.headers["vary"] == "Accept-Encoding"
        assert same.headers["cache-control"] == "no-cache"
    other, body = await fetch(
        client, "page.js", accept_encoding="identity", if_none_match=packed.headers["etag"]
    )
    assert (other.status_code, body) == (200, SCRIPT)


@pytest.mark.parametrize(
    ("name", "for_good"),
    [
        ("explorer/index-B3x_9aZq.js", True),
        ("explorer/index-a_-bc0de.css", True),
        ("explorer/index-WNGYXL4P.js.map", True),
        ("page.js", False),
        ("index.html", False),
        ("explorer/neuron-activity.js", False),
        ("explorer/neuron-activity.test.js", False),
        ("explorer/top-language.js", False),
    ],
)
async def test_what_has_a_hash_in_its_name_is_kept_for_good_and_else_is_asked_for_again(
    client: httpx.AsyncClient, directory: Path, name: str, for_good: bool
) -> None:
    (directory / name).write_bytes(b"x")
    response, _ = await fetch(client, name)

    expected = "public, max-age=31536000, immutable" if for_good else "no-cache"
    assert response.headers["cache-control"] == expected


async def test_a_file_without_a_packed_form_is_sent_as_it_is(client: httpx.AsyncClient) -> None:
    response, body = await fetch(client, "short.css", accept_encoding="gzip")

    assert body == b"p { margin: 0 }"
    assert "content-encoding" not in response.headers
    assert response.headers["content-type"].startswith("text/css")


async def test_a_part_of_the_packed_file_is_a_part_of_what_would_be_sent(client: httpx.AsyncClient) -> None:
    response, body = await fetch(client, "page.js", accept_encoding="gzip", range="bytes=2-5")

    assert (response.status_code, body) == (206, PACKED[2:6])


@pytest.mark.parametrize(
    "path", ["page.js.gz", "../secret.js", "%2e%2e/secret.js", "explorer", "explorer/", "none.js", ""]
)
async def test_nothing_else_is_there(client: httpx.AsyncClient, path: str) -> None:
    response, _ = await fetch(client, path)

    assert response.status_code == 404


async def test_before_the_pages_are_built_their_files_are_not_there(tmp_path: Path) -> None:
    files = BundledFiles(tmp_path / "none")
    app = Starlette(routes=[Mount("/static", files)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get("/static/page.js")).status_code == 404
