"""The explorer's pages that make something, in a real browser: first SAE, datasets, captures, trainings."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from gql_server.api.transport import explorer
from tests.browser.browsing import NEEDS_BROWSER, drive
from tests.support.server_process import RunningServer, server_process

pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not explorer.is_built(), reason="needs the explorer's bundle: make explorer"),
]

ANIMALS = ("cat", "dog", "owl", "fox")
TEXTS = [f"The {animal} sits on the mat and looks at the moon." for animal in ANIMALS] * 5
WAIT_SECONDS = 240
JOB = "... on JobLaunched { job { id } }"
ADD = """mutation($path: String!) { addLanguageModel(input: {name: "forms' model", source: {path: $path}}) {
  ... on LanguageModelAdded { languageModel { id } } } }"""
LOAD = f"mutation($id: ID!) {{ loadLanguageModel(id: $id) {{ {JOB} }} }}"
UPLOAD = """mutation($file: Upload!) { uploadDataset(input: {file: $file}, name: "kept") {
  ... on StoredDataset { id } } }"""
CAPTURE = f"mutation($input: CaptureActivationsInput!) {{ captureActivations(input: $input) {{ {JOB} }} }}"


def ask(server: RunningServer, query: str, **variables: Any) -> Any:
    """Ask as another client of the API, and return the operation's only field."""
    answer = httpx.post(
        f"{server.url}/graphql", json={"query": query, "variables": variables}, timeout=WAIT_SECONDS
    ).json()
    assert "errors" not in answer, answer
    (field,) = answer["data"].values()
    return field


def finished(server: RunningServer, launched: Any) -> str:
    """Wait until a job has succeeded, and return the ID of what it has made."""
    query = "query($id: ID!) { job(id: $id) { status error result { ... on Node { id } } } }"
    deadline = time.monotonic() + WAIT_SECONDS
    while (job := ask(server, query, id=launched["job"]["id"]))["status"] in {"QUEUED", "RUNNING"}:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    assert job["status"] == "SUCCEEDED", job
    return str(job["result"]["id"])


def stored(server: RunningServer) -> str:
    """Upload the texts as another client, and return the dataset's ID."""
    operations = json.dumps({"query": UPLOAD, "variables": {"file": None}})
    answer = httpx.post(
        f"{server.url}/graphql",
        data={"operations": operations, "map": json.dumps({"0": ["variables.file"]})},
        files={"0": ("kept.txt", "\n".join(TEXTS))},
        headers={"GraphQL-Require-Preflight": "1"},
        timeout=WAIT_SECONDS,
    )
    return str(answer.json()["data"]["uploadDataset"]["id"])


