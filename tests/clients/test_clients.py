"""Each client of docs/clients.md asks, launches, follows, uploads and is refused, on a real server."""

from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import (
    Site,
    drive,
    needs_ariadne_codegen,
    needs_node,
    needs_node_modules,
)
from tests.clients.cutting_proxy import cutting_proxy

CUT_AFTER_BYTES = 1_500

node = [needs_node, needs_node_modules]
WHOLE = [
    pytest.param("gql_client.py", id="gql"),
    pytest.param("ariadne_client.py", id="ariadne-codegen", marks=needs_ariadne_codegen),
    pytest.param("apollo.mjs", id="apollo", marks=node),
    pytest.param("urql.mjs", id="urql", marks=node),
    pytest.param("compiled/typed.js", id="typescript", marks=node),
]
FOLLOWERS = [*WHOLE, pytest.param("urql_sse.mjs", id="urql-sse", marks=node)]


@pytest.fixture(scope="module")
def module(request: pytest.FixtureRequest, page_files: Path) -> Path:
    """Give a client's file, with what has to be generated for it."""
    if request.param == "ariadne_client.py":
        request.getfixturevalue("generated_python")
    if request.param == "compiled/typed.js":
        request.getfixturevalue("generated_typescript")
    return page_files / str(request.param)


@pytest.fixture(scope="module")
def used(module: Path, site: Site) -> dict[str, Any]:
    """Give what a client reports of everything that it can do."""
    report: dict[str, Any] = drive(module, "use", site.server.url, site.arguments)
    return report


whole = pytest.mark.parametrize("module", WHOLE, indirect=True)
follower = pytest.mark.parametrize("module", FOLLOWERS, indirect=True)


@whole
def test_a_query_gives_a_page_and_its_cursor(used: dict[str, Any]) -> None:
    jobs = used["overview"]["jobs"]

    assert used["overview"]["server"]["version"]
    assert [edge["node"]["kind"] for edge in jobs["edges"]] == ["CAPTURE_ACTIVATIONS"]
    assert jobs["pageInfo"]["hasNextPage"] and jobs["pageInfo"]["endCursor"]
    assert "T" in jobs["edges"][0]["node"]["createdAt"]


@whole
def test_a_launched_job_is_followed_to_its_end(used: dict[str, Any]) -> None:
    events = used["events"]

    assert used["launched"]["status"] == "QUEUED"
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["status"] == "SUCCEEDED"


@whole
def test_a_refusal_is_told_from_a_result(used: dict[str, Any]) -> None:
    refusal = used["refused"]["refusal"]

    assert refusal["code"] == "INVALID_INPUT"
    assert refusal["fields"][0]["path"] == ["batchSize"]
    assert refusal["message"] == used["refused"]["message"]


@whole
def test_concepts_and_datasets_are_uploaded(used: dict[str, Any]) -> None:
    assert used["imported"]["importedCount"] + used["imported"]["skippedCount"] == 2
    assert used["fromFile"].startswith("job_")


@whole
def test_an_upload_that_is_too_large_fails(used: dict[str, Any]) -> None:
    assert "value" not in used["tooLarge"]


@follower
def test_a_job_is_followed_across_a_lost_connection(module: Path, site: Site) -> None:
    with cutting_proxy(site.server.url, CUT_AFTER_BYTES) as proxy:
        events = drive(module, "follow", proxy.url, site.arguments)

    assert proxy.connections == 2
    assert [event["sequence"] for event in events] == list(range(1, site.last_sequence + 1))


@follower
def test_a_job_is_followed_from_a_number(module: Path, site: Site) -> None:
    after = site.last_sequence - 2
    events = drive(module, "follow", site.server.url, site.arguments | {"after": after})

    assert [event["sequence"] for event in events] == [after + 1, after + 2]


@follower
def test_a_wrong_token_ends_it_all_at_once(module: Path, site: Site) -> None:
    with cutting_proxy(site.server.url) as proxy:
        failed = drive(module, "fail", proxy.url, site.arguments, token="wrong")

    if "query" in failed:
        assert failed["query"]["code"] == "UNAUTHENTICATED"
    assert "value" not in failed["subscription"]
    assert proxy.connections == len(failed)


@pytest.mark.parametrize("module", [pytest.param("apollo.mjs", marks=node)], indirect=True)
def test_apollos_cache_puts_pages_together(used: dict[str, Any]) -> None:
    jobs = used["pages"]["jobs"]["edges"]

    assert len({edge["node"]["id"] for edge in jobs}) == 2
