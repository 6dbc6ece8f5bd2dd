"""An SAE class that another package registers: installed, trained, loaded and steered with over the API."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e.client import Api, api, load_model
from tests.support.server_process import server_process

EXAMPLE = Path(__file__).parents[2] / "examples" / "tied-sae"
LAYER = "llamaforcausallm_model_layers_0"
PROMPT = "The for statement is used to iterate over the elements of a sequence."
K = 4


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory that the example has been installed into by pip."""
    directory = tmp_path_factory.mktemp("site")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "package")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        *offline,
        "--target",
        str(directory),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return directory


@pytest.fixture(scope="module")
def with_package(installed: Path) -> Iterator[None]:
    """Have the package where new processes look for packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installed), prepend=os.pathsep)
        yield


def latents_by_hand(checkpoint: Path, model_dir: Path) -> torch.Tensor:
    """Return the latents [n_tokens, n_latents] of the prompt without its <bos>, by the formula itself."""
    weights = torch.load(checkpoint, weights_only=True)["engine"]
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(model_dir)(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        x = model(ids, output_hidden_states=True).hidden_states[1][0, 1:]
    pre_activations = (x - weights["input_bias"]) @ weights["weight"].T + weights["encoder_bias"]
    smallest_kept = pre_activations.topk(K).values[:, -1:]
    return torch.where(pre_activations >= smallest_kept, pre_activations.clamp(min=0), torch.zeros(()))


async def train(client: Api, language_model: str) -> str:
    capture = {
        "languageModelId": language_model,
        "layers": [LAYER],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": 40,
        "maxLength": 32,
    }
    run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", capture))
    request = {
        "activationRunId": run,
        "saeClass": "TiedTopKSae",
        "latentCount": 96,
        "k": K,
        "batchSize": 128,
        "epochs": 4,
        "indexNeurons": False,
    }
    sae, events = await client.run_job("trainSae", input=("TrainSaeInput!", request))
    points = [event["point"] for event in events if event["__typename"] == "TrainingStepped"]
    assert points[-1]["explainedVariance"] > points[0]["explainedVariance"]
    await client.run_job("indexNeurons", input=("IndexNeuronsInput!", {"saeId": sae}))
    return sae


async def steer(client: Api, trained: "Trained", edit: dict[str, Any]) -> list[list[int]]:
    """Return the tokens of the unsteered and of the steered output."""
    request = {
        "saeId": trained.sae,
        "prompts": [PROMPT],
        "maxNewTokens": 8,
        "temperature": 0,
        "steering": {"source": {"edits": [edit]}},
        "compareToBaseline": True,
    }
    generated = await client.do(
        "generate",
        "... on Generation { outputs { variant tokens { tokenId } } }",
        input=("GenerateInput!", request),
    )
    assert generated["__typename"] == "Generation", generated
    outputs = sorted(generated["outputs"], key=lambda output: str(output["variant"]))
    return [[token["tokenId"] for token in output["tokens"]] for output in outputs]


@dataclass(frozen=True)
class Trained:
    """An SAE of the example's class, and the artifact directory that it is in."""

    directory: Path
    language_model: str
    sae: str


@pytest.fixture(scope="module")
async def trained(
    with_package: None, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Train one on a server that has ended since, so that nothing of it is left in memory."""
    directory = tmp_path_factory.mktemp("artifacts")
    with server_process(directory, MODEL_DIRS=str(tiny_model_dir)) as server:
        async with api(server.url) as client:
            assert "TiedTopKSae" in (await client.ask("{ server { saeClasses } }"))["server"]["saeClasses"]
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            return Trained(directory, language_model, await train(client, language_model))


async def test_a_class_of_another_package_is_loaded_looked_at_and_steered_with(
    trained: Trained, tiny_model_dir: Path
) -> None:
    with server_process(trained.directory, MODEL_DIRS=str(tiny_model_dir)) as server:
        async with api(server.url) as client:
            document = "query($id: ID!) { sae(id: $id) { saeClass k checkpointPath neuronIndex { status } } }"
            sae = (await client.ask(document, id=trained.sae))["sae"]
            assert (sae["saeClass"], sae["k"], sae["neuronIndex"]["status"]) == ("TiedTopKSae", K, "READY")
            latents = latents_by_hand(trained.directory / sae["checkpointPath"], tiny_model_dir)
            strongest = latents.max(dim=0).values.topk(5)
            found = await client.get(
                "topNeurons",
                "... on TopNeurons { prompts { neurons { neuron { index } activation } } }",
                saeId=("ID!", trained.sae),
                prompts=("[String!]!", [PROMPT]),
                first=("Int!", 5),
            )
            neurons = found["prompts"][0]["neurons"]
            assert [entry["neuron"]["index"] for entry in neurons] == strongest.indices.tolist()
            activations = torch.tensor([entry["activation"] for entry in neurons])
            torch.testing.assert_close(activations, strongest.values, rtol=1e-4, atol=1e-5)
            neuron = {"neuronIndex": int(strongest.indices[0])}
            same = await steer(client, trained, neuron | {"multiplier": 1, "bias": 0})
            other = await steer(client, trained, neuron | {"multiplier": 0, "bias": 99})
            assert same[0] == same[1] == other[0] != other[1]


async def test_without_the_package_its_SAEs_stay_and_say_what_is_missing(
    trained: Trained, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.environ["PYTHONPATH"].partition(os.pathsep)[2])
    with server_process(trained.directory, MODEL_DIRS=str(tiny_model_dir)) as server:
        async with api(server.url) as client:
            data = await client.ask("query($id: ID!) { sae(id: $id) { status saeClass } }", id=trained.sae)
            assert data["sae"] == {"status": "READY", "saeClass": "TiedTopKSae"}
            refused = await client.get(
                "topNeurons", "", saeId=("ID!", trained.sae), prompts=("[String!]!", [PROMPT])
            )
            assert "no SAE class 'TiedTopKSae'" in refused["message"]
