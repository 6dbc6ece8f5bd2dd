"""What runs, SAEs and indexes say of where they come from, computed anew from the files."""

import hashlib
import json
import platform
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from gql_server import __version__
from gql_server.compute.training.metrics import DEFINITIONS_VERSION
from tests.e2e.client import Api, api, load_model
from tests.support.server_process import RunningServer, server_process

LAYER = "llamaforcausallm_model_layers_0"
TEXTS = [
    "left out",
    "",
    "Grüße an alle 🙂",
    *(f"Text {n} of some that are captured." for n in range(30)),
    "end",
]
MODEL = """
    sourceKind source revision files { name byteSize sha256 } dtype tokenizerSha256
    tokenizerFiles { name byteSize sha256 }"""
RUN = f"""
    languageModel {{ {MODEL} }}
    dataset {{ kind description huggingFace {{ repository config split textField revision }} pythonVersion
      sampleOffset sampleLimit sha256 skippedRowCount }}
    layers maxLength longTexts truncatedTextCount nonFiniteTokenCount addBos beginTokenIds
    batchSize dtype paddingSide specialTokenIds matmulPrecision versions {{ name version }}"""
CONFIG = """
    epochs batchSize k learningRate l1Lambda seed device excludeFirstPositions excludeOutliers medianNorm
    groupFractions"""
SAE = f"""
    checkpointSha256 sourceFormat huggingFace {{ repository }}
    sourcePrependsBos writesBos inputScale inputsCentered saeClass inputSize latentCount layer activationRunId
    activationRun {{ {RUN} }}
    training {{
      config {{ {CONFIG} }}
      shuffleSeed shuffleBufferRows activationScale deadWindow batchCount tokenCount threadCount
      matmulPrecision excludedTokenCount nonFiniteTokenCount }}
    languageModel {{ source }} sourceFiles {{ name }} metricDefinitionsVersion versions {{ name version }}"""
INDEX = f"""
    saeId saeCheckpointSha256 activationRunId activationRun {{ {RUN} }} batchCount topTextsPerNeuron
    excludeFirstPositions excludeOutliers medianNorm excludedTokenCount nonFiniteTokenCount
    languageModel {{ {MODEL} }}
    metricDefinitionsVersion versions {{ name version }}"""


@pytest.fixture(scope="module")
def model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model of this module's own, whose weights may be changed."""
    return shutil.copytree(tiny_model_dir, tmp_path_factory.mktemp("models") / "changing")


@pytest.fixture(scope="module")
def server(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with server_process(tmp_path_factory.mktemp("artifacts"), MODEL_DIRS=str(model_dir)) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Api]:
    async with api(server.url) as connected:
        yield connected


@dataclass(frozen=True)
class Made:
    """What was made, and what it says of itself."""

    language_model: str
    run: dict[str, Any]
    sae: dict[str, Any]


async def capture(client: Api, language_model: str, **more: Any) -> dict[str, Any]:
    request = {
        "languageModelId": language_model,
        "layers": [LAYER],
        "dataset": {"texts": TEXTS},
        "sampleOffset": 1,
        "sampleLimit": 32,
        "maxLength": 20,
        "batchSize": 4,
    }
    id, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", request | more))
    selection = f"id manifestPath batchCount provenance {{ {RUN} }}"
    data = await client.ask(f"query($id: ID!) {{ activationRun(id: $id) {{ {selection} }} }}", id=id)
    run: dict[str, Any] = data["activationRun"]
    return run


@pytest.fixture(scope="module")
async def made(server: RunningServer, model_dir: Path) -> Made:
    async with api(server.url) as client:
        language_model = await load_model(client, str(model_dir), "changing")
        run = await capture(client, language_model)
        train = {
            "activationRunId": run["id"],
            "saeClass": "TopKSae",
            "latentCount": 64,
            "k": 4,
            "batchSize": 64,
            "epochs": 2,
            "seed": 7,
            "indexNeurons": False,
        }
        sae_id, _ = await client.run_job("trainSae", input=("TrainSaeInput!", train))
        wanted = {"saeId": sae_id, "topTextsPerNeuron": 3}
        await client.run_job("indexNeurons", input=("IndexNeuronsInput!", wanted))
        document = f"""query($id: ID!) {{ sae(id: $id) {{ id checkpointPath metadataPath
            trainingConfig {{ {CONFIG} }}
            provenance {{ {SAE} }} neuronIndex {{ provenance {{ {INDEX} }} }} }} }}"""
        sae = (await client.ask(document, id=sae_id))["sae"]
    return Made(language_model, run, sae)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashed(path: Path) -> dict[str, Any]:
    return {"name": path.name, "byteSize": path.stat().st_size, "sha256": sha256(path)}


