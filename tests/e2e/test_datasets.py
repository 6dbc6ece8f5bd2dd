"""A dataset over the public API with real workers: uploaded once, captured, evaluated on, and deleted."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.client import Api, api, load_model
from tests.support.server_process import RunningServer

BLOCK = "llamaforcausallm_model_layers_0"
TEXTS = [f"text {number} of a file that is used twice, {'word ' * (number % 7)}" for number in range(60)]
UPLOAD = """mutation($file: Upload!) { uploadDataset(input: {file: $file, textField: "body"}) {
  ... on StoredDataset { id name sampleCount columns } ... on Error { message } } }"""
RUN = """query($id: ID!, $offset: Int!) { activationRun(id: $id) { sampleCount tokenCount
  dataset { kind description sampleCount storedDataset { id } texts(first: 1, offset: $offset) }
  provenance { dataset { kind sha256 } } } }"""
TOP_TEXTS = """query($id: ID!) { sae(id: $id) {
  evaluation { dataset { kind storedDataset { id } } }
  neurons(first: 5, orderBy: MAX_ACTIVATION_DESC) { nodes { topTexts(first: 3) { text textIndex } } } } }"""


async def upload(server: RunningServer) -> dict[str, Any]:
    content = "\n".join(json.dumps({"n": number, "body": text}) for number, text in enumerate(TEXTS))
    form = {
        "operations": json.dumps({"query": UPLOAD, "variables": {"file": None}}),
        "map": json.dumps({"0": ["variables.file"]}),
    }
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post(
            "/graphql",
            data=form,
            files={"0": ("texts.jsonl", content.encode())},
            headers={"GraphQL-Require-Preflight": "1"},
        )
    kept: dict[str, Any] = answer.json()["data"]["uploadDataset"]
    return kept


async def capture(client: Api, language_model: str, dataset: dict[str, Any]) -> str:
    given = {
        "languageModelId": language_model,
        "layers": [BLOCK],
        "dataset": dataset,
        "sampleOffset": 10,
        "sampleLimit": 40,
        "maxLength": 32,
    }
    run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", given))
    return run


@pytest.mark.slow
async def test_a_stored_dataset_is_as_good_as_its_texts_and_its_runs_outlive_it(
    tiny_server: RunningServer, tiny_model_dir: Path
) -> None:
    kept = await upload(tiny_server)
    id = kept.pop("id")
    assert kept == {"name": "texts.jsonl", "sampleCount": len(TEXTS), "columns": ["n", "body"]}
    async with api(tiny_server.url) as client:
        language_model = await load_model(client, str(tiny_model_dir), "of datasets")
        preview = await client.get(
            "datasetPreview",
            "... on DatasetPreview { texts sampleCount meanTokenCount }",
            dataset=("DatasetInput!", {"datasetId": id}),
            languageModelId=("ID!", language_model),
        )
        assert preview["texts"] == TEXTS[:5] and preview["sampleCount"] == len(TEXTS)
        assert preview["meanTokenCount"] == pytest.approx(mean_tokens(tiny_model_dir))

        run = await capture(client, language_model, {"datasetId": id})
        inline = await capture(client, language_model, {"texts": TEXTS})
        found = (await client.ask(RUN, id=run, offset=12))["activationRun"]
        same = (await client.ask(RUN, id=inline, offset=12))["activationRun"]
        assert found["dataset"] == {
            "kind": "STORED",
            "description": "texts.jsonl",
            "sampleCount": len(TEXTS),
            "storedDataset": {"id": id},
            "texts": [TEXTS[12]],
        }
        assert found["provenance"]["dataset"] == same["provenance"]["dataset"] | {"kind": "STORED"}
        assert (found["sampleCount"], found["tokenCount"]) == (same["sampleCount"], same["tokenCount"])

        train = {"activationRunId": run, "latentCount": 32, "k": 4, "batchSize": 64, "indexNeurons": False}
        sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", train))
        await client.run_job("indexNeurons", input=("IndexNeuronsInput!", {"saeId": sae}))
        evaluate = {"saeId": sae, "dataset": {"datasetId": id}, "sampleLimit": 5}
        await client.run_job("evaluateSae", input=("EvaluateSaeInput!", evaluate))
        deleted = await client.do("deleteDataset", "... on Deleted { __typename }", id=("ID!", id))
        assert deleted["__typename"] == "Deleted"

        shown = (await client.ask(TOP_TEXTS, id=sae))["sae"]
        assert shown["evaluation"]["dataset"] == {"kind": "STORED", "storedDataset": None}
        tops = [top for neuron in shown["neurons"]["nodes"] for top in neuron["topTexts"]]
        assert tops
        for top in tops:
            of_run = (await client.ask(RUN, id=run, offset=top["textIndex"]))["activationRun"]
            (whole,) = of_run["dataset"]["texts"]
            assert top["text"].strip() in whole


def mean_tokens(model_dir: Path) -> float:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    return sum(len(tokenizer(text)["input_ids"]) for text in TEXTS) / len(TEXTS)
