"""Spans as a collector receives them, from requests to jobs and inference."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from structlog.contextvars import get_contextvars
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from gql_server.services import jobs
from gql_server.telemetry.tracing import Tracer
from tests.support.fake_executor import FakeExecutor
from tests.support.requests import PROMPT
from tests.support.server_process import server_process
from tests.support.serving import add_language_model, add_run, add_sae, client_of, serving
from tests.support.task_scripts import fail_to_load, infer
from tests.telemetry.collector import attributes_of, collecting

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
DELETE = {"query": 'mutation Tidy { deleteSae(id: "sae_0") { __typename } }'}
LOAD = "mutation Load($id: ID!) { loadLanguageModel(id: $id) { ... on JobLaunched { job { id } } } }"
FIND = """query Find($id: ID!, $prompts: [String!]!) {
  topNeurons(saeId: $id, prompts: $prompts) { __typename } }"""


def delete_over_both(url: str) -> str:
    """Send the same mutation over HTTP and over a socket; returns the first one's reference."""
    answer = httpx.post(f"{url}/graphql", json=DELETE, headers=HEADERS)
    socket_url, protocols = url.replace("http", "ws") + "/graphql", [Subprotocol("graphql-transport-ws")]
    with connect(socket_url, subprotocols=protocols, additional_headers=HEADERS) as socket:
        socket.send('{"type": "connection_init"}')
        socket.recv()
        socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": DELETE}))
        while json.loads(socket.recv())["type"] != "complete":
            pass
    return answer.headers["X-Request-Id"]


def test_a_servers_spans_continue_the_traces_of_its_clients_and_end_up_in_its_log(tmp_path: Path) -> None:
    with collecting() as collector:
        settings = {"OTLP_ENDPOINT": collector.url, "LOG_FORMAT": "json", "WARM_UP": "false"}
        with server_process(tmp_path, **settings) as server:
            reference = delete_over_both(server.url)
    http = collector.span("POST /graphql")
    over_http, over_socket = [span for span in collector.spans if span.name == "GraphQL mutation"]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert http.parent_span_id.hex() == over_socket.parent_span_id.hex() == PARENT
    assert http.kind == Span.SPAN_KIND_SERVER
    assert over_http.parent_span_id == http.span_id
    assert attributes_of(http) == {
        "http.request.method": "POST",
        "http.route": "/graphql",
        "http.response.status_code": 200,
        "gql_server.request": reference,
    }
    assert attributes_of(over_http) == {
        "graphql.operation.type": "mutation",
        "graphql.operation.name": "Tidy",
        "gql_server.fields": ["deleteSae"],
        "gql_server.outcome": "NOT_FOUND",
    }
    (resource,) = {str(one.resource) for request in collector.requests for one in request.resource_spans}
    assert "gql-server" in resource
    lines = [json.loads(line) for line in (tmp_path / "server.log").read_text().splitlines()]
    assert [line["trace"] for line in lines if line["event"] == "operation"] == [TRACE, TRACE]


async def test_a_job_has_a_trace_of_its_own_that_leads_to_the_one_that_asked_for_it(tmp_path: Path) -> None:
    with collecting() as collector:
        executor = FakeExecutor(fail_to_load)
        async with serving(tmp_path, executor, otlp_endpoint=collector.url) as server:
            language_model = await add_language_model(server)
            async with client_of(server) as client:
                body = {"query": LOAD, "variables": {"id": language_model.id}}
                answer = await client.post("/graphql", json=body)
            job = answer.json()["data"]["loadLanguageModel"]["job"]["id"]
            async with asyncio.timeout(10):
                async for _ in jobs.watch(server, job, 0):
                    pass
    asked, done = collector.span("GraphQL mutation"), collector.span("job LOAD_LANGUAGE_MODEL")
    assert done.trace_id != asked.trace_id
    assert [(link.trace_id, link.span_id) for link in done.links] == [(asked.trace_id, asked.span_id)]
    assert done.status.code == Status.STATUS_CODE_ERROR
    expected = {"gql_server.job": job, "gql_server.attempt": 1, "gql_server.outcome": "FAILED"}
    assert attributes_of(done).items() >= expected.items()


async def test_inference_is_a_part_of_its_operation_and_no_span_holds_a_prompt(tmp_path: Path) -> None:
    with collecting() as collector:
        async with serving(tmp_path, FakeExecutor(infer), otlp_endpoint=collector.url) as server:
            sae = await add_sae(server, await add_run(server, await add_language_model(server)))
            async with client_of(server) as client:
                body = {"query": FIND, "variables": {"id": sae.id, "prompts": [PROMPT]}}
                await client.post("/graphql", json=body)
                await client.get("/healthz")
                await client.get("/metrics")
    inference, operation = collector.span("inference top_neurons"), collector.span("GraphQL query")
    assert inference.parent_span_id == operation.span_id
    assert attributes_of(inference).items() >= {"gql_server.sae": sae.id, "gql_server.prompts": 1}.items()
    assert len(collector.spans) == 3, "looking after the server is no work"
    assert PROMPT not in repr(collector.spans)


def test_a_collector_that_is_away_keeps_no_server_from_stopping(tmp_path: Path) -> None:
    with server_process(tmp_path, OTLP_ENDPOINT="http://127.0.0.1:9", WARM_UP="false") as server:
        assert httpx.post(f"{server.url}/graphql", json={"query": "{ __typename }"}).is_success
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(20) == 0
    print(f"ended after {time.monotonic() - began:.1f} s")


def test_without_a_collector_nobody_looks_at_the_headers_of_traces(caplog: pytest.LogCaptureFixture) -> None:
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "whatever a stranger writes"}
    tracer = Tracer()
    with tracer.span("HTTP", headers=headers):
        tracer.adopt(headers)
    assert not caplog.records, "a stranger's words in the log"


def test_without_a_collector_log_lines_name_no_trace() -> None:
    tracer = Tracer()
    with tracer.span("HTTP", headers=HEADERS), tracer.span("GraphQL"):
        assert "trace" not in get_contextvars()


def test_without_a_collector_nothing_that_sends_is_imported() -> None:
    program = "import sys, gql_server.server.app; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "gql_server.telemetry.tracing" in run.stdout.split()
    assert not [
        name
        for name in run.stdout.split()
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "google"))
    ]
