"""Other weights saved into a model's directory: no old SAE or run is used with them without a word."""

import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.e2e.client import Api, api, load_model
from tests.support.server_process import RunningServer, server_process
from tests.support.tiny_model import make_tiny_model

LAYER = "llamaforcausallm_model_layers_0"
LAST_LAYER = "llamaforcausallm_model_layers_2"
TEXTS = [f"Text {n} of some that are captured." for n in range(30)]
PROMPTS = ["The value is true"]
ACCEPTED = "... on LanguageModelAccepted { languageModel { fingerprint } }"


@pytest.fixture(scope="module")
def model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model of this module's own, whose weights may be changed."""
    return shutil.copytree(tiny_model_dir, tmp_path_factory.mktemp("models") / "changing")


@pytest.fixture(scope="module")
def server(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_process(tmp_path_factory.mktemp("artifacts"), MODEL_DIRS=str(model_dir)) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Api]:
    async with api(server.url) as connected:
        yield connected


async def capture(client: Api, language_model: str) -> str:
    request = {"languageModelId": language_model, "layers": [LAYER], "dataset": {"texts": TEXTS}}
    run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", request))
    return run


def train_input(run: str) -> dict[str, Any]:
    sizes = {"saeClass": "TopKSae", "latentCount": 64, "k": 4, "batchSize": 64}
    return {"activationRunId": run, "indexNeurons": False} | sizes


@dataclass(frozen=True)
class Old:
    """What was made with a model whose weights are others by now."""

    language_model: str
    run: str
    sae: str
    config: str
    hashes: tuple[str, str]
    """Of the weights before and now."""

    def reads(self) -> list[tuple[str, str, dict[str, tuple[str, Any]]]]:
        """Return the queries and mutations that answer at once, with their results' types."""
        generate = {"saeId": self.sae, "prompts": PROMPTS, "maxNewTokens": 2}
        edits = {"steering": {"source": {"edits": [{"neuronIndex": 1, "bias": 2.0}]}}}
        config = {"steering": {"source": {"conceptConfigId": self.config}}}
        of_sae = {"saeId": ("ID!", self.sae)}
        texts = {"textsA": ("[String!]!", PROMPTS), "textsB": ("[String!]!", ["for x in range"])}
        return [
            ("topNeurons", "TopNeurons", of_sae | {"prompts": ("[String!]!", PROMPTS)}),
            ("contrastNeurons", "ContrastedNeurons", of_sae | texts),
            ("generate", "Generation", {"input": ("GenerateInput!", generate)}),
            ("generate", "Generation", {"input": ("GenerateInput!", generate | edits)}),
            ("generate", "Generation", {"input": ("GenerateInput!", generate | config)}),
        ]

    def jobs(self) -> list[tuple[str, dict[str, tuple[str, Any]]]]:
        evaluate = {"saeId": self.sae, "dataset": {"texts": TEXTS}, "sampleLimit": 10}
        return [
            ("evaluateSae", {"input": ("EvaluateSaeInput!", evaluate)}),
            ("indexNeurons", {"input": ("IndexNeuronsInput!", {"saeId": self.sae})}),
            ("trainSae", {"input": ("TrainSaeInput!", train_input(self.run))}),
        ]


