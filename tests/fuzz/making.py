"""Makes what operations are to hit, over the server's public API."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import httpx

from tests.fuzz.texts import PROMPTS

READY_SECONDS = 60.0
PAUSE_SECONDS = 0.05
LATENTS = 32
BATCH_TOKENS = 64
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "INTERRUPTED")
LAYERS = "query($id: ID!) { languageModel(id: $id) { layers { name } } }"
CAPTURED = "query($id: ID!) { activationRun(id: $id) { layers { name } } }"
JOB = "query($id: ID!) { job(id: $id) { status error result { ... on Node { id } } } }"


class NotMadeError(Exception):
    """The server would not make what operations are to hit."""


class Maker:
    """Makes one thing at a time; ``made`` counts the requests for it."""

    def __init__(self, http: httpx.AsyncClient, model: str) -> None:
        self._http = http
        self._model = model
        self._numbers = itertools.count(1)
        self.made = 0
        self.names = "tiny "

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """Return the data of an operation that cannot be wrong."""
        answer = await self._http.post("/graphql", json={"query": document, "variables": variables})
        said = answer.json()
        if said.get("data") is None:
            raise NotMadeError(f"an operation that is right was refused: {said}")
        return dict(said["data"])

    async def language_model(self) -> str:
        """Add the tiny model; returns its ID."""
        given = {"name": f"{self.names}{next(self._numbers)}", "source": {"path": self._model}}
        added = await self._do(
            "addLanguageModel", "AddLanguageModelInput!", given, "LanguageModelAdded { languageModel { id } }"
        )
        return str(added["languageModel"]["id"])

    async def load(self, language_model: str) -> None:
        """Load a language model."""
        await self._job("loadLanguageModel", "ID!", language_model, argument="id")

    async def run(self, language_model: str) -> str:
        """Capture all layers over a few texts; returns the run's ID."""
        layers = await self._layers(LAYERS, language_model)
        given = {
            "languageModelId": language_model,
            "layers": layers,
            "dataset": {"texts": PROMPTS[:6] * 2},
            "batchSize": 4,
            "maxLength": 24,
        }
        return await self._job("captureActivations", "CaptureActivationsInput!", given)

    async def sae(self, run: str) -> str:
        """Train an SAE on a run's first layer, index its neurons and evaluate it; returns its ID."""
        layer = (await self._layers(CAPTURED, run))[0]
        given = {"activationRunId": run, "layer": layer, "latentCount": LATENTS, "k": 4}
        given |= {"batchSize": BATCH_TOKENS}
        sae = await self._job("trainSae", "TrainSaeInput!", given | {"indexNeurons": False})
        await self._job("indexNeurons", "IndexNeuronsInput!", {"saeId": sae, "topTextsPerNeuron": 3})
        await self._job("evaluateSae", "EvaluateSaeInput!", {"saeId": sae, "dataset": {"texts": PROMPTS[:6]}})
        return sae

    async def concepts(self, sae: str) -> None:
        """Name two neurons."""
        csv = "neuron_idx,concept_name,score\n0,spaces,0.5\n2,ends,\n"
        await self._do("importConcepts", "ImportConceptsInput!", {"saeId": sae, "source": {"csv": csv}})

    async def config(self, sae: str) -> None:
        """Save an edit of a neuron."""
        edits = [{"neuronIndex": 1, "multiplier": 2}]
        given = {"saeId": sae, "name": f"config {next(self._numbers)}", "edits": edits}
        await self._do("saveConceptConfig", "SaveConceptConfigInput!", given)

    async def jobs(self, language_model: str, run: str) -> None:
        """Launch a capture and a training that nobody waits for; that the queue may be full is fine."""
        layers = await self._layers(LAYERS, language_model)
        capture = {
            "languageModelId": language_model,
            "layers": layers[:1],
            "dataset": {"texts": ["a text to wait for " * 5] * 40},
            "batchSize": 1,
        }
        (layer, *_) = await self._layers(CAPTURED, run)
        train = {
            "activationRunId": run,
            "layer": layer,
            "latentCount": 8,
            "k": 2,
            "epochs": 2,
            "batchSize": 8,
        }
        await self.ask(
            "mutation($capture: CaptureActivationsInput!, $train: TrainSaeInput!) {"
            " captureActivations(input: $capture) { __typename } trainSae(input: $train) { __typename } }",
            capture=capture,
            train=train,
        )

    async def _layers(self, document: str, id: str) -> Sequence[str]:
        (found,) = (await self.ask(document, id=id)).values()
        if not found or not found["layers"]:
            raise NotMadeError(f"{id} has no layers: {found}")
        return [layer["name"] for layer in found["layers"]]

    async def _do(
        self, mutation: str, type_: str, value: Any, wanted: str = "Error { code }", argument: str = "input"
    ) -> dict[str, Any]:
        self.made += 1
        clock = asyncio.get_running_loop().time
        deadline = clock() + READY_SECONDS
        selection = f"__typename ... on Error {{ message }} ... on {wanted}"
        document = f"mutation($value: {type_}) {{ {mutation}({argument}: $value) {{ {selection} }} }}"
        (result,) = (await self.ask(document, value=value)).values()
        while result["__typename"] == "QueueFull" and clock() < deadline:
            await asyncio.sleep(PAUSE_SECONDS)
            (result,) = (await self.ask(document, value=value)).values()
        if "message" in result:
            raise NotMadeError(f"{mutation}: {result['message']}")
        return dict(result)

    async def _job(self, mutation: str, type_: str, value: Any, argument: str = "input") -> str:
        """Launch a job and wait for its end; returns the ID of what it made."""
        launched = await self._do(mutation, type_, value, "JobLaunched { job { id } }", argument)
        clock = asyncio.get_running_loop().time
        deadline, job = clock() + READY_SECONDS, None
        while clock() < deadline:
            job = (await self.ask(JOB, id=launched["job"]["id"]))["job"]
            if job is None or job["status"] in ENDED:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        if job is None or job["status"] != "SUCCEEDED" or not job["result"]:
            raise NotMadeError(f"{mutation} came to {job}")
        return str(job["result"]["id"])
