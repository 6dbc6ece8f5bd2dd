"""A server with a model, a run and an SAE, and the page's files laid out for the clients."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.snippets import ROOT, files
from tests.e2e.client import api, load_model
from tests.support.server_process import RunningServer, server_process

HERE = Path(__file__).parent
NODE = shutil.which("node")
NODE_MODULES = HERE / "node_modules"
ARIADNE_CODEGEN = HERE / ".venv/bin/ariadne-codegen"

TOKEN = "a-token-of-the-clients"
MAX_UPLOAD_BYTES = 100_000
LAYER = "llamaforcausallm_model_layers_0"
CLIENT_SECONDS = 60

needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js")
needs_node_modules = pytest.mark.skipif(
    not (NODE_MODULES / ".package-lock.json").exists(), reason="needs the JavaScript clients: make others"
)
needs_ariadne_codegen = pytest.mark.skipif(
    not ARIADNE_CODEGEN.exists(),
    reason="needs ariadne-codegen in an environment of its own: make conformance",
)


@dataclass(frozen=True)
class Site:
    """A server, and the IDs of what is on it."""

    server: RunningServer
    language_model: str
    sae: str
    training: str
    """The job that trained the SAE; its log is long."""
    last_sequence: int

    @property
    def arguments(self) -> dict[str, Any]:
        """What the drivers are given."""
        return {
            "capture": {
                "languageModelId": self.language_model,
                "layers": [LAYER],
                "dataset": {"texts": ["One text.", "Another text."]},
            },
            "job": self.training,
            "after": 0,
            "saeId": self.sae,
            "csv": "neuron_idx,concept_name,score\n1,loops,0.9\n2,strings,\n",
            "jsonl": '{"body": "one text"}\n{"body": "another"}\n',
        }


@pytest.fixture(scope="session")
def site(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run a server that wants a token, and train a small SAE on it."""
    settings = {
        "MODEL_DIRS": str(tiny_model_dir),
        "TOKEN": TOKEN,
        "MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
        "PROGRESS_INTERVAL_SECONDS": "0.001",
        "WORKERS": "1",
    }
    with server_process(tmp_path_factory.mktemp("artifacts"), **settings) as server:
        yield asyncio.run(_prepare(server, tiny_model_dir))


async def _prepare(server: RunningServer, model: Path) -> Site:
    async with api(server.url, TOKEN) as client:
        language_model = await load_model(client, str(model), "tiny")
        capture = {
            "languageModelId": language_model,
            "layers": [LAYER],
            "dataset": {"builtIn": "PYTHON_REFERENCE"},
            "sampleLimit": 40,
        }
        run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", capture))
        train = {"activationRunId": run, "latentCount": 64, "k": 4, "batchSize": 64, "epochs": 4}
        train |= {"indexNeurons": False}
        sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", train))
        job = (await client.ask("query($id: ID!) { sae(id: $id) { job { id lastSequence } } }", id=sae))[
            "sae"
        ]["job"]
    return Site(server, language_model, sae, job["id"], job["lastSequence"])


@pytest.fixture(scope="session")
def page_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with the page's files, the schema, and the packages that were installed for them."""
    directory = tmp_path_factory.mktemp("clients")
    for name, content in files().items():
        (directory / name).write_text(content)
    (directory / "schema.graphql").symlink_to(ROOT / "schema.graphql")
    (directory / "package.json").symlink_to(HERE / "package.json")
    (directory / "node_modules").symlink_to(NODE_MODULES)
    return directory


@pytest.fixture(scope="session")
def generated_python(page_files: Path) -> Path:
    """Generate the package that ariadne_client.py imports."""
    run([str(ARIADNE_CODEGEN)], page_files)
    return page_files


@pytest.fixture(scope="session")
def generated_typescript(page_files: Path) -> Path:
    """Generate the types that typed.ts imports, and make JavaScript of both."""
    run(["node_modules/.bin/graphql-codegen", "--config", "codegen.ts"], page_files)
    run(["node_modules/.bin/tsc"], page_files)
    return page_files


def run(command: list[str], directory: Path, **environment: str) -> str:
    """Return what a command prints; it must succeed."""
    ended = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def drive(module: Path, task: str, url: str, arguments: dict[str, Any], token: str = TOKEN) -> Any:
    """Return what a client reports of a task."""
    driver = [sys.executable, "drive.py"] if module.suffix == ".py" else [NODE or "", "drive.mjs"]
    command = [driver[0], str(HERE / driver[1]), task, str(module), json.dumps(arguments)]
    out = run(command, module.parent, GRAPHQL_URL=f"{url}/graphql", GRAPHQL_TOKEN=token)
    return json.loads(out.splitlines()[-1])
