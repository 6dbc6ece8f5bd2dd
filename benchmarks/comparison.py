"""What a comparison asks of a server: capture, train, import, evaluate; all of it by the public API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from benchmarks import results_documents
from benchmarks.peers.trainings import Trained
from benchmarks.results_page import Measured
from gql_server import __version__
from gql_server.tour import documents, jobs
from gql_server.tour.client import RemoteApi

LAYER = "llamaforcausallm_model_layers_9"
DATASET = {"builtIn": "PYTHON_REFERENCE"}
N_LATENTS = 4096
K = 32
BATCH_SIZE = 1024
SEED = 0
N_TEXTS = 929
"""Of the 1,029 paragraphs; those after them are held out."""
N_HELD_OUT = 100
N_SEEN = 100
MAX_LENGTH = 128


@dataclass(frozen=True)
class Comparison:
    """A server with a captured run, and what is trained on it."""

    api: RemoteApi
    console: Console
    language_model_id: str
    run_id: str
    n_latents: int

    @classmethod
    async def begin(cls, api: RemoteApi, console: Console, model_path: str, n_latents: int) -> "Comparison":
        """Add a language model and capture what is trained on."""
        given: dict[str, Any] = {"name": "SmolLM2-135M-Instruct", "source": {"path": model_path}}
        added = (await api.ask(documents.ADD_LANGUAGE_MODEL, input=given))["result"]
        language_model_id = str(added["languageModel"]["id"])
        await jobs.launch_and_follow(
            api, console, "Loading the model", documents.LOAD_LANGUAGE_MODEL, id=language_model_id
        )
        given = {"languageModelId": language_model_id, "layers": [LAYER], "dataset": DATASET}
        given |= {"sampleLimit": N_TEXTS, "maxLength": MAX_LENGTH}
        job = await jobs.launch_and_follow(
            api, console, "Capturing activations", documents.CAPTURE_ACTIVATIONS, input=given
        )
        return cls(api, console, language_model_id, str(job["result"]["id"]), n_latents)

    async def token_count(self) -> int:
        """Return how many of the run's tokens count."""
        run = (await self.api.ask(documents.ACTIVATION_RUN, id=self.run_id))["activationRun"]
        return int(run["tokenCount"])

    async def job(self, title: str, document: str, **variables: Any) -> str:
        """Do a job to its end; returns the ID of what it made."""
        job = await jobs.launch_and_follow(self.api, self.console, title, document, **variables)
        return str(job["result"]["id"])

    async def ours(self, sae_class: str, epochs: int) -> tuple[str, Measured]:
        """Train a class of this server's."""
        given = {
            "activationRunId": self.run_id,
            "saeClass": sae_class,
            "latentCount": self.n_latents,
            "k": K,
            "epochs": epochs,
            "batchSize": BATCH_SIZE,
            "seed": SEED,
            "indexNeurons": False,
        }
        sae_id = await self.job(f"Training {sae_class}", documents.TRAIN_SAE, input=given)
        sae = (await self.api.ask(results_documents.TRAINED, id=sae_id))["sae"]
        settings = {"lr": sae["trainingConfig"]["learningRate"]}
        points = sae["trainingHistory"]
        seconds = seconds_of(points)
        title = f"gql-server, {sae_class}"
        held_out = await self.evaluate(sae_id, N_TEXTS, N_HELD_OUT)
        return sae_id, Measured(title, __version__, settings, seconds, points[-1]["tokenCount"], held_out)

    async def theirs(self, trained: Trained, token_count: int) -> tuple[str, Measured]:
        """Import and score what another package has trained."""
        given = {"languageModelId": self.language_model_id, "layer": LAYER, "source": trained.source}
        name = trained.training.name
        sae_id = await self.job(f"Importing {name}", results_documents.IMPORT_SAE, input=given)
        held_out = await self.evaluate(sae_id, N_TEXTS, N_HELD_OUT)
        training = trained.training
        return sae_id, Measured(
            training.title, trained.version, trained.settings, trained.seconds, token_count, held_out
        )

    async def evaluate(self, sae_id: str, offset: int, limit: int) -> Mapping[str, float | None]:
        """Score an SAE on texts of the dataset."""
        given = {"saeId": sae_id, "dataset": DATASET, "sampleOffset": offset, "sampleLimit": limit}
        await self.job("Evaluating", results_documents.EVALUATE_SAE, input=given)
        found = await self.api.ask(results_documents.EVALUATION, id=sae_id)
        evaluation: Mapping[str, float | None] = found["sae"]["evaluation"]
        return evaluation

    async def more_of(self, sae_id: str, measured: Measured) -> Measured:
        """Add how an SAE does on texts of the training, and how many of its neurons that leaves dead."""
        seen = await self.evaluate(sae_id, 0, N_SEEN)
        given = {"saeId": sae_id, "activationRunId": self.run_id}
        await self.job("Indexing", results_documents.INDEX_NEURONS, input=given)
        sae = (await self.api.ask(results_documents.DEAD_NEURONS, id=sae_id))["sae"]
        return replace(measured, seen=seen, dead=sae["neuronIndex"]["deadCount"] / sae["latentCount"])


def seconds_of(points: Sequence[Mapping[str, Any]]) -> float:
    """Return how long a training took, from its points: what lies between two of them had one speed."""
    seconds, before = 0.0, 0
    for point in points:
        seconds += (point["tokenCount"] - before) / point["tokensPerSecond"]
        before = point["tokenCount"]
    return seconds
