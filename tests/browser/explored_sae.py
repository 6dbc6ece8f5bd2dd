"""A small SAE with an index, an evaluation and a name, for the explorer to show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.client import Api, load_model

BLOCK = "llamaforcausallm_model_layers_0"
N_NEURONS = 600
TEXTS = 40
NAMED, NAME = 5, "numbers of lists"


@dataclass(frozen=True)
class ExploredSae:
    """IDs and figures of what there is to look at."""

    id: str
    canceled_id: str
    """Of an SAE whose training was canceled."""
    by_frequency: list[int]
    """Indices of all neurons, those that fire most often first."""
    firing: set[int]
    """Indices of those that fire."""

    @property
    def path(self) -> str:
        """The address of its page."""
        return f"/saes/{self.id}"


async def make(client: Api, model: Path, name: str) -> ExploredSae:
    """Load a model under a name, capture, train, index, evaluate, and name a neuron."""
    capture = {
        "languageModelId": await load_model(client, str(model), name),
        "layers": [BLOCK],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": TEXTS,
        "maxLength": 64,
    }
    run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", capture))
    train = {"activationRunId": run, "saeClass": "TopKSae", "latentCount": N_NEURONS, "k": 4}
    train |= {"batchSize": 64, "indexNeurons": False}
    sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", train))
    index = {"saeId": sae, "topTextsPerNeuron": 12}
    await client.run_job("indexNeurons", input=("IndexNeuronsInput!", index))
    evaluate = {"saeId": sae, "dataset": {"builtIn": "PYTHON_REFERENCE"}, "sampleOffset": TEXTS}
    await client.run_job("evaluateSae", input=("EvaluateSaeInput!", evaluate | {"sampleLimit": 2}))
    await client.do(
        "setConcept",
        "... on ConceptSet { concept { id } }",
        input=("SetConceptInput!", {"saeId": sae, "neuronIndex": NAMED, "name": NAME, "note": "As a guess."}),
    )
    canceled = await _canceled(client, train)
    neurons = await _by_frequency(client, sae)
    firing = {neuron["index"] for neuron in neurons if not neuron["dead"]}
    return ExploredSae(sae, canceled, [neuron["index"] for neuron in neurons], firing)


async def _canceled(client: Api, train: dict[str, Any]) -> str:
    launched = await client.do(
        "trainSae",
        "... on JobLaunched { job { id } }",
        input=("TrainSaeInput!", train | {"epochs": 1000, "name": "canceled"}),
    )
    job = launched["job"]["id"]
    await client.do("cancelJob", "... on JobCancelRequested { job { id } }", id=("ID!", job))
    await client.follow(job)
    found = await client.ask("{ saes(first: 50) { nodes { id job { id } } } }")
    (sae,) = [one["id"] for one in found["saes"]["nodes"] if one["job"] and one["job"]["id"] == job]
    return str(sae)


async def _by_frequency(client: Api, sae: str) -> list[dict[str, Any]]:
    document = """query($id: ID!, $offset: Int!) { sae(id: $id) {
        neurons(first: 100, offset: $offset, orderBy: FREQUENCY_DESC) { nodes { index dead } } } }"""
    pages = [await client.ask(document, id=sae, offset=offset) for offset in range(0, N_NEURONS, 100)]
    return [node for page in pages for node in page["sae"]["neurons"]["nodes"]]
