"""SAEs from elsewhere over the public API: used like trained ones, exported, refused where they are none."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.numpy import load, load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e.by_hand import assert_same_ranking
from tests.e2e.client import Api, api, load_model
from tests.support.server_process import RunningServer, server_process

BLOCK = "llamaforcausallm_model_layers_0"
WIDTH, N_LATENTS = 32, 96
PROMPTS = ["The for statement is used to iterate over the elements of a sequence.", "A string"]
SAE = """query($id: ID!) { sae(id: $id) {
  name status origin saeClass layer inputSize latentCount k inputNormalization checkpointPath metadataPath
  activationRun { id } trainingConfig { epochs } trainingHistory { step } job { kind progress { unit } }
  exports { format url byteSize }
  provenance { activationRunId training { shuffleSeed } sourceFormat
    sourceFiles { name byteSize sha256 } }
  fit { explainedVariance l0 statedL0 tokenCount warnings } } }"""


FIT = {
    "explainedVariance": "explained_variance",
    "l0": "l0",
    "statedL0": "stated_l0",
    "tokenCount": "token_count",
    "warnings": "warnings",
}


@dataclass(frozen=True)
class Site:
    """A server, and what it may load from."""

    server: RunningServer
    models: Path
    tiny: Path
    language_model: str


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with an SAE as SAELens keeps them: standard, with a bias that matters."""
    directory: Path = tmp_path_factory.mktemp("models")
    random = np.random.default_rng(0)
    tensors = {
        "W_enc": random.normal(size=(WIDTH, N_LATENTS)),
        "b_enc": random.normal(size=N_LATENTS) - 1,
        "W_dec": random.normal(size=(N_LATENTS, WIDTH)) / 4,
        "b_dec": random.normal(size=WIDTH) / 2,
    }
    cfg = {
        "architecture": "standard",
        "d_in": WIDTH,
        "d_sae": N_LATENTS,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"sae_lens_version": "6.10.0", "hook_name": "blocks.1.hook_resid_post"},
    }
    (directory / "theirs").mkdir()
    (directory / "theirs" / "cfg.json").write_text(json.dumps(cfg))
    save_file(
        {name: tensor.astype(np.float32) for name, tensor in tensors.items()},
        directory / "theirs" / "sae_weights.safetensors",
    )
    return directory


@pytest.fixture(scope="module")
def server(
    models: Path, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    directories = os.pathsep.join((str(tiny_model_dir), str(models)))
    with server_process(tmp_path_factory.mktemp("artifacts"), MODEL_DIRS=directories) as running:
        yield running


@pytest.fixture(scope="module")
async def site(server: RunningServer, models: Path, tiny_model_dir: Path) -> Site:
    async with api(server.url) as client:
        language_model = await load_model(client, str(tiny_model_dir), "tiny")
    return Site(server, models, tiny_model_dir, language_model)


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Api]:
    async with api(server.url) as connected:
        yield connected


def import_input(site: Site, **source: str) -> dict[str, tuple[str, Any]]:
    given = {"languageModelId": site.language_model, "layer": BLOCK, "source": source}
    return {"input": ("ImportSaeInput!", given)}


async def import_sae(client: Api, site: Site, **source: str) -> tuple[str, list[dict[str, Any]]]:
    return await client.run_job("importSae", **import_input(site, **source))


@pytest.fixture(scope="module")
async def imported(site: Site) -> tuple[str, list[dict[str, Any]]]:
    """Import the SAE; returns its ID and the job's events."""
    async with api(site.server.url) as client:
        return await import_sae(client, site, saeLens="theirs")


