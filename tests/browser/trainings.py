"""Trainings of the tiny model for the browser to look at."""

from typing import Any

from tests.e2e.client import Api

LAYER = "llamaforcausallm_model_layers_0"
SAE_OF = "query($id: ID!) { job(id: $id) { result { ... on Sae { id } } } }"


def capture(language_model: str, sample_limit: int) -> dict[str, Any]:
    """Return the arguments of a capture of one layer."""
    given = {
        "languageModelId": language_model,
        "layers": [LAYER],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": sample_limit,
        "maxLength": 64,
    }
    return {"input": ("CaptureActivationsInput!", given)}


def training(run: str, **options: Any) -> dict[str, Any]:
    """Return the arguments of a training without an index."""
    given = {"activationRunId": run, "latentCount": 64, "k": 8, "batchSize": 256, "indexNeurons": False}
    return {"input": ("TrainSaeInput!", given | options)}


async def launch(client: Api, mutation: str, arguments: dict[str, Any]) -> str:
    """Launch a job and return its ID."""
    launched = await client.do(mutation, "... on JobLaunched { job { id } }", **arguments)
    assert launched["__typename"] == "JobLaunched", launched
    return str(launched["job"]["id"])


async def sae_of(client: Api, job: str) -> str:
    """Return the ID of the SAE that a job makes."""
    return str((await client.ask(SAE_OF, id=job))["job"]["result"]["id"])
