"""The explorer's addresses and files, built and not, with and without a session, under a proxy's path."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gql_server.api.transport import explorer
from gql_server.services.app_context import AppContext
from tests.support.serving import client_of

SOURCES = Path(__file__).parents[3] / "explorer/src"
SCRIPT = "export const answer = 42; " * 100
INDEX = """<!doctype html>
<html lang="en">
  <head><link rel="icon" href="./icon.svg"><script type="module" src="./assets/index-abc.js"></script></head>
  <body><div id="root" data-root-path=""></div></body>
</html>
"""


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a directory with a small bundle in the place of the explorer's."""
    directory = tmp_path / "static/explorer"
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text(INDEX)
    (directory / "icon.svg").write_text("<svg/>")
    (directory / "assets/index-abc.js").write_text(SCRIPT)
    monkeypatch.setattr(explorer, "DIRECTORY", directory)
    monkeypatch.setattr("gql_server.api.transport.graphiql.STATIC_DIR", tmp_path / "static")
    return directory


@pytest.fixture
async def client(built: Path, server: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of an application with the small bundle."""
    async with client_of(server) as client:
        yield client


def directives(response: httpx.Response) -> dict[str, str]:
    found = (one.strip().partition(" ") for one in response.headers["content-security-policy"].split(";"))
    return {name: sources for name, _, sources in found}


@pytest.mark.parametrize(
    "path", ["/", "/jobs", "/jobs/job_1", "/saes/sae_1/neurons/7", "/compare?sae=a&sae=b"]
)
async def test_each_address_of_the_explorer_shows_its_page(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 200
    assert 'src="/static/explorer/assets/index-abc.js"' in response.text
    assert 'href="/static/explorer/icon.svg"' in response.text
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/nothing", "/jobs/a/b", "/saes", "/static/explorer/assets/nothing.js"])
async def test_what_is_nowhere_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.text) == (404, "Not Found")
    # A browser that is led there is shown the pages, whose script says so; one that asks for a script is not.
    led = await client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert led.status_code == 404 and 'src="/static/explorer/assets/index-abc.js"' in led.text
    assert (await client.post(path, headers={"Accept": "text/html"})).text != led.text
    assert (await client.get(path, headers={"Accept": "*/*"})).text == "Not Found"


def test_the_server_knows_every_route_of_the_pages() -> None:
    paths = re.findall(r'page\(\s*"([^"]+)"', (SOURCES / "app/routes.tsx").read_text())
    assert "/jobs/:id" in paths
    assert {re.sub(r":(\w+)", r"{\1}", path) for path in paths} <= set(explorer.ROUTES)


async def test_scripts_and_styles_come_from_this_server_alone(client: httpx.AsyncClient) -> None:
    policy = directives(await client.get("/"))
    assert policy["default-src"] == "'self'"
    assert "frame-ancestors" in policy
    assert not any("unsafe" in sources or "data:" in sources for sources in policy.values())


async def test_under_a_proxys_path_the_page_and_its_files_stay_there(built: Path, server: AppContext) -> None:
    async with client_of(server, root_path="/lab") as client:
        text = (await client.get("/lab/jobs")).text
        assert 'data-root-path="/lab"' in text
        (script,) = re.findall(r'src="([^"]+)"', text)
        assert script == "/lab/static/explorer/assets/index-abc.js"
        assert (await client.get(script)).text == SCRIPT


async def test_where_it_is_not_built_the_page_says_how_to_build_it(
    built: Path, client: httpx.AsyncClient
) -> None:
    (built / "index.html").unlink()
    response = await client.get("/jobs")
    assert (response.status_code, "make explorer" in response.text) == (200, True)
    assert "<script" not in response.text
    assert "unsafe" not in response.headers["content-security-policy"]


async def test_where_it_is_switched_off_the_root_leads_to_graphql(built: Path, server: AppContext) -> None:
    async with client_of(server, explorer=False) as client:
        root = await client.get("/")
        assert (root.status_code, root.headers["location"]) == (307, "/graphql")
        assert (await client.get("/jobs")).status_code == 404