@pytest.fixture(scope="module")
async def old(server: RunningServer, model_dir: Path) -> Old:
    async with api(server.url) as client:
        language_model = await load_model(client, str(model_dir), "changing")
        run = await capture(client, language_model)
        sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", train_input(run)))
        edits = [{"neuronIndex": 1, "multiplier": 3.0}]
        saved = await client.do(
            "saveConceptConfig",
            "... on ConceptConfigSaved { conceptConfig { id } }",
            input=("SaveConceptConfigInput!", {"saeId": sae, "name": "more", "edits": edits}),
        )
        assert (await matching(client, sae, run)) == [True, True]
    before = hashlib.sha256((model_dir / "model.safetensors").read_bytes()).hexdigest()
    weights = load_file(model_dir / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"] *= 2
    save_file(weights, model_dir / "model.safetensors", metadata={"format": "pt"})
    now = hashlib.sha256((model_dir / "model.safetensors").read_bytes()).hexdigest()
    return Old(language_model, run, sae, saved["conceptConfig"]["id"], (before, now))


async def matching(client: Api, sae: str, run: str) -> list[bool | None]:
    document = """query($sae: ID!, $run: ID!) { sae(id: $sae) { languageModelMatches }
        activationRun(id: $run) { languageModelMatches } }"""
    data = await client.ask(document, sae=sae, run=run)
    return [data[name]["languageModelMatches"] for name in ("sae", "activationRun")]


async def model(client: Api, id: str) -> dict[str, Any]:
    document = """query($id: ID!) { languageModel(id: $id) {
        fingerprint architecture parameterCount hiddenSize vocabularySize layers { name } } }"""
    found: dict[str, Any] = (await client.ask(document, id=id))["languageModel"]
    return found


async def ask(client: Api, field: str, type: str, arguments: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    send = client.do if field == "generate" else client.get
    return await send(field, f"... on {type} {{ __typename }}", **arguments)


def by_sha256sum(directory: Path, *names: str) -> str:
    printed = subprocess.run(["sha256sum", *names], cwd=directory, capture_output=True, check=True).stdout
    return hashlib.sha256(printed).hexdigest()


def assert_names_both(refused: dict[str, Any], old: Old) -> None:
    before, now = old.hashes
    assert (refused["__typename"], refused["code"]) == ("Conflict", "CONFLICT"), refused
    assert f"model.safetensors was {before[:12]}, is {now[:12]}" in refused["message"]
    assert "acceptLanguageModel" in refused["message"]


async def test_everything_that_pairs_old_with_new_is_a_conflict(client: Api, old: Old) -> None:
    for field, type, arguments in old.reads():
        assert_names_both(await ask(client, field, type, arguments), old)
    for mutation, arguments in old.jobs():
        assert_names_both(await client.do(mutation, "... on JobLaunched { job { id } }", **arguments), old)
    request = old.reads()[3][2]["input"][1]
    document = """subscription($input: GenerateInput!) { generation(input: $input) {
        __typename ... on Conflict { code message } } }"""
    *_, event = [data["generation"] async for data in client.listen(document, input=request)]
    assert_names_both(event, old)
    assert (await matching(client, old.sae, old.run)) == [False, False]
    jobs = await client.ask("{ jobs(kind: [EVALUATE_SAE, INDEX_NEURONS]) { totalCount } }")
    assert jobs["jobs"]["totalCount"] == 0


async def test_without_an_SAE_the_new_weights_are_just_used(client: Api, old: Old) -> None:
    request = {"languageModelId": old.language_model, "prompts": PROMPTS, "maxNewTokens": 2}
    generated = await ask(client, "generate", "Generation", {"input": ("GenerateInput!", request)})
    assert generated["__typename"] == "Generation"
    run = await capture(client, old.language_model)
    assert (await matching(client, old.sae, run)) == [False, True]
    # The same configuration: the layers are still those.
    assert (await model(client, old.language_model))["architecture"] == "LlamaForCausalLM"
    request = {"saeId": old.sae, "activationRunId": run}
    refused = await client.do(
        "indexNeurons", "... on JobLaunched { job { id } }", input=("IndexNeuronsInput!", request)
    )
    assert_names_both(refused, old)


async def test_only_what_was_seen_is_accepted(client: Api, old: Old, model_dir: Path) -> None:
    request = {"languageModelId": old.language_model, "fingerprint": "0" * 64}
    refused = await client.do("acceptLanguageModel", ACCEPTED, input=("AcceptLanguageModelInput!", request))
    assert refused["__typename"] == "Conflict"
    expected = by_sha256sum(model_dir, "config.json", "model.safetensors", "tokenizer.json")
    assert (await model(client, old.language_model))["fingerprint"] == expected
    assert expected in refused["message"]


async def test_accepted_new_weights_are_used_and_named(client: Api, old: Old) -> None:
    fingerprint = (await model(client, old.language_model))["fingerprint"]
    request = {"languageModelId": old.language_model, "fingerprint": fingerprint, "saeId": old.sae}
    accepted = await client.do("acceptLanguageModel", ACCEPTED, input=("AcceptLanguageModelInput!", request))
    assert accepted["languageModel"]["fingerprint"] == fingerprint
    assert (await matching(client, old.sae, old.run)) == [True, True]
    for field, type, arguments in old.reads():
        assert (await ask(client, field, type, arguments))["__typename"] == type
    for mutation, arguments in old.jobs():
        await client.run_job(mutation, **arguments)
    document = """query($id: ID!) { sae(id: $id) { evaluation { languageModel { fingerprint } }
        provenance { activationRun { languageModel { fingerprint } } }
        neuronIndex { provenance { languageModel { fingerprint } } } } }"""
    sae = (await client.ask(document, id=old.sae))["sae"]
    assert sae["evaluation"]["languageModel"]["fingerprint"] == fingerprint
    assert sae["neuronIndex"]["provenance"]["languageModel"]["fingerprint"] == fingerprint
    assert sae["provenance"]["activationRun"]["languageModel"]["fingerprint"] != fingerprint


async def test_layers_of_another_architecture_are_not_shown_before_they_are_known(
    client: Api, old: Old, model_dir: Path, tmp_path: Path
) -> None:
    for file in make_tiny_model(tmp_path / "other", n_layers=3, hidden_size=16).iterdir():
        shutil.copy(file, model_dir / file.name)
    found = await model(client, old.language_model)
    assert set(found.values()) == {None}
    request = {"languageModelId": old.language_model, "layers": [LAST_LAYER], "dataset": {"texts": TEXTS}}
    refused = await client.do(
        "captureActivations",
        "... on JobLaunched { job { id } }",
        input=("CaptureActivationsInput!", request),
    )
    assert refused["__typename"] == "Conflict" and "loadLanguageModel" in refused["message"]
    await client.run_job("loadLanguageModel", id=("ID!", old.language_model))
    found = await model(client, old.language_model)
    assert found["hiddenSize"] == 16 and LAST_LAYER in [layer["name"] for layer in found["layers"]]
    await client.run_job("captureActivations", input=("CaptureActivationsInput!", request))
    # What was accepted is not accepted for good.
    of_sae = {"saeId": ("ID!", old.sae), "prompts": ("[String!]!", PROMPTS)}
    assert (await ask(client, "topNeurons", "TopNeurons", of_sae))["__typename"] == "Conflict"
