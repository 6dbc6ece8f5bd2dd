"""What strengths of steering make of a text: the measured part of docs/steering.md.

``python -m benchmarks.steering --write docs/steering.md`` trains as the tour does (ten minutes on two cores;
nothing where ``--artifacts`` names a directory in which a tour was), steers with the neuron that the tour
chooses, and puts the tables between the marks in that file. Without ``--write`` it prints them.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.own_server import own_server
from gql_server.compute.storage.rows import StoredRows
from gql_server.compute.storage.store import ActivationStore
from gql_server.tour import documents, show, steering, steps
from gql_server.tour.client import RemoteApi, wait_until_healthy

STRENGTHS = (0.5, 1, 2, 4)
"""In shares of the neuron's highest activation."""
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
REQUEST = {"maxNewTokens": steering.NEW_TOKENS, "repetitionPenalty": 1.1, "compareToBaseline": True}


NEURONS = """
query ($id: ID!, $filter: NeuronFilter, $after: String) {
  sae(id: $id) {
    neurons(first: 60, after: $after, orderBy: MAX_ACTIVATION_DESC, filter: $filter) {
      pageInfo { endCursor hasNextPage }
      nodes { index frequency maxActivation topTexts(first: 5) { token tokens { token activation } } }
    }
  }
}"""
SAE = """
query ($id: ID!) {
  sae(id: $id) {
    id saeClass latentCount k layer
    activationRun { id }
    trainingHistory(maxPoints: 1) { explainedVariance }
  }
}"""