def by_hand(site: Site, prompt: str, tensors: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return SAELens' latents of a standard SAE, highest over the prompt's tokens: [n_latents]."""
    tokenizer: Any = AutoTokenizer.from_pretrained(site.tiny)
    model: Any = AutoModelForCausalLM.from_pretrained(site.tiny).eval()
    token_ids = tokenizer(prompt)["input_ids"]
    with torch.no_grad():
        states = model(torch.tensor([token_ids]), output_hidden_states=True).hidden_states[1][0].numpy()
    counted = states[[id not in tokenizer.all_special_ids for id in token_ids]]
    latents = (counted - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    highest: np.ndarray[Any, Any] = np.maximum(latents, 0).max(axis=0)
    return highest


async def top_neurons(client: Api, sae: str) -> list[dict[str, Any]]:
    top = await client.get(
        "topNeurons",
        "... on TopNeurons { prompts { neurons { neuron { index } activation } } }",
        saeId=("ID!", sae),
        prompts=("[String!]!", PROMPTS),
    )
    prompts: list[dict[str, Any]] = top["prompts"]
    return prompts


async def test_an_imported_sae_shows_what_it_is(
    client: Api, site: Site, imported: tuple[str, list[dict[str, Any]]]
) -> None:
    id, events = imported
    sae = (await client.ask(SAE, id=id))["sae"]
    assert (sae["status"], sae["origin"], sae["name"]) == ("READY", "IMPORTED", "theirs on tiny")
    assert (sae["saeClass"], sae["inputSize"], sae["latentCount"], sae["k"]) == ("ReLUSae", 32, 96, None)
    assert sae["inputNormalization"] == "NONE"
    assert (sae["activationRun"], sae["trainingConfig"], sae["trainingHistory"]) == (None, None, [])
    assert sae["job"] == {"kind": "IMPORT_SAE", "progress": {"unit": "BYTES"}} and sae["exports"] == []
    assert (site.server.artifact_dir / sae["checkpointPath"]).is_file()
    metadata = json.loads((site.server.artifact_dir / sae["metadataPath"]).read_text())
    provenance = sae["provenance"]
    assert (provenance["activationRunId"], provenance["training"]) == (None, None)
    assert provenance["sourceFormat"] == "SAE_LENS"
    # Its weights are random numbers, which fit nothing.
    assert sae["fit"] == {name: metadata["fit"][snake] for name, snake in FIT.items()}
    assert sae["fit"]["explainedVariance"] < 0 and sae["fit"]["statedL0"] is None
    assert [event["message"] for event in events if "Likely reasons" in event.get("message", "")] == (
        sae["fit"]["warnings"]
    )
    assert [file["name"] for file in provenance["sourceFiles"]] == ["cfg.json", "sae_weights.safetensors"]
    assert metadata["source"]["path"] == "theirs" and len(metadata["source"]["files"]) == 2
    progress = [event["progress"] for event in events if event["__typename"] == "JobProgressed"]
    size = sum(path.stat().st_size for path in (site.models / "theirs").iterdir())
    assert progress[-1] == {"fraction": 1.0, "completed": size, "total": size, "unit": "BYTES"}
    messages = [event["message"] for event in events if event["__typename"] == "JobLogged"]
    assert any("blocks.1.hook_resid_post" in message for message in messages)


async def test_its_neurons_fire_as_saelens_formula_says(
    client: Api, site: Site, imported: tuple[str, list[dict[str, Any]]]
) -> None:
    tensors = load((site.models / "theirs" / "sae_weights.safetensors").read_bytes())
    for prompt, found in zip(PROMPTS, await top_neurons(client, imported[0]), strict=True):
        assert_same_ranking(found["neurons"], torch.from_numpy(by_hand(site, prompt, tensors)))


async def test_it_is_indexed_over_a_run_that_is_named(
    client: Api, site: Site, imported: tuple[str, list[dict[str, Any]]]
) -> None:
    refused = await client.do(
        "indexNeurons",
        "... on InvalidInput { fields { path } }",
        input=("IndexNeuronsInput!", {"saeId": imported[0]}),
    )
    assert refused["fields"] == [{"path": ["activationRunId"]}]
    capture = {
        "languageModelId": site.language_model,
        "layers": [BLOCK],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": 20,
        "maxLength": 32,
    }
    run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", capture))
    index = {"saeId": imported[0], "activationRunId": run, "topTextsPerNeuron": 3}
    await client.run_job("indexNeurons", input=("IndexNeuronsInput!", index))
    data = await client.ask(
        """query($id: ID!) { sae(id: $id) { neuronIndex { status tokenCount }
          neurons(first: 3, orderBy: FREQUENCY_DESC) { nodes { frequency topTexts { score } } } } }""",
        id=imported[0],
    )
    assert data["sae"]["neuronIndex"]["status"] == "READY"
    assert all(node["frequency"] > 0 and node["topTexts"] for node in data["sae"]["neurons"]["nodes"])


async def test_it_is_evaluated(client: Api, site: Site, imported: tuple[str, list[dict[str, Any]]]) -> None:
    given = {"saeId": imported[0], "dataset": {"builtIn": "PYTHON_REFERENCE"}, "sampleLimit": 8}
    await client.run_job("evaluateSae", input=("EvaluateSaeInput!", given))
    data = await client.ask(
        """query($id: ID!) { sae(id: $id) { metadataPath
          evaluation { tokenCount l0 mse ceLossOriginal ceLossReconstructed } } }""",
        id=imported[0],
    )
    figures = data["sae"]["evaluation"]
    assert figures["tokenCount"] > 0 and 0 < figures["l0"] < N_LATENTS
    assert None not in figures.values()
    metadata = json.loads((site.server.artifact_dir / data["sae"]["metadataPath"]).read_text())
    assert metadata["source"]["path"] == "theirs", "an evaluation leaves where the SAE came from"


async def test_it_steers(client: Api, imported: tuple[str, list[dict[str, Any]]]) -> None:
    strongest = (await top_neurons(client, imported[0]))[0]["neurons"][0]["neuron"]["index"]

    async def log_probabilities(multiplier: float) -> list[float]:
        edits = [{"neuronIndex": strongest, "multiplier": multiplier}]
        given = {
            "saeId": imported[0],
            "prompts": [PROMPTS[0]],
            "maxNewTokens": 4,
            "steering": {"source": {"edits": edits}},
        }
        generated = await client.do(
            "generate",
            "... on Generation { outputs { tokens { logProbability } } }",
            input=("GenerateInput!", given),
        )
        return [token["logProbability"] for token in generated["outputs"][0]["tokens"]]

    assert await log_probabilities(1) != await log_probabilities(30)


async def test_an_export_is_what_was_imported_and_comes_back_the_same(
    client: Api, site: Site, imported: tuple[str, list[dict[str, Any]]]
) -> None:
    copy, _ = await import_sae(client, site, saeLens=str(site.models / "theirs"))
    for _ in range(2):
        await client.run_job("exportSae", input=("ExportSaeInput!", {"saeId": copy}))
    (export,) = (await client.ask(SAE, id=copy))["sae"]["exports"]
    answer = httpx.get(site.server.url + export["url"])
    assert len(answer.content) == export["byteSize"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(site.models / "back")
    cfg = json.loads((site.models / "back" / "cfg.json").read_text())
    assert cfg["metadata"]["hook_name"] == "blocks.0.hook_resid_post" and cfg["apply_b_dec_to_input"] is True
    assert "model_from_pretrained_kwargs" not in cfg["metadata"], "nobody knows"
    assert cfg["metadata"]["prepend_bos"] is True, "the tiny model's tokenizer writes one"
    ours, theirs = (
        load((site.models / name / "sae_weights.safetensors").read_bytes()) for name in ("back", "theirs")
    )
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    back, events = await import_sae(client, site, saeLens="back")
    assert not any("is another place" in event.get("message", "") for event in events)
    assert await top_neurons(client, back) == await top_neurons(client, imported[0])
    for id in (copy, back):
        await client.do("deleteSae", "... on Deleted { deletedId }", id=("ID!", id))
    assert httpx.get(site.server.url + export["url"]).status_code == 404
    assert not any(site.server.artifact_dir.glob(f"sae/*/{copy}"))


async def test_a_checkpoint_of_the_servers_own_is_imported_and_fires_the_same(
    client: Api, site: Site, imported: tuple[str, list[dict[str, Any]]]
) -> None:
    checkpoint = next(site.server.artifact_dir.glob(f"sae/*/{imported[0]}/sae.pt"))
    (site.models / "sae.pt").write_bytes(checkpoint.read_bytes())
    again, _ = await import_sae(client, site, miCrow="sae.pt")
    assert await top_neurons(client, again) == await top_neurons(client, imported[0])


class Evil:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("field", ["miCrow", "path"])
async def test_a_malicious_checkpoint_is_refused_at_once_and_not_run(
    field: str, client: Api, site: Site, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    with zipfile.ZipFile(site.models / "evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps(Evil(trap), protocol=2))
    refused = await client.do(
        "importSae",
        "... on InvalidInput { fields { path message } }",
        **import_input(site, **{field: "evil.pt"}),
    )
    assert refused["fields"][0]["path"] == ["source", field]
    assert "holds more than tensors" in refused["fields"][0]["message"]
    assert not trap.exists()


async def test_weights_that_are_no_numbers_fail_their_job_and_leave_nothing(client: Api, site: Site) -> None:
    broken = site.models / "broken"
    shutil.copytree(site.models / "theirs", broken)
    tensors = load_file(broken / "sae_weights.safetensors")
    save_file(tensors | {"b_dec": np.full(WIDTH, np.nan, np.float32)}, broken / "sae_weights.safetensors")
    launched = await client.do(
        "importSae",
        "... on JobLaunched { job { id result { ... on Sae { id } } } }",
        **import_input(site, path="broken"),
    )
    end = (await client.follow(launched["job"]["id"]))[-1]
    assert end["status"] == "FAILED" and "b_dec has values that are NaN" in end["error"]
    id = launched["job"]["result"]["id"]
    sae = (await client.ask(SAE, id=id))["sae"]
    assert (sae["status"], sae["saeClass"], sae["checkpointPath"]) == ("FAILED", None, None)
    assert not any(site.server.artifact_dir.glob(f"sae/*/{id}"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"architecture": "abstopk"}, "'abstopk' has no counterpart"), ({"d_in": 33}, "d_in and d_sae say [33")],
)
async def test_what_cfg_json_tells_is_refused_at_once(
    changes: dict[str, Any], sentence: str, client: Api, site: Site
) -> None:
    other = site.models / "other"
    other.mkdir(exist_ok=True)
    cfg = json.loads((site.models / "theirs" / "cfg.json").read_text())
    (other / "cfg.json").write_text(json.dumps(cfg | changes))
    shutil.copy(site.models / "theirs" / "sae_weights.safetensors", other)
    refused = await client.do(
        "importSae",
        "... on InvalidInput { fields { path message } }",
        **import_input(site, saeLens="other"),
    )
    assert refused["fields"][0]["path"] == ["source", "saeLens"]
    assert sentence in refused["fields"][0]["message"]
