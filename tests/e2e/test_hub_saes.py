"""An SAE of the Hub over the public API: broken off, retried, imported; and what its job says otherwise."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.e2e.client import Api, api, load_model
from tests.support.fake_hub import COMMIT, REPOSITORY, FakeHub, fake_hub
from tests.support.server_process import RunningServer, server_process

BLOCK = "llamaforcausallm_model_layers_0"
WIDTH, N_LATENTS = 32, 30_000
HEAD = 8 + 1024 * 1024
"""How much of a safetensors file is got to know its header."""
PATH = "v1/blocks.0.hook_resid_post"
JOB = """query($id: ID!) { job(id: $id) {
  status error attempt result { ... on Sae { id } }
  request { ... on ImportRequest { sourceFormat source huggingFace { repository path revision } } } } }"""
SAE = """query($id: ID!) { sae(id: $id) { status saeClass latentCount
  provenance { sourceFormat huggingFace { repository path revision } sourceFiles { name byteSize } } } }"""
RETRY = "mutation($id: ID!) { retryJob(id: $id) { __typename ... on Error { message } } }"
PROGRESS = """subscription($id: ID!) { jobProgress(id: $id) { job { status }
  ... on JobProgressed { progress { completed total stage { name completed total } } } } }"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Run a Hub with an SAE in SAELens' layout, for servers that begin from now on."""
    directory = tmp_path / "repository" / PATH
    directory.mkdir(parents=True)
    random = np.random.default_rng(0)
    shapes: dict[str, Any] = {
        "W_enc": (WIDTH, N_LATENTS),
        "b_enc": N_LATENTS,
        "W_dec": (N_LATENTS, WIDTH),
        "b_dec": WIDTH,
    }
    tensors = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    save_file(tensors, directory / "sae_weights.safetensors")
    (directory / "sparsity.safetensors").write_bytes(b"not needed")
    cfg = {"architecture": "standard", "d_in": WIDTH, "d_sae": N_LATENTS, "dtype": "float32"}
    (directory / "cfg.json").write_text(json.dumps(cfg))
    with fake_hub(tmp_path / "repository") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.fixture
def server(hub: FakeHub, tiny_model_dir: Path, tmp_path: Path) -> Iterator[RunningServer]:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "PROGRESS_INTERVAL_SECONDS": "0.05"}
    with server_process(tmp_path / "artifacts", **settings) as running:
        yield running


async def launch(client: Api, language_model: str, **asked: str) -> str:
    source = {"huggingFace": {"repository": REPOSITORY, **asked}}
    given = {"languageModelId": language_model, "layer": BLOCK, "source": source}
    launched = await client.do(
        "importSae", "... on JobLaunched { job { id } }", input=("ImportSaeInput!", given)
    )
    return str(launched["job"]["id"])


async def end_of(client: Api, job: str) -> dict[str, Any]:
    await client.follow(job)
    found: dict[str, Any] = (await client.ask(JOB, id=job))["job"]
    return found


async def test_an_sae_of_the_hub_is_gone_on_with_after_a_broken_connection_and_a_retry(
    hub: FakeHub, server: RunningServer, tiny_model_dir: Path
) -> None:
    size = (hub.directory / PATH / "sae_weights.safetensors").stat().st_size
    # The header comes; then the connection breaks in the middle, and after it at once, again and again.
    hub.breaks_after = [HEAD, 2_000_000, 0, 0, 0, 0, 0]
    async with api(server.url) as client:
        language_model = await load_model(client, str(tiny_model_dir), "tiny")
        job = await launch(client, language_model, path=PATH)
        failed = await end_of(client, job)
        assert failed["status"] == "FAILED"
        assert failed["error"].startswith(
            f"The SAE {REPOSITORY}/{PATH} could not be had from the Hub: The Hub"
        )
        asked = {"repository": REPOSITORY, "path": PATH, "revision": None}
        assert failed["request"] == {
            "sourceFormat": None,
            "source": f"{REPOSITORY}/{PATH}",
            "huggingFace": asked,
        }
        sae = failed["result"]["id"]
        assert (await client.ask(SAE, id=sae))["sae"]["status"] == "FAILED"
        hub.breaks_after = [1_000_000]
        assert (await client.ask(RETRY, id=job))["retryJob"]["__typename"] == "JobLaunched"
        ended = await end_of(client, job)
        assert (ended["status"], ended["error"], ended["attempt"]) == ("SUCCEEDED", None, 2)
        assert ended["request"]["sourceFormat"] == "SAE_LENS"
        places = [int(part.partition("=")[2].partition("-")[0]) for _, part in hub.ranges[1:]]
        broken = HEAD + 2_000_000
        assert places == [0, HEAD, *[broken] * 5, broken, broken + 1_000_000]
        shown = (await client.ask(SAE, id=sae))["sae"]
        assert (shown["status"], shown["saeClass"]) == ("READY", "ReLUSae")
        assert shown["latentCount"] == N_LATENTS
        assert shown["provenance"]["huggingFace"] == asked | {"revision": COMMIT}
        files = {file["name"]: file["byteSize"] for file in shown["provenance"]["sourceFiles"]}
        assert files.keys() == {"cfg.json", "sae_weights.safetensors"}
        assert files["sae_weights.safetensors"] == size
        seen = [data["jobProgress"] async for data in client.listen(PROGRESS, id=job)]
        stages = [one["progress"]["stage"] for one in seen if "progress" in one]
        told = [stage for stage in stages if stage and stage["name"] == "downloading the SAE"]
        total = size + (hub.directory / PATH / "cfg.json").stat().st_size
        assert told[-1]["total"] == total and max(stage["completed"] for stage in told) >= broken
    (directory,) = server.artifact_dir.glob(f"sae/*/{sae}")
    assert {file.name for file in directory.iterdir()} == {"sae.pt", "metadata.json"}


async def test_a_path_that_is_not_in_the_repository_fails_its_job_and_leaves_nothing(
    hub: FakeHub, server: RunningServer, tiny_model_dir: Path
) -> None:
    async with api(server.url) as client:
        language_model = await load_model(client, str(tiny_model_dir), "tiny")
        failed = await end_of(client, await launch(client, language_model, path="v1/blocks.1"))
        assert failed["status"] == "FAILED"
        assert failed["error"] == (
            f"The repository {REPOSITORY} has no v1/blocks.1. Near it there is {PATH}."
        )
        several = await end_of(client, await launch(client, language_model))
        assert several["status"] == "FAILED" and f"name one, such as {PATH}." in several["error"]
    assert list(server.artifact_dir.glob("sae/*/*")) == []