@dataclass(frozen=True)
class Neuron:
    """A neuron to steer with, and the word that its top texts peak on."""

    sae_id: str
    index: int
    word: str
    frequency: float
    max_activation: float
    text: str
    """Its strongest text, up to the peak."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--artifacts", type=Path, help="artifact directory to use; a temporary one if left out"
    )
    parser.add_argument("--write", type=Path, help="page whose measured part is put in anew")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        artifacts = options.artifacts or Path(temporary)
        with own_server(artifacts, [steps.model_file().parent]) as url:
            measured = asyncio.run(measure(url, artifacts))
    if options.write is None:
        print(measured)
        return
    page = options.write.read_text()
    before, _, rest = page.partition(BEGIN)
    options.write.write_text(f"{before}{BEGIN}\n\n{measured}\n{END}{rest.partition(END)[2]}")


async def measure(url: str, artifacts: Path) -> str:
    """Return the page's measured part, as Markdown."""
    await wait_until_healthy(url)
    await steps.run(url, Console(stderr=True))
    api = RemoteApi(url)
    newest = (await api.ask("{ saes(first: 1) { nodes { id } } }"))["saes"]["nodes"][0]["id"]
    sae = (await api.ask(SAE, id=newest))["sae"]
    neurons = await named_neurons(api, newest)
    strongest, middle = neurons[0], neurons[len(neurons) // 2]
    length, centered = lengths(artifacts, sae["activationRun"]["id"], sae["layer"])
    parts = [
        *introduce(sae, length, centered, middle),
        *await sweep(api, middle, centered, "A middling neuron"),
        *await sweep(api, strongest, centered, "The strongest"),
        *await compare_modes(api, middle),
        *await where_it_fires(api, strongest),
    ]
    return "\n".join(parts)


def lengths(artifacts: Path, run_id: str, layer: str) -> tuple[float, float]:
    """Return the median length of a run's activations, as they are and without their mean."""
    stored = StoredRows(ActivationStore(artifacts / "store"), run_id, layer, check=lambda: None)
    rows = torch.cat([stored.read(index) for index in stored.indices])
    return tuple(float(x.norm(dim=1).median()) for x in (rows, rows - rows.mean(dim=0)))  # type: ignore[return-value]


async def named_neurons(api: RemoteApi, sae_id: str) -> list[Neuron]:
    """Return the neurons that the tour would give a name to, those with the highest maximum first."""
    fire = {"minFrequency": steps.MIN_FREQUENCY, "maxFrequency": steps.MAX_FREQUENCY}
    after, found = None, list[Neuron]()
    while True:
        answer = await api.ask(NEURONS, id=sae_id, filter=fire, after=after)
        page = answer["sae"]["neurons"]
        for node in page["nodes"]:
            if word := steering.peak_word(node):
                text = show.up_to_peak(node["topTexts"][0]["tokens"])
                figures = node["frequency"], node["maxActivation"]
                found.append(Neuron(sae_id, node["index"], word, *figures, text))
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


def introduce(sae: Mapping[str, Any], length: float, centered: float, neuron: Neuron) -> list[str]:
    """Say what is steered, and how it is asked for."""
    explained = sae["trainingHistory"][-1]["explainedVariance"]
    return [
        f"The SAE is a {sae['saeClass']} with {sae['latentCount']:,} neurons, k {sae['k']}, on",
        f"`{sae['layer']}` of {steps.MODEL_NAME}, trained as `make demo` does: explained variance",
        f"{explained:.3f} at the end of the training. The layer's activations have a median length of "
        f"{length:.0f}; {centered:.0f} without",
        "what they have in common. A request, as `input` of the mutation at the end of this page:",
        "",
        "```json",
        json.dumps(
            request(neuron, [edit_of(neuron, 0, neuron.max_activation)], "ERROR_PRESERVING"), indent=1
        ),
        "```",
        "",
    ]


def request(
    neuron: Neuron, edits: Sequence[Mapping[str, Any]], mode: str, prompt: str = steering.PROMPT
) -> dict[str, Any]:
    """Return a GenerateInput."""
    steered = {"mode": mode, "source": {"edits": list(edits)}}
    return {"saeId": neuron.sae_id, "prompts": [prompt], **REQUEST, "steering": steered}


def edit_of(neuron: Neuron, multiplier: float, bias: float) -> dict[str, Any]:
    return {"neuronIndex": neuron.index, "multiplier": multiplier, "bias": round(bias, 1)}


async def generate(
    api: RemoteApi, neuron: Neuron, multiplier: float, bias: float, mode: str, prompt: str = steering.PROMPT
) -> tuple[str, str]:
    """Return the text without and with one edit of the neuron."""
    asked = request(neuron, [edit_of(neuron, multiplier, bias)], mode, prompt)
    answer = await api.ask(documents.GENERATE, input=asked)
    texts = {output["variant"]: output["text"] for output in answer["result"]["outputs"]}
    return texts["BASELINE"], texts["STEERED"]


async def sweep(api: RemoteApi, neuron: Neuron, length: float, title: str) -> list[str]:
    """Clamp the neuron to more and more of its maximum."""
    share = neuron.max_activation / length
    lines = [
        f"### {title}",
        "",
        f"Neuron {neuron.index} peaks on “{neuron.word}”. It fires on {neuron.frequency:.2%} of the tokens,",
        f"with {neuron.max_activation:.1f} at most: {share:.0%} of that length. Clamped, that is",
        "multiplier 0 and the bias:",
        "",
        "| times the maximum | bias | the word | what becomes of the text |",
        "| --- | --- | --- | --- |",
    ]
    for strength in (0, *STRENGTHS):
        bias = strength * neuron.max_activation
        baseline, text = await generate(api, neuron, 0.0, bias, "ERROR_PRESERVING")
        if strength == 0:
            lines.append(f"| not steered | | {count(baseline, neuron)} | {cell(baseline)} |")
        lines.append(f"| {strength:g} | {bias:.1f} | {count(text, neuron)} | {cell(text)} |")
    return [*lines, ""]


def count(text: str, neuron: Neuron) -> int:
    return text.lower().count(neuron.word)


async def compare_modes(api: RemoteApi, neuron: Neuron) -> list[str]:
    """Change nothing, then clamp to the maximum, in both modes."""
    lines = ["### The modes", "", f"Neuron {neuron.index} again:", ""]
    lines += ["| mode | edit | text |", "| --- | --- | --- |"]
    for mode in ("ERROR_PRESERVING", "RECONSTRUCTION"):
        for multiplier, bias in ((1.0, 0.0), (0.0, neuron.max_activation)):
            _, text = await generate(api, neuron, multiplier, bias, mode)
            lines.append(f"| `{mode}` | multiplier {multiplier:g}, bias {bias:.1f} | {cell(text)} |")
    return [*lines, ""]


async def where_it_fires(api: RemoteApi, neuron: Neuron) -> list[str]:
    """Turn the neuron off, and up, on a prompt on which it fires."""
    lines = ["### Off, and stronger where it fires", "", f"Neuron {neuron.index}, without a bias, on its own"]
    lines += [
        f"strongest text up to the peak: {cell(neuron.text)}",
        "",
        "| multiplier | text |",
        "| --- | --- |",
    ]
    for multiplier in (1.0, 0.0, 3.0):
        _, text = await generate(api, neuron, multiplier, 0.0, "ERROR_PRESERVING", neuron.text)
        lines.append(f"| {multiplier:g} | {cell(text)} |")
    return [*lines, ""]


def cell(text: str) -> str:
    """Return a text as code in a table's cell."""
    shown = (
        json.dumps(text, ensure_ascii=False)[1:-1].replace("|", "\\|").replace("`", "'").replace('\\"', '"')
    )
    return f"`{shown}`"


if __name__ == "__main__":
    main()