@pytest.fixture(scope="module")
def empty_server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run a server that has nothing yet, and may load the tiny model."""
    with server_process(tmp_path_factory.mktemp("artifacts"), MODEL_DIRS=str(tiny_model_dir)) as server:
        yield server


@pytest.fixture(scope="module")
def made(tiny_server: RunningServer, tiny_model_dir: Path) -> tuple[RunningServer, dict[str, str]]:
    """Make a model, a stored dataset and a run; give the server and their IDs."""
    model = ask(tiny_server, ADD, path=str(tiny_model_dir))["languageModel"]["id"]
    finished(tiny_server, ask(tiny_server, LOAD, id=model))
    dataset = stored(tiny_server)
    query = "query($id: ID!) { languageModel(id: $id) { layers { name } } }"
    layer = ask(tiny_server, query, id=model)["layers"][0]["name"]
    inputs = {"languageModelId": model, "layers": [layer], "dataset": {"datasetId": dataset}}
    run = finished(tiny_server, ask(tiny_server, CAPTURE, input=inputs | {"name": "twenty texts"}))
    return tiny_server, {"model": model, "dataset": dataset, "run": run}


@pytest.mark.slow
async def test_the_keyboard_alone_leads_from_an_empty_server_to_a_first_sae_a_name_and_steered_text(
    empty_server: RunningServer,
) -> None:
    fields = {"Texts to train on": 60, "Texts to measure on": 8, "Neurons": 64, "k": 4, "Epochs": 1}
    found = await drive(
        "make_first_sae",
        empty_server.url,
        path="/",
        sizes={"recommended": "Block 0", "fields": fields},
        name="guessed",
        prompt="for a list of strings",
    )

    assert found["grave"] == []
    assert "BatchTopKSae, the recommended class" in found["planned"]
    assert "Measured on texts that it was not trained on." in found["text"]
    ids = {name: values[0] for name, values in parse_qs(urlsplit(found["address"]).query).items()}
    (sae,) = ask(empty_server, "{ saes { nodes { id latentCount k } } }")["nodes"]
    assert found["next"] == f"/saes/{sae['id']}"
    assert (sae["latentCount"], sae["k"]) == (64, 4)
    # A reload has launched nothing twice.
    jobs = ask(empty_server, "{ jobs { nodes { id kind status } } }")["nodes"]
    kinds = ["CAPTURE_ACTIVATIONS", "EVALUATE_SAE", "INDEX_NEURONS", "LOAD_LANGUAGE_MODEL", "TRAIN_SAE"]
    assert sorted(job["kind"] for job in jobs) == kinds
    assert {job["status"] for job in jobs} == {"SUCCEEDED"}
    assert {ids["capture"], ids["train"], ids["evaluate"]} < {job["id"] for job in jobs}
    # Its neuron is named, and steers.
    query = "query($id: ID!, $index: Int!) { neuron(saeId: $id, index: $index) { concept { name } } }"
    index = int(found["neuron"].removeprefix("#"))
    assert ask(empty_server, query, id=sae["id"], index=index)["concept"]["name"] == "guessed"
    assert "guessed" in found["edited"]
    assert parse_qs(urlsplit(found["steered"]).query)["edits"][0].startswith(f"{index}:1:")
    assert found["texts"]["steered"]
    assert found["texts"]["steered"] != found["texts"]["baseline"]


async def test_each_page_is_shown_and_can_be_used_by_everybody(
    made: tuple[RunningServer, dict[str, str]],
) -> None:
    server, ids = made
    paths = [
        "/datasets",
        f"/datasets?dataset={ids['dataset']}",
        f"/capture?model={ids['model']}&data={ids['dataset']}",
        f"/train?run={ids['run']}",
        f"/runs/{ids['run']}",
        "/runs/run_nothing",
        f"/models/{ids['model']}",
        "/models/lm_nothing",
        "/start",
        f"/start?model={ids['model']}&step=texts",
    ]
    until = {paths[2]: "on disk", paths[3]: "Computed on"}
    found = await drive("open_pages", server.url, path="/", paths=paths, until=until)

    pages = found["pages"]
    assert {path: page["findings"] for path, page in pages.items()} == {path: [] for path in pages}
    assert {path: page["overflow"] for path, page in pages.items()} == dict.fromkeys(pages, 0)
    assert "twenty texts" in pages[paths[0]]["text"]
    assert TEXTS[0] in pages[paths[1]]["text"]
    assert TEXTS[0] in pages[paths[4]]["text"]
    assert "There is no such run" in pages[paths[5]]["text"]
    assert "There is no such language model" in pages[paths[7]]["text"]


async def test_forms_upload_capture_and_train_and_show_refusals_beside_their_fields(
    made: tuple[RunningServer, dict[str, str]],
) -> None:
    server, ids = made
    found = await drive("fill_in_forms", server.url, path="/", texts=TEXTS, run=ids["run"], dataset="x" * 300)

    assert found["column"] in {"kind", "body"}
    assert "A name has 1 to 200 characters" in found["taken"]
    assert "kind, body" not in found["stored"]
    assert TEXTS[0] in found["stored"]
    assert "20 texts" in found["estimated"]
    assert "100000 is not allowed" in found["limit"]
    assert "64" in found["tooMany"]
    assert [row.split("\t")[0].split()[0] for row in found["costs"]] == ["32", "48"]
    saes = ask(server, "{ saes(first: 2) { nodes { id latentCount k } } }")["nodes"]
    assert sorted((sae["latentCount"], sae["k"]) for sae in saes) == [(32, 4), (48, 4)]
    assert sorted(found["compared"]) == sorted(sae["id"] for sae in saes)
