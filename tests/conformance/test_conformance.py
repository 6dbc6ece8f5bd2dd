"""The server against audits, reference clients and lint rules of others; see docs/conformance.md."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import gql_server
from tests.conformance.conftest import TOKEN
from tests.conformance.reference_packages import FOLDER, needs_node_packages, run_script
from tests.e2e.client import api, load_model
from tests.support.server_process import RunningServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/conformance.md").read_text()
AUDITS = 61
PROTOCOLS = ["graphql-ws", "graphql-sse"]
REFUSED = {"graphql-ws": 4403, "graphql-sse": 401}
VERSION = r"[0-9]+\.[0-9]+\.[0-9]+"
RELAY_RULES = ["relay-arguments", "relay-connection-types", "relay-edge-types", "relay-page-info"]
NOT_RELAY = """
type Query { things(first: Int): ThingConnection! }
type ThingConnection { edges: [ThingEdge!]! }
type ThingEdge { node: Thing! }
type Thing { id: ID! }
type PageInfo { hasNextPage: Boolean }
"""

pytestmark = needs_node_packages


# ------------------------------------------------------------------------ GraphQL over HTTP


@pytest.fixture(scope="module")
async def audits(running_server: RunningServer) -> list[dict[str, Any]]:
    """Give what each audit of graphql-http came to."""
    results: list[dict[str, Any]] = await run_script("audits.mjs", f"{running_server.url}/graphql")
    return results


def told(audit: dict[str, Any]) -> str:
    answer = audit["answer"]
    return (
        f"{audit['status']} {audit['id']}: {audit['name']}. {audit['reason']}; "
        f"answered {answer['status']} {answer['contentType']} {answer['body']}"
    )


async def test_all_audits_of_graphql_over_http_are_run(audits: list[dict[str, Any]]) -> None:
    assert len({audit["id"] for audit in audits}) == len(audits) == AUDITS


async def test_no_audit_of_what_a_server_must_do_fails(audits: list[dict[str, Any]]) -> None:
    failures = [told(audit) for audit in audits if audit["status"] == "error"]

    assert not failures, "\n".join(failures)


async def test_the_audits_that_warn_are_those_that_the_page_explains(audits: list[dict[str, Any]]) -> None:
    warnings = PAGE.split("## Warnings")[1].split("## ")[0]
    explained = set(re.findall(r"^\| `([0-9A-Z]{4})` \|", warnings, re.MULTILINE))
    not_ok = {audit["id"]: told(audit) for audit in audits if audit["status"] != "ok"}

    unexplained = [line for id, line in not_ok.items() if id not in explained]

    assert not unexplained, "\n".join(unexplained)
    assert explained == not_ok.keys()


# -------------------------------------------------------------------- reference clients


@pytest.fixture(scope="module")
async def language_model(tiny_server: RunningServer, tiny_model_dir: Path) -> str:
    """Load the tiny model; gives its ID."""
    async with api(tiny_server.url) as client:
        return await load_model(client, str(tiny_model_dir), "tiny")


def capture(language_model: str, texts: int) -> str:
    """Return a capture's variables as JSON; each text is a batch, and has an event or two."""
    given = {
        "languageModelId": language_model,
        "layers": ["llamaforcausallm_model_layers_0"],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": texts,
        "batchSize": 1,
    }
    return json.dumps({"input": given})


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_sends_a_mutation_a_subscription_and_a_query(
    protocol: str, tiny_server: RunningServer, language_model: str
) -> None:
    happened = await run_script(
        "clients.mjs", protocol, "operations", f"{tiny_server.url}/graphql", capture(language_model, texts=8)
    )

    sequences = [event["sequence"] for event in happened["events"]]
    assert sequences == list(range(1, happened["job"]["lastSequence"] + 1))
    assert happened["job"]["status"] == happened["events"][-1]["status"] == "SUCCEEDED"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_is_cut_off_goes_on_behind_the_last_event_that_it_saw(
    protocol: str, tiny_server: RunningServer, language_model: str
) -> None:
    happened = await run_script(
        "clients.mjs", protocol, "cutOff", f"{tiny_server.url}/graphql", capture(language_model, texts=100)
    )

    connections = happened["connections"]
    events = [event for connection in connections for event in connection["events"]]
    assert [connection["broken"] for connection in connections] == [True, True, True, False]
    assert [event["sequence"] for event in events] == list(range(1, happened["job"]["lastSequence"] + 1))
    assert events[-1]["status"] == "SUCCEEDED"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_ends_a_subscription_early_is_served_on(
    protocol: str, tiny_server: RunningServer, language_model: str
) -> None:
    happened = await run_script(
        "clients.mjs", protocol, "endEarly", f"{tiny_server.url}/graphql", capture(language_model, texts=1500)
    )

    # There is room for two operations on a socket: each one that was ended made room for the next.
    assert [event["sequence"] for event in happened["firstEvents"]] == [1] * 5
    assert happened["server"]["data"]["server"]["version"] == gql_server.__version__
    assert happened["canceled"]["data"]["cancelJob"]["__typename"] == "JobCancelRequested"
    assert happened["sockets"] == {"graphql-ws": 1, "graphql-sse": 8}[protocol]
    assert "Traceback" not in (tiny_server.artifact_dir / "server.log").read_text()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_with_the_token_is_served(protocol: str, strict_server: RunningServer) -> None:
    happened = await run_script(
        "clients.mjs", protocol, "askServer", f"{strict_server.url}/graphql", "{}", TOKEN
    )

    assert happened["answer"]["data"]["server"]["version"] == gql_server.__version__


@pytest.mark.parametrize("token", [[], ["another-token"]], ids=["none", "another"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_without_the_token_is_refused(
    protocol: str, token: list[str], strict_server: RunningServer
) -> None:
    happened = await run_script(
        "clients.mjs", protocol, "askServer", f"{strict_server.url}/graphql", "{}", *token
    )

    assert happened == {"refused": REFUSED[protocol]}


# ------------------------------------------------------------------------ Relay and docs


async def test_the_schema_follows_the_rules_of_relay() -> None:
    assert await run_script("relay_rules.mjs", str(ROOT / "schema.graphql")) == []


async def test_the_rules_of_relay_find_something_where_there_is_something(tmp_path: Path) -> None:
    schema = tmp_path / "schema.graphql"
    schema.write_text(NOT_RELAY)

    found = await run_script("relay_rules.mjs", str(schema))

    assert {finding["rule"] for finding in found} == {f"@graphql-eslint/{rule}" for rule in RELAY_RULES}


def test_the_page_names_the_versions_that_are_installed() -> None:
    dependencies = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    named = dict(re.findall(rf"^\| `([^`]+)` \| ({VERSION}) \|", PAGE, re.MULTILINE))

    assert named == dependencies