def sha256_of_texts(texts: list[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(len(text.encode()).to_bytes(8, "big"))
        digest.update(text.encode())
    return digest.hexdigest()


def as_shown(stored: Any) -> Any:
    """Return JSON of a file with its names and versions as the API has them."""
    if isinstance(stored, list):
        return [as_shown(item) for item in stored]
    if not isinstance(stored, dict):
        return stored
    shown = {
        re.sub("_(.)", lambda match: match[1].upper(), name): as_shown(value)
        for name, value in stored.items()
        if name != "versions"
    }
    if "versions" in stored:
        shown["versions"] = [{"name": name, "version": number} for name, number in stored["versions"].items()]
    names = {"run": "activationRun", "nInputs": "inputSize", "nLatents": "latentCount"}
    return {names.get(name, name): value for name, value in shown.items()}


async def test_the_hashes_of_model_tokenizer_and_texts_are_those_computed_by_hand(
    made: Made, server: RunningServer, tiny_model_dir: Path
) -> None:
    provenance = made.run["provenance"]
    assert provenance["languageModel"] == {
        "sourceKind": "DIRECTORY",
        "source": "changing",
        "revision": None,
        "files": [hashed(tiny_model_dir / name) for name in ("config.json", "model.safetensors")],
        "dtype": "FLOAT32",
        "tokenizerSha256": sha256(server.artifact_dir / "models" / made.language_model / "tokenizer.json"),
        "tokenizerFiles": [hashed(tiny_model_dir / "tokenizer.json")],
    }
    assert provenance["dataset"] == {
        "kind": "INLINE",
        "description": f"{len(TEXTS)} texts",
        "huggingFace": None,
        "pythonVersion": None,
        "sampleOffset": 1,
        "sampleLimit": 32,
        "sha256": sha256_of_texts(TEXTS[1:33]),
        "skippedRowCount": 0,
    }
    assert (provenance["layers"], provenance["maxLength"], provenance["batchSize"]) == ([LAYER], 20, 4)
    assert (provenance["paddingSide"], provenance["specialTokenIds"]) == ("right", [0, 1, 2])
    assert provenance["matmulPrecision"] == "highest"
    versions = {entry["name"]: entry["version"] for entry in provenance["versions"]}
    assert versions["gql-server"] == __version__ and versions["python"] == platform.python_version()
    for package in ("mi-crow", "overcomplete", "torch", "transformers", "tokenizers"):
        assert versions[package] == version(package)


async def test_an_SAE_says_what_it_was_trained_on_and_how(made: Made, server: RunningServer) -> None:
    provenance, training = made.sae["provenance"], made.sae["provenance"]["training"]
    metadata = json.loads((server.artifact_dir / made.sae["metadataPath"]).read_text())
    assert provenance["checkpointSha256"] == sha256(server.artifact_dir / made.sae["checkpointPath"])
    assert provenance["activationRunId"] == made.run["id"]
    assert provenance["activationRun"] == made.run["provenance"]
    assert provenance["saeClass"] == "TopKSae" and provenance["layer"] == LAYER
    assert (provenance["inputSize"], provenance["latentCount"]) == (32, 64)
    assert provenance["sourceFiles"] == []
    assert provenance["metricDefinitionsVersion"] == DEFINITIONS_VERSION
    assert training["config"] == made.sae["trainingConfig"] and training["config"]["seed"] == 7
    assert training["shuffleSeed"] == 7 * 1_000_003
    assert training["shuffleBufferRows"] == training["tokenCount"] == metadata["token_count"]
    assert training["activationScale"] == metadata["activation_scale"]
    assert training["deadWindow"] == metadata["dead_window"] and training["threadCount"] >= 1
    assert training["matmulPrecision"] == "highest"
    assert training["batchCount"] == made.run["batchCount"] == 8


async def test_an_index_says_what_it_passed_over(made: Made) -> None:
    provenance = made.sae["neuronIndex"]["provenance"]
    assert provenance["saeId"] == made.sae["id"] and provenance["activationRunId"] == made.run["id"]
    assert provenance["saeCheckpointSha256"] == made.sae["provenance"]["checkpointSha256"]
    assert provenance["activationRun"] == made.run["provenance"]
    assert (provenance["batchCount"], provenance["topTextsPerNeuron"]) == (8, 3)


async def test_the_files_say_the_same_as_the_API(made: Made, server: RunningServer) -> None:
    manifest = json.loads((server.artifact_dir / made.run["manifestPath"]).read_text())
    assert as_shown(manifest["provenance"]) == made.run["provenance"]
    metadata = json.loads((server.artifact_dir / made.sae["metadataPath"]).read_text())
    assert as_shown(metadata["provenance"]) == made.sae["provenance"]
    (file,) = server.artifact_dir.glob("store/runs/*/provenance.json")
    assert as_shown(json.loads(file.read_text())) == made.sae["neuronIndex"]["provenance"]


async def test_what_a_provenance_says_done_again_gives_the_same_checkpoint(client: Api, made: Made) -> None:
    said = made.sae["provenance"]
    run, config = said["activationRun"], said["training"]["config"]
    again = await capture(
        client,
        made.language_model,
        layers=run["layers"],
        sampleOffset=run["dataset"]["sampleOffset"],
        sampleLimit=run["dataset"]["sampleLimit"],
        maxLength=run["maxLength"],
        batchSize=run["batchSize"],
        dtype=run["dtype"],
    )
    assert again["provenance"] == run
    train = {
        "activationRunId": again["id"],
        "saeClass": said["saeClass"],
        "latentCount": said["latentCount"],
        "indexNeurons": False,
        **{name: config[name] for name in ("k", "epochs", "batchSize", "learningRate", "l1Lambda", "seed")},
    }
    sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", train))
    document = "query($id: ID!) { sae(id: $id) { provenance { checkpointSha256 } } }"
    found = (await client.ask(document, id=sae))["sae"]["provenance"]
    assert found["checkpointSha256"] == said["checkpointSha256"]


async def test_another_text_gives_another_hash(client: Api, made: Made) -> None:
    texts = [*TEXTS[:-2], "another", "end"]
    other = await capture(client, made.language_model, dataset={"texts": texts})
    assert other["provenance"]["dataset"]["sha256"] == sha256_of_texts(texts[1:33])
    assert other["provenance"]["dataset"]["sha256"] != made.run["provenance"]["dataset"]["sha256"]
    assert other["provenance"]["languageModel"] == made.run["provenance"]["languageModel"]


async def test_the_built_in_dataset_names_the_Python_that_it_is_from(client: Api, made: Made) -> None:
    run = await capture(client, made.language_model, dataset={"builtIn": "PYTHON_REFERENCE"}, sampleLimit=5)
    assert run["provenance"]["dataset"]["pythonVersion"] == platform.python_version()
    assert run["provenance"]["dataset"]["kind"] == "BUILT_IN"


async def test_other_weights_in_the_same_directory_are_loaded_and_give_another_hash(
    client: Api, made: Made, model_dir: Path, server: RunningServer
) -> None:
    weights = load_file(model_dir / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"] *= 2
    save_file(weights, model_dir / "model.safetensors", metadata={"format": "pt"})
    other = await capture(client, made.language_model)
    before, after = (run["provenance"]["languageModel"]["files"] for run in (made.run, other))
    assert after[0] == before[0]
    assert after[1]["sha256"] == sha256(model_dir / "model.safetensors") != before[1]["sha256"]
    stored = [
        load_file(
            server.artifact_dir / "store/runs" / run["id"] / "batch_0" / LAYER / "activations.safetensors"
        )
        for run in (made.run, other)
    ]
    assert not stored[0]["tensor"].equal(stored[1]["tensor"])
