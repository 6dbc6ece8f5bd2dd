"""A small SAE on the tiny model, with an index, for the browser to look at."""

from dataclasses import dataclass
from pathlib import Path

from tests.e2e.client import Api, load_model

LAYER = "llamaforcausallm_model_layers_0"
LATENTS = 64
STRONGEST = """query($id: ID!) { sae(id: $id) { neurons(first: 2, orderBy: MAX_ACTIVATION_DESC) {
    nodes { index steeringRange { typical strong } } } } }"""


@dataclass(frozen=True)
class SmallSae:
    """An SAE, and two of its neurons that fire."""

    id: str
    neuron: int
    strong: float
    """A bias of the neuron with which texts are others."""
    other: int


async def make_small_sae(client: Api, model_dir: Path, name: str) -> SmallSae:
    """Capture, train and index; the language model gets the name."""
    model = await load_model(client, str(model_dir), name)
    capture = {
        "languageModelId": model,
        "layers": [LAYER],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": 30,
        "maxLength": 48,
    }
    run, _ = await client.run_job("captureActivations", input=("CaptureActivationsInput!", capture))
    training = {
        "activationRunId": run,
        "latentCount": LATENTS,
        "k": 8,
        "batchSize": 256,
        "indexNeurons": False,
    }
    sae, _ = await client.run_job("trainSae", input=("TrainSaeInput!", training))
    await client.run_job("indexNeurons", input=("IndexNeuronsInput!", {"saeId": sae}))
    first, second = (await client.ask(STRONGEST, id=sae))["sae"]["neurons"]["nodes"]
    return SmallSae(sae, first["index"], round(first["steeringRange"]["strong"], 2), second["index"])
