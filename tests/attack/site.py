"""The server that is attacked: a real one, with a token, a language model and directories to read from."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.fuzz.making import Maker
from tests.support.server_process import RunningServer, server_process
from tests.support.tiny_model import make_tiny_model

TOKEN = "swordfish"


@dataclass(frozen=True)
class Site:
    """A running server, as an attacker with the token knows it."""

    server: RunningServer
    client: httpx.AsyncClient
    """Brings the token."""
    models: Path
    """The directory that language models come from."""
    files: Path
    """The directory that dataset files come from."""
    language_model_id: str
    """A tiny one's, which has been loaded."""
    sae_id: str
    """Of an SAE on it, with a neuron index."""
    token: str = TOKEN

    @property
    def host(self) -> str:
        """The server's address."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The server's port."""
        return int(self.server.url.rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        """The API process."""
        return self.server.pid

    @property
    def artifact_dir(self) -> Path:
        """Where the server writes."""
        return self.server.artifact_dir

    @property
    def log(self) -> Path:
        """What the server and its workers print."""
        return self.server.artifact_dir / "server.log"

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return an operation's whole answer, whatever it is."""
        response = await self.client.post("/graphql", json={"query": query, "variables": variables})
        answer: dict[str, Any] = response.json()
        return answer

    async def upload(self, query: str, name: str, content: bytes, **variables: Any) -> dict[str, Any]:
        """Return the answer of an operation whose variable ``file`` is an upload."""
        operations = json.dumps({"query": query, "variables": {**variables, "file": None}})
        response = await self.client.post(
            "/graphql",
            data={"operations": operations, "map": '{"0": ["variables.file"]}'},
            files={"0": (name, content)},
            headers={"GraphQL-Require-Preflight": "1"},
        )
        answer: dict[str, Any] = response.json()
        return answer


@asynccontextmanager
async def site_in(directory: Path, **settings: str) -> AsyncIterator[Site]:
    """Run a server under a directory, with a tiny language model that has been loaded."""
    models, files = directory / "models", directory / "files"
    files.mkdir(parents=True)
    make_tiny_model(models / "tiny")
    chosen = {"TOKEN": TOKEN, "MODEL_DIRS": str(models), "DATASET_DIRS": str(files), "LOG_FORMAT": "json"}
    with server_process(directory / "artifacts", **chosen, **settings) as server:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120) as client:
            maker = Maker(client, str(models / "tiny"))
            language_model = await maker.language_model()
            await maker.load(language_model)
            sae = await maker.sae(await maker.run(language_model))
            yield Site(server, client, models, files, language_model, sae)
