"""GraphiQL in a real browser, served by a real server, with nothing from the internet."""

import re
from pathlib import Path
from typing import Any

import pytest

from gql_server.api.transport import graphiql
from tests.browser.browsing import NEEDS_BROWSER, REFUSED, ROOT, SIGNING_IN, TOKEN, drive
from tests.support.documents import TABS, graphql_blocks
from tests.support.listening import listening
from tests.support.server_process import RunningServer
from tests.support.serving import endpoint, serving

pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not graphiql.is_built(), reason="needs the GraphiQL bundle: make graphiql"),
]


async def test_the_run_button_answers_the_readmes_query_without_the_internet(
    empty_server: RunningServer,
) -> None:
    # The editor has the lines in view alone: an answer about much would not be read wholly.
    found = await drive("press_run", empty_server.url)

    assert graphql_blocks(ROOT / "README.md")[0] in found["sent"]["query"]
    assert found["status"] == 200
    assert "errors" not in found["received"]
    assert "TopKSae" in found["received"]["data"]["server"]["saeClasses"]
    assert found["shown"] == found["received"]


async def test_the_documentation_describes_types_and_fields_and_can_be_searched(
    tiny_server: RunningServer,
) -> None:
    found = await drive("read_docs", tiny_server.url)

    types = found["types"][found["types"].index("ActivationRun") :]
    assert types == sorted(types, key=str.lower)
    assert {"Sae", "Neuron", "JobStatus"} <= set(types)
    assert "All language models, newest first." in found["query"]
    assert "The layer that it was made for, as Layer.name." in found["sae"]
    assert "Strongest first, at most 100." in found["found"]


async def test_the_tabs_open_with_their_operations_and_variables_and_without_complaints(
    tiny_server: RunningServer,
) -> None:
    # Fields of an input that have a default may be left out.
    mutation = "mutation Train($input: TrainSaeInput!) { trainSae(input: $input) { __typename } }"
    wrong, right = {"input": {"k": 8}}, {"input": {"activationRunId": "run_1", "k": 8}}
    found = await drive("open_tabs", tiny_server.url, mutation=mutation, wrong=wrong, variables=right)

    for tab, file in zip(found["tabs"], sorted(TABS.glob("*.graphql")), strict=True):
        assert tab["query"].rstrip() == file.read_text().rstrip()
        variables = file.with_suffix(".jsonc")
        assert tab["variables"].rstrip() == (variables.read_text().rstrip() if variables.exists() else "")
        assert tab.get("complaints", 1) == 1
    names = [tab["name"] for tab in found["tabs"]]
    assert (names[0], *names[-2:]) == ("Overview", "Jobs", "JobProgress")
    assert [re.findall(r"^Step(\d+)", name) for name in names[1:-2]] == [[str(step)] for step in range(1, 11)]


async def test_the_tabs_lead_from_a_model_to_steered_text_each_with_what_the_answers_before_gave(
    tiny_server: RunningServer, tiny_model_dir: Path
) -> None:
    model = {"name": "steps", "source": {"path": str(tiny_model_dir)}}
    small = {"Step4Capture": {"sampleLimit": 20}, "Step5Train": {"latentCount": 2048}}
    found = await drive("follow_steps", tiny_server.url, model=model, small=small)

    neuron = found["looked"]["sae"]["neurons"]["nodes"][0]
    assert found["named"]["name"] == "a name for what it stands for"
    assert found["named"]["neuron"]["index"] == neuron["index"]
    # The texts stand first in the answer, where they are seen without scrolling.
    outputs = found["generate"]["outputs"]
    assert [list(output) for output in outputs] == [["variant", "text"]] * 2
    assert [output["variant"] for output in outputs] == ["BASELINE", "STEERED"]
    assert next(iter(found["generate"])) == "outputs"
    assert found["sampleOffset"] == found["looked"]["sae"]["activationRun"]["sampleCount"] == 20
    assert found["measured"]["sampleOffset"] == 20
    assert found["measured"]["tokenCount"] > 0
    assert found["measured"]["explainedVariance"] < 1
    # What somebody writes stays, whatever answers give.
    assert found["own"]["neuronIndex"] == 3 != neuron["index"]
    assert found["own"]["saeId"] == found["looked"]["sae"]["id"]


def payloads(frames: list[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    return [frame["payload"]["data"][field] for frame in frames if frame["type"] == "next"]


def assert_followed(found: dict[str, Any]) -> None:
    """Hold what was shown, and sent over the socket, against the course of a job."""
    jobs = payloads(found["streamed"], "jobs")
    assert {job["id"] for job in jobs} == {found["job"]["id"]}
    assert jobs[-1]["status"] == "SUCCEEDED"
    assert found["shown"]["data"]["jobs"] == jobs[-1]
    assert found["streamed"][-1]["type"] == "complete", "sent by the stop button"
    events = payloads(found["replayed"], "jobProgress")
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert found["story"]["data"]["jobProgress"] == events[-1]
    assert events[-1]["status"] == "SUCCEEDED"


async def test_subscriptions_show_a_jobs_changes_as_they_come_until_they_are_stopped(
    tiny_server: RunningServer, tiny_model_dir: Path
) -> None:
    assert_followed(await drive("follow_jobs", tiny_server.url, modelDirectory=str(tiny_model_dir)))


async def test_a_browser_that_has_signed_in_asks_and_follows_by_its_session_even_without_the_schema(
    closed_server: RunningServer, tiny_model_dir: Path
) -> None:
    found = await drive(
        "follow_jobs", closed_server.url, errors=SIGNING_IN, token=TOKEN, modelDirectory=str(tiny_model_dir)
    )

    assert found["told"] == "This is not the token."
    assert_followed(found)


async def test_without_introspection_the_documentation_says_why_it_is_empty(
    closed_server: RunningServer,
) -> None:
    found = await drive("run_without_schema", closed_server.url, errors=SIGNING_IN, token=TOKEN)

    assert "TopKSae" in found["received"]["data"]["server"]["saeClasses"]
    assert "GQL_SERVER_INTROSPECTION=false" in found["docs"]


async def test_where_graphiql_is_switched_off_a_browser_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, listening(endpoint(server, graphiql=False)) as (host, port):
        url = f"http://{host}:{port}"
        errors = [REFUSED.format("406 (Not Acceptable)")]
        found = await drive("read_page", url, errors=errors, name="switched_off")

    assert found["status"] == 406
    assert "GQL_SERVER_GRAPHIQL=false" in found["text"]


async def test_without_a_bundle_a_browser_is_told_how_to_build_it_or_to_take_the_cdns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphiql, "STATIC_DIR", tmp_path)
    async with serving(tmp_path) as server, listening(endpoint(server)) as (host, port):
        url = f"http://{host}:{port}"
        found = await drive("read_page", url, errors=None, hosts={"unpkg.com"}, name="not_built")

    assert not any("Content Security Policy" in error for error in found["errors"])
    assert "make graphiql" in found["text"]
    assert found["address"] == f"{url}/graphql?from=cdn"


def test_what_the_page_loads_before_its_editor_shows_is_at_most_so_large() -> None:
    static = graphiql.STATIC_DIR / "graphiql"
    loaded = re.findall(r"\{root\}/static/graphiql/([\w.-]+)", (static / "index.html").read_text())
    packed = [static / f"{name}.gz" for name in loaded]

    assert any("graphiql-" in name for name in loaded)
    assert sum(file.stat().st_size for file in packed if file.exists()) < 1_200_000
