"""The explorer in a real browser: each page, signed in, live, by keyboard, with nothing from elsewhere."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from gql_server.api.transport import explorer
from tests.browser.browsing import NEEDS_BROWSER, SIGNING_IN, TOKEN, drive
from tests.support.server_process import RunningServer

pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not explorer.is_built(), reason="needs the explorer's bundle: make explorer"),
]

FIRST_ROUTE_BYTES = 140_000
CHUNK_BYTES = 40_000
ADD = """mutation($path: String!) { addLanguageModel(input: {name: "explored", source: {path: $path}}) {
    ... on LanguageModelAdded { languageModel { id } } ... on Conflict { conflictingId } } }"""
LOAD = "mutation($id: ID!) { loadLanguageModel(id: $id) { ... on JobLaunched { job { id title } } } }"


def ask(server: RunningServer, query: str, **variables: Any) -> Any:
    """Ask as another client of the API, and return the operation's only field."""
    answer = httpx.post(
        f"{server.url}/graphql",
        json={"query": query, "variables": variables},
        headers={"Authorization": f"Bearer {TOKEN}"},
    ).json()
    assert "errors" not in answer
    (field,) = answer["data"].values()
    return field


@pytest.fixture(scope="module")
def job(closed_server: RunningServer, tiny_model_dir: Path) -> Any:
    """Launch a job, which loads the tiny model under a name of its own."""
    added = ask(closed_server, ADD, path=str(tiny_model_dir))
    model = added.get("conflictingId") or added["languageModel"]["id"]
    return ask(closed_server, LOAD, id=model)["job"]


async def test_each_page_is_shown_to_who_is_signed_in_and_can_be_used_by_everybody(
    closed_server: RunningServer, job: Any
) -> None:
    path = f"/jobs/{job['id']}"
    found = await drive(
        "open_pages",
        closed_server.url,
        errors=SIGNING_IN,
        token=TOKEN,
        path=path,
        paths=["/", "/jobs", path, "/jobs/job_nothing"],
        until={path: "Succeeded"},
    )

    pages = found["pages"]
    assert found["told"] == "This is not the token."
    assert "explored" in pages["/"]["text"]
    assert job["title"] in pages["/jobs"]["text"]
    assert pages[path]["title"] == f"{job['title']} · gql-server"
    assert "Capture its activations" in pages[path]["text"]
    assert "There is no such job" in pages["/jobs/job_nothing"]["text"]
    assert {path: page["findings"] for path, page in pages.items()} == {path: [] for path in pages}
    assert {path: page["overflow"] for path, page in pages.items()} == dict.fromkeys(pages, 0)
    assert 0 < pages["/"]["bytes"] <= FIRST_ROUTE_BYTES


async def test_the_keyboard_alone_leads_everywhere(closed_server: RunningServer, job: Any) -> None:
    found = await drive(
        "go_by_keyboard", closed_server.url, errors=SIGNING_IN, token=TOKEN, path="/", job=job
    )

    assert found["skip"] == "Skip to the content"
    assert found["heading"] == "Jobs"
    assert found["address"] == f"{closed_server.url}/jobs"


def test_no_chunk_besides_the_first_is_large() -> None:
    packed = {path.name: path.stat().st_size for path in explorer.DIRECTORY.glob("assets/*.js.gz")}
    (first,) = [name for name in packed if name.startswith("index-")]
    assert {name: size for name, size in packed.items() if size > CHUNK_BYTES} == {first: packed[first]}
