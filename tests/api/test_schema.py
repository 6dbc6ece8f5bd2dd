"""What the schema does besides its shape: masking, batching, fresh reads, IDs."""

import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLInterfaceType
from strawberry.types import ExecutionResult
from structlog.testing import capture_logs

from gql_server import ids
from gql_server.api.context import Context
from gql_server.api.job_events import JobEvent
from gql_server.api.schema import schema
from gql_server.artifacts import datasets
from gql_server.artifacts.datasets import write_texts
from gql_server.jobs import event_log
from gql_server.protocol.wire import WorkerReady
from gql_server.services import artifacts, neuron_tensors
from gql_server.services.app_context import AppContext
from models import Concept, ConceptConfig, Job, NeuronIndex, Sae, TrainingPoint
from models.enums import (
    ArtifactStatus,
    ConceptSource,
    JobEventType,
    JobKind,
    JobStatus,
    ProgressUnit,
)
from tests.api.asking import ask, counted_statements, execute, first_error, follow
from tests.support.fake_executor import FakeExecutor
from tests.support.serving import add_language_model, add_run, add_sae

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def add_job(server: AppContext, result_id: str, **columns: Any) -> Job:
    """Insert a job that has ended."""
    row = Job(
        **{
            "id": ids.new(ids.JOB),
            "kind": JobKind.TRAIN_SAE,
            "status": JobStatus.SUCCEEDED,
            "lane": "nowhere",
            "artifact_id": result_id,
            "result_id": result_id,
            "request": {},
            "request_hash": "",
            "unit": ProgressUnit.TOKENS,
        }
        | columns
    )
    async with server.database.write() as session:
        session.add(row)
    return row


# --------------------------------------------------------------------------------- masking


class BrokenExecutor(FakeExecutor):
    """Cannot even say what it can do."""

    async def describe(self) -> WorkerReady:
        raise RuntimeError("the password is swordfish")


async def test_an_unexpected_exception_shows_a_reference_that_is_also_in_the_log(server: AppContext) -> None:
    server.executor.describe = BrokenExecutor().describe  # type: ignore[method-assign]
    with capture_logs() as logs:
        error = await first_error(server, "query Mine { server { version devices } }")
    assert "swordfish" not in str(error)
    assert error["extensions"]["code"] == "INTERNAL"
    assert error["path"] == ["server", "devices"]
    (line,) = [line for line in logs if line["event"] == "internal error"]
    assert line["reference"] == error["extensions"]["reference"]
    assert line["reference"] in error["message"]
    assert (line["operation"], line["path"]) == ("Mine", "server.devices")
    assert "swordfish" in str(line["exc_info"])


async def test_one_exception_that_spoils_many_fields_is_logged_once(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_path: Path, _neurons: list[int]) -> Any:
        raise RuntimeError("swordfish")

    monkeypatch.setattr(neuron_tensors, "statistics", broken)
    run = await add_run(server, await add_language_model(server))
    saes = [await add_sae(server, run) for _ in range(3)]
    async with server.database.write() as session:
        for sae in saes:
            id = ids.new(ids.NEURON_INDEX)
            status = ArtifactStatus.READY
            session.add(NeuronIndex(id=id, sae_id=sae.id, status=status, top_texts_per_neuron=1))
    with capture_logs() as logs:
        result = await execute(server, "{ saes { nodes { name neuron(index: 0) { index frequency } } } }")
    assert result.data is not None, "the rest of the answer is there"
    assert [node["neuron"] for node in result.data["saes"]["nodes"]] == [{"index": 0, "frequency": None}] * 3
    assert len(result.errors or []) == 3
    assert len([line for line in logs if line["event"] == "internal error"]) == 1


