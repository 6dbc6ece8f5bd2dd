"""Datasets through the API: uploaded in a multipart request, listed, used, looked into and deleted."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gql_server import ids
from gql_server.artifacts.datasets import write_texts
from gql_server.services import artifacts
from gql_server.services.app_context import AppContext
from models import StoredDataset
from models.enums import DatasetKind
from tests.api.asking import ask, counted_statements, execute, first_error
from tests.support.serving import add_language_model, add_run, client_of

UPLOAD = """mutation ($file: Upload!, $name: String) {
  uploadDataset(input: {file: $file}, name: $name) {
    __typename
    ... on StoredDataset {
      id name status byteSize sampleCount skippedRowCount columns textField preview(first: 2, offset: 1)
    }
    ... on Error { code message }
    ... on InvalidInput { fields { path } }
  }
}"""
PREVIEW = """query ($dataset: DatasetInput!) {
  datasetPreview(dataset: $dataset, first: 1) {
    __typename
    ... on DatasetPreview { columns texts sampleCount meanTokenCount problem }
    ... on Error { code message }
    ... on InvalidInput { fields { path } }
  }
}"""
CAPTURE = """mutation ($model: ID!, $dataset: ID!) {
  captureActivations(
    input: {
      languageModelId: $model, layers: ["m_layers_1"], maxLength: 16
      dataset: {datasetId: $dataset}, sampleOffset: 1
    }
  ) {
    ... on JobLaunched { job { result { ... on ActivationRun { id dataset {
      kind description sampleCount storedDataset { name } texts(first: 2, offset: 1)
    } } } } }
    ... on Error { code message }
  }
}"""
DELETE = "mutation ($id: ID!) { deleteDataset(id: $id) { __typename ... on Error { code } } }"
CSV = b'label,text\n1,one\n0,two\n1,"three, four"\n'


async def send(
    client: httpx.AsyncClient, query: str, content: bytes, place: str, **variables: Any
) -> dict[str, Any]:
    form = {
        "operations": json.dumps({"query": query, "variables": variables}),
        "map": json.dumps({"0": [place]}),
    }
    files = {"0": ("reviews.csv", content)}
    answer = await client.post("/graphql", data=form, files=files, headers={"GraphQL-Require-Preflight": "1"})
    shown: dict[str, Any] = answer.json()
    assert "errors" not in shown, shown
    data: dict[str, Any] = shown["data"]
    return data


async def add_dataset(server: AppContext, name: str, texts: list[str]) -> StoredDataset:
    row = StoredDataset(
        id=ids.new(ids.DATASET),
        name=name,
        byte_size=1,
        sample_count=len(texts),
        skipped_count=0,
        column_names=[],
    )
    write_texts(artifacts.dataset_directory(server.settings, row.id), texts)
    async with server.database.write() as session:
        session.add(row)
    return row


async def test_a_file_is_uploaded_used_renamed_and_deleted(server: AppContext) -> None:
    language_model = await add_language_model(server)
    async with client_of(server) as client:
        made = [
            (await send(client, UPLOAD, content, "variables.file", file=None, name=name))["uploadDataset"]
            for content, name in ((CSV, None), (CSV, "reviews.csv"), (b"x\n", None))
        ]
    kept, again, bad = made
    id = kept.pop("id")
    assert kept.pop("byteSize") > 0 and kept == {
        "__typename": "StoredDataset",
        "name": "reviews.csv",
        "status": "READY",
        "sampleCount": 3,
        "skippedRowCount": 0,
        "columns": ["label", "text"],
        "textField": "text",
        "preview": ["two", "three, four"],
    }
    assert (again["__typename"], bad["__typename"]) == ("Conflict", "InvalidInput")
    assert bad["fields"] == [{"path": ["file"]}]
    launched = await ask(server, CAPTURE, model=language_model.id, dataset=id)
    run = launched["captureActivations"]["job"]["result"]
    of_run = {
        "kind": "STORED",
        "description": "reviews.csv",
        "sampleCount": 3,
        "storedDataset": {"name": "reviews.csv"},
        "texts": ["two", "three, four"],
    }
    assert run["dataset"] == of_run
    rename = 'mutation ($id: ID!) { rename(id: $id, name: "mine") { ... on Renamed { node { id } } } }'
    assert (await ask(server, rename, id=id))["rename"] == {"node": {"id": id}}
    listed = await ask(server, "{ datasets { totalCount nodes { id name } } }")
    assert listed["datasets"] == {"totalCount": 1, "nodes": [{"id": id, "name": "mine"}]}
    assert (await ask(server, DELETE, id=id))["deleteDataset"] == {"__typename": "Deleted"}
    assert (await ask(server, DELETE, id=id))["deleteDataset"]["code"] == "NOT_FOUND"
    shown = (
        "query ($id: ID!) { activationRun(id: $id) { dataset { description storedDataset { name } texts } } }"
    )
    after = (await ask(server, shown, id=run["id"]))["activationRun"]["dataset"]
    assert after == {
        "description": "reviews.csv",
        "storedDataset": None,
        "texts": ["one", "two", "three, four"],
    }


async def test_an_upload_is_previewed_in_a_query(server: AppContext) -> None:
    async with client_of(server) as client:
        place = "variables.dataset.upload.file"
        dataset = {"upload": {"file": None, "textField": "text"}}
        made = await send(client, PREVIEW, CSV, place, dataset=dataset)
        dataset["upload"]["textField"] = "body"
        other = await send(client, PREVIEW, CSV, place, dataset=dataset)
    assert made["datasetPreview"] == {
        "__typename": "DatasetPreview",
        "columns": ["label", "text"],
        "texts": ["one"],
        "sampleCount": 3,
        "meanTokenCount": None,
        "problem": None,
    }
    assert other["datasetPreview"]["columns"] == ["label", "text"]
    assert "no column 'body'" in other["datasetPreview"]["problem"]


@pytest.mark.parametrize(
    ("dataset", "code"),
    [
        ({"datasetId": "dataset_01ARZ3NDEKTSV4RRFFQ69G5FAV"}, "NOT_FOUND"),
        ({"datasetId": "%' OR 1=1 --"}, "NOT_FOUND"),
        ({"texts": []}, "INVALID_INPUT"),
        ({"huggingFace": {"repository": "owner/name"}}, "INVALID_INPUT"),
    ],
)
async def test_a_dataset_that_cannot_be_previewed_is_refused(
    server: AppContext, dataset: dict[str, Any], code: str
) -> None:
    assert (await ask(server, PREVIEW, dataset=dataset))["datasetPreview"]["code"] == code


async def test_texts_of_a_page_of_datasets_are_read_at_once(
    server: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [await add_dataset(server, f"set {number}", [f"text {number}"] * 3) for number in range(12)]
    run = server.readers.kept.run
    reads = []

    async def counted(*args: Any) -> Any:
        reads.append(args)
        return await run(*args)

    monkeypatch.setattr(server.readers.kept, "run", counted)
    query = "{ datasets(first: 100) { nodes { name preview(first: 2) } } }"
    with counted_statements(server) as statements:
        nodes = (await ask(server, query))["datasets"]["nodes"]
    assert nodes == [
        {"name": f"set {number}", "preview": [f"text {number}"] * 2} for number in reversed(range(len(rows)))
    ]
    assert (len(reads), len(statements)) == (1, 1)


async def test_stored_datasets_of_many_runs_take_one_statement(server: AppContext) -> None:
    language_model = await add_language_model(server)
    for number in range(6):
        dataset = await add_dataset(server, f"set {number}", ["a"])
        await add_run(server, language_model, dataset_kind=DatasetKind.STORED, dataset_id=dataset.id)
    query = "{ activationRuns { nodes { dataset { storedDataset { name } } } } }"
    with counted_statements(server) as statements:
        nodes = (await ask(server, query))["activationRuns"]["nodes"]
    assert [node["dataset"]["storedDataset"]["name"] for node in nodes] == [
        f"set {n}" for n in range(5, -1, -1)
    ]
    assert len(statements) == 2


async def test_texts_that_are_not_there_are_null(server: AppContext) -> None:
    await add_run(server, await add_language_model(server))
    shown = await ask(server, "{ activationRuns { nodes { dataset { texts storedDataset { id } } } } }")
    assert shown["activationRuns"]["nodes"] == [{"dataset": {"texts": None, "storedDataset": None}}]


@pytest.mark.parametrize("arguments", ["first: 0", "first: 101", "offset: -1"])
async def test_a_range_of_texts_that_cannot_be_is_refused(server: AppContext, arguments: str) -> None:
    await add_dataset(server, "a", ["x"])
    error = await first_error(server, f"{{ datasets {{ nodes {{ preview({arguments}) }} }} }}")
    assert error["extensions"]["code"] == "INVALID_INPUT"


async def test_texts_cost_as_many_as_are_asked_for_and_a_preview_as_a_prompt(server: AppContext) -> None:
    async def cost(query: str) -> int:
        result = await execute(server, query)
        assert result.extensions
        return int(result.extensions["cost"]["estimated"])

    assert await cost("{ datasets(first: 10) { nodes { preview(first: 50) } } }") == 1 + 10 * (1 + 50)
    of_runs = "{ activationRuns(first: 2) { nodes { dataset { texts(first: 7) } } } }"
    assert await cost(of_runs) == 1 + 2 * (1 + 1 + 7)
    preview = "{ datasetPreview(dataset: {texts: []}, first: 9) { ... on DatasetPreview { texts columns } } }"
    assert await cost(preview) == 1 + 9 + 5 + 250


async def test_texts_of_an_operation_are_bounded_however_often_it_asks(server: AppContext) -> None:
    await add_dataset(server, "a", ["x" * 400, "y" * 400])
    small = replace(server, settings=server.settings.model_copy(update={"max_answer_bytes": 1024}))
    one = await ask(small, "{ datasets { nodes { preview } } }")
    assert [len(text) for text in one["datasets"]["nodes"][0]["preview"]] == [400, 400]
    error = await first_error(small, "{ datasets { nodes { preview again: preview(first: 2) } } }")
    assert error["extensions"]["fields"][0]["path"] == ["first"]


async def test_a_run_says_which_texts_of_its_dataset_it_has_taken(server: AppContext) -> None:
    language_model = await add_language_model(server)
    part = await add_run(server, language_model, sample_offset=5, sample_limit=7)
    whole = await add_run(server, language_model, sample_offset=0, sample_limit=None)
    query = "query($id: ID!) { activationRun(id: $id) { sampleOffset sampleLimit provenance { batchSize } } }"
    shown = [(await ask(server, query, id=run.id))["activationRun"] for run in (part, whole)]
    assert shown == [
        {"sampleOffset": 5, "sampleLimit": 7, "provenance": None},
        {"sampleOffset": 0, "sampleLimit": None, "provenance": None},
    ]
