"""Which trainings of other packages there are, and running one in its package's own environment."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REPORT = "training.json"
CHECKPOINT = "sae.pt"


class PeerFailed(Exception):
    """A peer's training did not succeed; the message has the end of what it printed."""


ENVIRONMENTS = {
    "dictionary_learning": ROOT / ".peers" / "dictionary_learning",
    "eai_sparsify": ROOT / ".peers" / "eai_sparsify",
    "sae_lens": ROOT / "tests" / "saelens" / ".venv",
}
"""Where the Makefile installs each; what is not here is trained in this environment."""


@dataclass(frozen=True)
class PeerTraining:
    """One training by another package.

    ``options`` is what is set otherwise than the package has it: for a training of so few steps, a learning
    rate above its default among them.
    """

    peer: str
    """A directory beside this file, with a train.py."""
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The interpreter that has the package."""
        environment = ENVIRONMENTS.get(self.peer)
        return sys.executable if environment is None else str(environment / "bin" / "python")

    @property
    def name(self) -> str:
        """Unlike the other trainings', and fit for a path."""
        said = [self.peer, *(f"{key}-{value:g}" for key, value in self.options.items())]
        return "_".join(said)


MI_CROW = "SaeTrainer of mi_crow, TopKSae"
SAE_LENS = "SAELens, topk"
DICTIONARY_LEARNING = "dictionary-learning, AutoEncoderTopK"
SPARSIFY = "eai-sparsify, SparseCoder"

TRAININGS = (
    PeerTraining("mi_crow", MI_CROW),
    PeerTraining("mi_crow", MI_CROW, {"lr": 4e-3, "use_amp": False}),
    PeerTraining("sae_lens", SAE_LENS),
    PeerTraining("sae_lens", SAE_LENS, {"lr": 3e-3, "dead_feature_window": 47}),
    PeerTraining("dictionary_learning", DICTIONARY_LEARNING),
    PeerTraining("dictionary_learning", DICTIONARY_LEARNING, {"lr": 4e-3}),
    PeerTraining("eai_sparsify", SPARSIFY),
    PeerTraining("eai_sparsify", SPARSIFY, {"lr": 4e-3}),
)
"""Each package as it is, and once more with settings for a training as short as this one."""


def for_more_latents(chosen: Sequence[PeerTraining], times: float) -> list[PeerTraining]:
    """Add, for so many times as many latents, trainings whose learning rate falls with them as ours does."""
    if times <= 1:
        return list(chosen)
    lower = [
        replace(training, options={**training.options, "lr": training.options["lr"] / math.sqrt(times)})
        for training in chosen
        if "lr" in training.options
    ]
    return [*chosen, *lower]


@dataclass(frozen=True)
class Trained:
    """What a peer's training came to."""

    training: PeerTraining
    source: dict[str, str]
    """For importSae."""
    version: str
    seconds: float
    peak_megabytes: float
    settings: dict[str, Any]


def train(
    training: PeerTraining,
    batches: Path,
    saes: Path,
    *,
    n_latents: int,
    k: int,
    seed: int,
    n_steps: int | None = None,
) -> Trained:
    """Run a training; the SAE comes to be in a directory of its own under ``saes``.

    ``n_steps`` may be fewer than there are batches.

    Raises:
        PeerFailed: It ended with an error.
    """
    directory = saes / training.name
    command = [training.python, "-m", f"benchmarks.peers.{training.peer}.train"]
    command += ["--batches", str(batches), "--latents", str(n_latents), "--k", str(k), "--seed", str(seed)]
    command += [] if n_steps is None else ["--steps", str(n_steps)]
    command += ["--options", json.dumps(training.options), "--directory", str(directory)]
    # Nothing of the environment that this runs in is to be found from the other.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if ended.returncode:
        printed = ended.stdout.decode(errors="replace").strip().splitlines()[-15:]
        raise PeerFailed("\n".join([f"{training.name} ended with {ended.returncode}:", *printed]))
    said = json.loads((directory / REPORT).read_text())
    return Trained(
        training,
        source(directory),
        said["version"],
        said["seconds"],
        said["peak_megabytes"],
        said["settings"],
    )


def source(directory: Path) -> dict[str, str]:
    """Return what importSae takes: a checkpoint of mi_crow's where there is one, else SAELens' directory."""
    checkpoint = directory / CHECKPOINT
    return {"miCrow": str(checkpoint)} if checkpoint.exists() else {"saeLens": str(directory)}