async def test_of_many_exceptions_in_an_answer_a_few_are_logged(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_server: AppContext) -> Any:
        raise RuntimeError("swordfish")

    monkeypatch.setattr("gql_server.services.interactive.describe", broken)
    with capture_logs() as logs:
        query = "{" + " ".join(f"a{number}: server {{ devices }}" for number in range(20)) + "}"
        result = await execute(server, query)
    assert {(error.extensions or {})["code"] for error in result.errors or []} == {"INTERNAL"}
    lines = [line for line in logs if line["event"] == "internal error"]
    references = {line["reference"] for line in lines}
    assert 0 < len(lines) <= 3
    assert {(error.extensions or {})["reference"] for error in result.errors or []} <= references


async def test_strawberry_does_not_log_errors_a_second_time(
    server: AppContext, caplog: pytest.LogCaptureFixture
) -> None:
    server.executor.describe = BrokenExecutor().describe  # type: ignore[method-assign]
    with caplog.at_level(logging.DEBUG, "strawberry"), capture_logs():
        await execute(server, "{ server { devices } }")
    assert not caplog.records


async def test_an_unexpected_exception_in_a_subscription_is_masked_too(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        yield None
        raise AssertionError("not reached: the first event is broken already")

    monkeypatch.setattr("gql_server.services.jobs.watch", broken)
    with capture_logs() as logs:
        (result,) = await follow(server, 'subscription { jobProgress(id: "job_x") { sequence } }')
    assert_code(result, "INTERNAL")
    assert len([line for line in logs if line["event"] == "internal error"]) == 1


def assert_code(result: ExecutionResult, code: str) -> None:
    assert result.errors
    assert (result.errors[0].extensions or {})["code"] == code


@pytest.mark.parametrize(
    "query", ["{ server { nothing } }", "{ server {", '{ saes(first: "x") { totalCount } }']
)
async def test_mistakes_in_a_query_are_shown_as_they_are(server: AppContext, query: str) -> None:
    with capture_logs() as logs:
        error = await first_error(server, query)
    assert error["extensions"] == {"code": "INVALID_INPUT"}
    assert "locations" in error
    assert not [line for line in logs if line["event"] == "internal error"]


async def test_a_value_that_is_no_upload_is_a_mistake_in_the_query(server: AppContext) -> None:
    query = """mutation ($file: Upload!) { importConcepts(input: {saeId: "x", source: {upload: $file}})
      { __typename } }"""
    error = await first_error(server, query, file="text")
    assert "multipart" in error["message"]


async def test_exactly_one_field_of_a_one_of_input_is_given(server: AppContext) -> None:
    query = """mutation ($source: ConceptSourceInput!) {
      importConcepts(input: {saeId: "x", source: $source}) { __typename } }"""
    for source in ({}, {"csv": "", "json": ""}, {"csv": None}):
        error = await first_error(server, query, source=source)
        assert error["extensions"] == {"code": "INVALID_INPUT"}


async def test_a_long_value_is_not_echoed_whole(server: AppContext) -> None:
    query = "mutation ($id: ID!) { retryJob(id: $id) { ... on NotFound { message missingId } } }"
    unknown = "x" * 10**6
    refusal = (await ask(server, query, id=unknown))["retryJob"]
    assert refusal["missingId"] == unknown
    assert refusal["message"].startswith("There is no job with the ID 'xxx")
    assert len(refusal["message"]) < 1010


async def test_the_second_mutation_of_an_operation_reads_what_it_has_written(server: AppContext) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    named = "{ ... on ConceptSet { concept { neuron { concept { name } } } } }"
    query = f"""mutation ($id: ID!) {{
      a: setConcept(input: {{saeId: $id, neuronIndex: 1, name: "x"}}) {named}
      b: setConcept(input: {{saeId: $id, neuronIndex: 1, name: "y"}}) {named} }}"""
    data = await ask(server, query, id=sae.id)
    assert [data[key]["concept"]["neuron"]["concept"]["name"] for key in "ab"] == ["x", "y"]


# -------------------------------------------------------------------------------- refusals


async def test_a_refusal_is_a_member_of_the_union(server: AppContext) -> None:
    query = """mutation { deleteSae(id: "sae_x") { __typename ... on Error { code message }
      ... on NotFound { missingId } } }"""
    refusal = (await ask(server, query))["deleteSae"]
    assert (refusal["__typename"], refusal["code"], refusal["missingId"]) == (
        "NotFound",
        "NOT_FOUND",
        "sae_x",
    )


async def test_an_unknown_job_ends_its_subscription_with_an_error(server: AppContext) -> None:
    (result,) = await follow(server, 'subscription { jobProgress(id: "job_x") { sequence } }')
    assert_code(result, "NOT_FOUND")


async def test_a_refused_generation_sends_the_refusal_alone(server: AppContext) -> None:
    query = """subscription { generation(input: {languageModelId: "lm_x", prompts: ["a"]}) {
      __typename ... on Error { code } } }"""
    (result,) = await follow(server, query)
    assert result.data == {"generation": {"__typename": "NotFound", "code": "NOT_FOUND"}}


# -------------------------------------------------------------------------------- batching

SAES = """{
  saes(first: 100) { nodes {
    id name status activationRun { name tokenCount } languageModel { name }
    job { status progress { fraction } }
    concepts { nodes { name neuron { index } } }
  } }
}"""
EVERYTHING = """{
  saes(first: 100) { totalCount nodes {
    id languageModel {
      name activationRuns(first: 2) { nodes { id } } saes(first: 2) { totalCount nodes { id } }
    }
    provenance { checkpointSha256 }
    activationRun {
      name provenance { dataset { sha256 } } job { id } saes(first: 2) { totalCount nodes { id } }
    }
    job { kind queuePosition result { __typename } events(first: 3) { sequence job { status } } }
    trainingHistory(maxPoints: 3) { step }
    neuronIndex {
      status provenance { saeCheckpointSha256 }
      activationRun { name } job { id } frequencyHistogram { __typename }
    }
    neuron(index: 1) { id concept { name } sae { name } frequency }
    neurons(first: 2) { nodes { concept { neuron { id } sae { id } } topTexts { text } } }
    named: neurons(first: 2, filter: {hasConcept: true}) { totalCount nodes { id } }
    lively: neurons(first: 2, orderBy: FREQUENCY_DESC) { nodes { maxActivation topTexts(first: 1) { text } } }
    concepts(first: 5) { totalCount nodes { name neuron { index } sae { id } } }
    conceptConfigs(first: 1) { totalCount nodes { name edits { bias } } }
  } }
}"""


MAX_STATEMENTS = {SAES: 6, EVERYTHING: 30}


async def add_full_saes(server: AppContext, count: int) -> list[Sae]:
    """Insert SAEs with everything that can hang on one, each of a model of its own."""
    saes = []
    for number in range(count):
        language_model = await add_language_model(server, f"{ids.new('model')}")
        run = await add_run(server, language_model)
        job = await add_job(server, run.id)
        sae = await add_sae(server, run, job_id=job.id, name=f"sae {number}")
        async with server.database.write() as session:
            session.add(
                Concept(
                    id=ids.new(ids.CONCEPT),
                    sae_id=sae.id,
                    neuron_index=1,
                    name="x",
                    source=ConceptSource.MANUAL,
                )
            )
            session.add(
                ConceptConfig(
                    id=ids.new(ids.CONCEPT_CONFIG),
                    sae_id=sae.id,
                    name="x",
                    path="x",
                    edits=[{"neuron_index": 3, "multiplier": 0.0, "bias": 1.0}],
                )
            )
            index = NeuronIndex(
                id=ids.new(ids.NEURON_INDEX),
                sae_id=sae.id,
                status=ArtifactStatus.READY,
                top_texts_per_neuron=1,
                activation_run_id=run.id,
                frequency_histogram={"edges": [-2.0, 0.0], "counts": [32]},
            )
            session.add(index)
            stored = await session.get_one(Job, job.id)
            await event_log.append(session, stored, JobEventType.LOG, {"message": "x"})
        write_index(server, language_model.id, run.id, index.id)
        saes.append(sae)
    return saes


def without_keys(statements: list[str]) -> set[str]:
    """Return different statements, however many keys each has."""
    return {re.sub(r"\(?\?\)?(, \(?\?\)?)*", "?", statement) for statement in statements}


@pytest.mark.parametrize("query", [SAES, EVERYTHING], ids=["as in a list", "everything"])
async def test_the_number_of_statements_does_not_grow_with_the_page(server: AppContext, query: str) -> None:
    await add_full_saes(server, 10)
    with counted_statements(server) as of_ten:
        data = await ask(server, query)
    assert len(data["saes"]["nodes"]) == 10
    await add_full_saes(server, 90)
    with counted_statements(server) as of_hundred:
        data = await ask(server, query)
    assert len(data["saes"]["nodes"]) == 100
    assert data["saes"]["nodes"][99]["concepts"]["nodes"][0]["name"] == "x"
    # Rows that two ways ask for share a statement or not, by which of them comes first.
    assert without_keys(of_hundred) == without_keys(of_ten)
    assert max(len(of_ten), len(of_hundred)) <= MAX_STATEMENTS[query]


async def test_nested_pages_are_those_of_their_parents(server: AppContext) -> None:
    await add_full_saes(server, 3)
    for sae in (await ask(server, EVERYTHING))["saes"]["nodes"]:
        assert sae["languageModel"]["saes"] == {"totalCount": 1, "nodes": [{"id": sae["id"]}]}
        assert [concept["sae"]["id"] for concept in sae["concepts"]["nodes"]] == [sae["id"]]
        (config,) = sae["conceptConfigs"]["nodes"]
        assert config["edits"] == [{"bias": 1.0}]


# ------------------------------------------------------------------------------------- IDs


async def test_node_finds_whatever_has_an_ID(server: AppContext) -> None:
    (sae,) = await add_full_saes(server, 1)
    data = await ask(
        server,
        """{ saes { nodes { id job { id } activationRun { id } languageModel { id }
      neuron(index: 31) { id } concepts { nodes { id } } conceptConfigs { nodes { id } } } } }""",
    )
    (found,) = data["saes"]["nodes"]
    expected = {
        sae.id: "Sae",
        found["job"]["id"]: "Job",
        found["activationRun"]["id"]: "ActivationRun",
        found["languageModel"]["id"]: "LanguageModel",
        found["neuron"]["id"]: "Neuron",
        found["concepts"]["nodes"][0]["id"]: "Concept",
        found["conceptConfigs"]["nodes"][0]["id"]: "ConceptConfig",
    }
    for id, kind in expected.items():
        node = await ask(server, "query ($id: ID!) { node(id: $id) { __typename id } }", id=id)
        assert node == {"node": {"__typename": kind, "id": id}}


async def test_an_ID_of_nothing_is_null(server: AppContext) -> None:
    (sae,) = await add_full_saes(server, 1)
    for id in (
        "",
        "x",
        "sae_x",
        ids.new(ids.SAE),
        ids.neuron_id(sae.id, 32),
        ids.neuron_id(ids.new("sae"), 0),
    ):
        assert await ask(server, "query ($id: ID!) { node(id: $id) { id } }", id=id) == {"node": None}
        query = """query ($id: ID!) { job(id: $id) { id } sae: activationRun(id: $id) { id }
          languageModel(id: $id) { id } concept(id: $id) { id } conceptConfig(id: $id) { id } }"""
        assert set((await ask(server, query, id=id)).values()) == {None}
    query = (
        "query ($id: ID!) { neuron(saeId: $id, index: 32) { id } sae(id: $id) { neuron(index: -1) { id } } }"
    )
    assert await ask(server, query, id=sae.id) == {"neuron": None, "sae": {"neuron": None}}


# --------------------------------------------------------------------- jobs and trainings


async def test_an_event_shows_the_job_as_it_is_then_not_as_it_was_read_before(server: AppContext) -> None:
    job = await add_job(server, "sae_x", status=JobStatus.RUNNING)
    async with server.database.write() as session:
        stored = await session.get_one(Job, job.id)
        await event_log.append_status(session, stored, JobStatus.RUNNING)
    query = """subscription ($id: ID!) { jobProgress(id: $id) {
      __typename sequence job { status } ... on JobStatusChanged { status } } }"""
    events = await schema.subscribe(query, {"id": job.id}, Context(server))
    first = await anext(events)
    assert first.data is not None
    assert first.data["jobProgress"]["job"] == {"status": "RUNNING"}
    async with server.database.write() as session:
        stored = await session.get_one(Job, job.id)
        await event_log.append_status(session, stored, JobStatus.SUCCEEDED)
    rest = [event.data async for event in events]
    assert rest == [
        {
            "jobProgress": {
                "__typename": "JobStatusChanged",
                "sequence": 2,
                "status": "SUCCEEDED",
                "job": {"status": "SUCCEEDED"},
            }
        }
    ]


async def test_events_are_given_from_a_sequence_number_on(server: AppContext) -> None:
    job = await add_job(server, "sae_x")
    async with server.database.write() as session:
        stored = await session.get_one(Job, job.id)
        await event_log.append_status(session, stored, JobStatus.RUNNING)
        for text in "abc":
            await event_log.append(session, stored, JobEventType.LOG, {"message": text})
        point = dict.fromkeys(("loss", "mse", "explained_variance", "dead_fraction"), float("nan"))
        point |= {"step": 1, "epoch": 0, "token_count": 2**40, "l0": 1.0, "learning_rate": 0.1}
        payload = point | {"tokens_per_second": float("inf")}
        await event_log.append(session, stored, JobEventType.TRAINING_POINT, payload)
    query = """query ($id: ID!) { job(id: $id) { lastSequence events(first: 2, after: 1) { sequence }
      last: events(after: 4) { ... on TrainingStepped { point { tokenCount loss tokensPerSecond } } } } }"""
    found = (await ask(server, query, id=job.id))["job"]
    assert found["events"] == [{"sequence": 2}, {"sequence": 3}]
    assert found["lastSequence"] == 5
    (last,) = found["last"]
    assert (last["point"]["tokenCount"], last["point"]["loss"]) == (2**40, None)
    for wrong in ("first: 0", "after: -1"):
        query = f"query ($id: ID!) {{ job(id: $id) {{ events({wrong}) {{ at }} }} }}"
        assert (await first_error(server, query, id=job.id))["extensions"]["code"] == "INVALID_INPUT"


async def test_jobs_can_be_filtered_and_know_their_place_in_the_queue(server: AppContext) -> None:
    times = [NOON + timedelta(minutes=number) for number in range(3)]
    queued = [await add_job(server, "x", status=JobStatus.QUEUED, queued_at=time) for time in times]
    await add_job(server, "x", status=JobStatus.QUEUED, queued_at=NOON, lane="elsewhere")
    await add_job(server, "x", kind=JobKind.INDEX_NEURONS)
    data = await ask(server, "{ jobs(status: [QUEUED]) { nodes { id queuePosition } } }")
    positions = {node["id"]: node["queuePosition"] for node in data["jobs"]["nodes"]}
    assert [positions[job.id] for job in queued] == [0, 1, 2]
    data = await ask(server, "{ jobs(kind: [INDEX_NEURONS]) { totalCount nodes { queuePosition } } }")
    assert data == {"jobs": {"totalCount": 1, "nodes": [{"queuePosition": None}]}}
    assert (await ask(server, "{ jobs(kind: []) { totalCount } }"))["jobs"]["totalCount"] == 0


@pytest.mark.parametrize(
    ("max_points", "steps"),
    [(1, [100]), (2, [50, 100]), (3, [40, 70, 100]), (10, list(range(10, 101, 10))), (10_000, None)],
)
async def test_a_training_history_is_thinned_out_evenly_to_its_end(
    server: AppContext, max_points: int, steps: list[int] | None
) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    fields = {"epoch": 0, "token_count": 1, "l0": 1.0, "learning_rate": 0.1, "tokens_per_second": 1.0}
    async with server.database.write() as session:
        for step in range(10, 101, 10):
            session.add(TrainingPoint(sae_id=sae.id, step=step, **fields))
    query = "query ($id: ID!, $max: Int!) { sae(id: $id) { trainingHistory(maxPoints: $max) { step } } }"
    history = (await ask(server, query, id=sae.id, max=max_points))["sae"]["trainingHistory"]
    assert [point["step"] for point in history] == (steps or list(range(10, 101, 10)))
    for wrong in (0, 10_001):
        error = await first_error(server, query, id=sae.id, max=wrong)
        assert error["extensions"]["code"] == "INVALID_INPUT"


async def test_the_index_shown_is_the_ready_one_else_the_newest(server: AppContext) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    query = "query ($id: ID!) { sae(id: $id) { neuronIndex { topTextsPerNeuron topTextsUrl } } }"
    shown = [(await ask(server, query, id=sae.id))["sae"]["neuronIndex"]]
    statuses = [ArtifactStatus.FAILED, ArtifactStatus.READY, ArtifactStatus.BUILDING]
    for number, status in enumerate(statuses):
        async with server.database.write() as session:
            session.add(
                NeuronIndex(
                    id=ids.new(ids.NEURON_INDEX),
                    sae_id=sae.id,
                    status=status,
                    top_texts_per_neuron=number,
                    top_texts_path=f"sae/a/b/top_texts/{number}.json",
                    created_at=NOON + timedelta(minutes=number),
                )
            )
        shown.append((await ask(server, query, id=sae.id))["sae"]["neuronIndex"])
    urls = [f"/top-texts/{sae.id}/{number}.json" for number in (0, 1, 1)]
    assert shown == [None] + [
        {"topTextsPerNeuron": number, "topTextsUrl": url} for number, url in zip((0, 1, 1), urls, strict=True)
    ]


async def test_layers_are_blocks_unless_asked_otherwise(server: AppContext) -> None:
    norm = {"name": "m_norm", "kind": "NORM", "depth": None, "module_class": "Norm"}
    block = {"name": "m_layers_0", "kind": "BLOCK", "depth": 0, "module_class": "Block"}
    await add_language_model(server, layers=[block, norm])
    query = """{ languageModels {
      layers { name } all: layers(kind: null) { name } norms: layers(kind: NORM) { depth }
    } }"""
    assert (await ask(server, query))["languageModels"] == [
        {
            "layers": [{"name": "m_layers_0"}],
            "all": [{"name": "m_layers_0"}, {"name": "m_norm"}],
            "norms": [{"depth": None}],
        }
    ]


async def test_layers_have_their_widths_and_the_names_that_transformer_lens_has_for_them(
    server: AppContext,
) -> None:
    block = {"name": "m_layers_0", "kind": "BLOCK", "depth": 0, "module_class": "Block", "width": 16}
    attention = {"name": "m_layers_0_attn", "kind": "ATTENTION", "depth": 0, "module_class": "Attention"}
    heads = {"name": "m_layers_0_attn_o.input", "kind": "INPUT", "depth": 0, "module_class": "L", "width": 24}
    other = {"name": "m_layers_0_attn_q", "kind": "OTHER", "depth": 0, "module_class": "L", "width": 24}
    await add_language_model(server, layers=[block, attention, heads, other])
    query = "{ languageModels { layers(kind: null) { kind width hookName } } }"
    assert (await ask(server, query))["languageModels"][0]["layers"] == [
        {"kind": "BLOCK", "width": 16, "hookName": "blocks.0.hook_resid_post"},
        {"kind": "ATTENTION", "width": None, "hookName": "blocks.0.hook_attn_out"},
        {"kind": "INPUT", "width": 24, "hookName": "blocks.0.attn.hook_z"},
        {"kind": "OTHER", "width": 24, "hookName": None},
    ]


async def test_operations_of_one_socket_do_not_share_what_they_have_read(server: AppContext) -> None:
    sae = await add_sae(server, await add_run(server, await add_language_model(server)))
    socket = Context(server)
    query = "query ($id: ID!) { sae(id: $id) { name } }"
    first = await schema.execute(query, {"id": sae.id}, socket)
    async with server.database.write() as session:
        (await session.get_one(Sae, sae.id)).name = "renamed"
    second = await schema.execute(query, {"id": sae.id}, socket)
    assert (first.data, second.data) == ({"sae": {"name": sae.name}}, {"sae": {"name": "renamed"}})


async def test_top_texts_quote_the_run_that_was_indexed(server: AppContext) -> None:
    language_model = await add_language_model(server)
    run = await add_run(server, language_model)
    sae = await add_sae(server, run)
    index = await add_index_row(server, sae)
    query = """query ($id: ID!) { sae(id: $id) { neurons(first: 32) { nodes { topTexts {
      text score tokenIndex peakIndex textCount textIndex pieceIndex token
      tokens { token activation } } } } } }"""
    assert (await ask(server, query, id=sae.id))["sae"]["neurons"]["nodes"][0] == {"topTexts": None}
    write_index(server, language_model.id, run.id, index.id)
    nodes = (await ask(server, query, id=sae.id))["sae"]["neurons"]["nodes"]
    expected = {
        "text": "the mat",
        "score": 2.0,
        "tokenIndex": 1,
        "peakIndex": 1,
        "textIndex": 1,
        "pieceIndex": 0,
        "textCount": None,  # As in indexes of earlier versions.
        "token": "mat",
        "tokens": [{"token": "the", "activation": 0.0}, {"token": " mat", "activation": 2.0}],
    }
    assert [node["topTexts"][0]["score"] for node in nodes] == [2.0] * 32
    assert nodes[5]["topTexts"][0] | {"token": None, "tokens": None} == expected | {
        "token": None,
        "tokens": None,
    }
    make_a_score_infinite(neuron_tensors.path_of(server.settings, index.id), neuron=7)
    nodes = (await ask(server, query, id=sae.id))["sae"]["neurons"]["nodes"]
    assert [number for number, node in enumerate(nodes) if node["topTexts"] is None] == [7]


async def test_top_texts_of_a_tokenizer_that_the_server_cannot_read_are_quoted_from_the_index(
    server: AppContext,
) -> None:
    language_model = await add_language_model(server)
    run = await add_run(server, language_model)
    sae = await add_sae(server, run)
    index = await add_index_row(server, sae)
    write_index(server, language_model.id, run.id, index.id)
    (artifacts.copy_directory(server.settings, language_model.id) / "tokenizer.json").unlink()
    query = """query ($id: ID!) { sae(id: $id) { neuron(index: 5) { topTexts {
      text token peakIndex tokens { token activation } } } } }"""
    assert (await ask(server, query, id=sae.id))["sae"]["neuron"] == {"topTexts": None}
    keep_tokens(neuron_tensors.path_of(server.settings, index.id))
    assert (await ask(server, query, id=sae.id))["sae"]["neuron"]["topTexts"] == [
        {
            "text": "the",
            "token": "the",
            "peakIndex": 1,
            "tokens": [{"token": "<s>", "activation": 0.0}, {"token": "the", "activation": 2.0}],
        }
    ]


@pytest.mark.parametrize("damage", ["the texts", "the index", "figures of the index"])
async def test_damaged_files_of_an_index_are_a_conflict_that_says_so(server: AppContext, damage: str) -> None:
    language_model = await add_language_model(server)
    run = await add_run(server, language_model)
    sae = await add_sae(server, run)
    index = await add_index_row(server, sae)
    write_index(server, language_model.id, run.id, index.id)
    texts = artifacts.dataset_directory(server.settings, run.id) / datasets.FILE_NAME
    path = texts if damage == "the texts" else neuron_tensors.path_of(server.settings, index.id)
    if damage == "figures of the index":
        put_rows_out_of_reach(path)
    else:
        path.write_bytes(path.read_bytes()[:100])
    query = "query ($id: ID!) { sae(id: $id) { neuron(index: 5) { topTexts { text } } } }"
    (error,) = (await execute(server, query, id=sae.id)).errors or []
    assert (error.message, error.extensions) == (neuron_tensors.DAMAGED, {"code": "CONFLICT"})


async def add_index_row(server: AppContext, sae: Sae) -> NeuronIndex:
    """Insert a READY index of an SAE over its run; its file is still to be written."""
    index = NeuronIndex(
        id=ids.new(ids.NEURON_INDEX),
        sae_id=sae.id,
        status=ArtifactStatus.READY,
        activation_run_id=sae.activation_run_id,
        top_texts_per_neuron=1,
    )
    async with server.database.write() as session:
        session.add(index)
    return index


def keep_tokens(path: Path) -> None:
    """Put tokens into an index: of the text 'the mat', with a <s> before it."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    kept: dict[str, np.ndarray[Any, Any]] = {
        "text_rows": np.array([0, 1], np.int32),
        "text_pieces": np.array([0, 0], np.int32),
        "text_ends": np.array([1, 4], np.int64),
        "text_token_ids": np.array([5, 9, 7, 8], np.int32),
        "text_offsets": np.array([[0, 14], [0, 0], [0, 3], [3, 7]], np.int32),
        "text_is_named": np.array([0, 1, 0, 0], np.uint8),
        "text_token_names": np.frombuffer(b'{"9": "<s>"}', np.uint8),
    }
    save_file(load_file(path) | kept, path)


def put_rows_out_of_reach(path: Path) -> None:
    """Have an index name texts that the run does not have."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    tensors["top_rows"] += 1_000
    save_file(tensors, path)


def make_a_score_infinite(path: Path, neuron: int) -> None:
    """Change an index into one of those made before infinite activations were refused."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path)
    tensors["top_scores"][neuron] = float("inf")
    save_file(tensors, path)


def write_index(server: AppContext, language_model_id: str, run_id: str, index_id: str) -> None:
    """Write an index in which every neuron of 32 fires on one text, most on its second token."""
    # numpy and what reads its files come with the first index that is asked for; so they do here.
    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"the": 0, "mat": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    copy_directory = artifacts.copy_directory(server.settings, language_model_id)
    copy_directory.mkdir(parents=True)
    tokenizer.save(str(copy_directory / "tokenizer.json"))
    write_texts(artifacts.dataset_directory(server.settings, run_id), ["something else", "the mat"])
    path = neuron_tensors.path_of(server.settings, index_id)
    path.parent.mkdir(parents=True)
    one = np.ones((32, 1), dtype=np.int32)
    save_file(
        {
            "top_rows": one,
            "top_scores": 2 * one.astype(np.float32),
            "top_token_index": one,
            "window_start": 0 * one,
            "window_length": 2 * one,
            "firing_count": np.ones(32, dtype=np.int64),
            "frequency": np.linspace(0.1, 0.9, 32, dtype=np.float32),
            "max_activation": np.full(32, 2, dtype=np.float32),
            "mean_activation": np.full(32, 1, dtype=np.float32),
            "window_activations": np.tile(np.array([0, 2], dtype=np.float32), (32, 1, 1)),
        },
        path,
    )


def test_every_kind_of_event_is_a_type_of_the_schema() -> None:
    """Strawberry knows only the implementations of an interface that it is told of."""
    kinds = {kind.__name__ for kind in JobEvent.__subclasses__()}
    assert {type.name for type in schema._schema.get_possible_types(event_interface())} == kinds


def event_interface() -> GraphQLInterfaceType:
    interface = schema._schema.get_type("JobEvent")
    assert isinstance(interface, GraphQLInterfaceType)
    return interface
