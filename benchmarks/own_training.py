"""One training of this server's on a captured run, in a process of its own; benchmarks/training.py runs it.

Writes how long its steps took and the most memory that the process has held, as JSON.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.captures import RUN, Silent, block
from benchmarks.peers.handover import peak_megabytes
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.training.training import train_sae
from gql_server.protocol.events import Event, TrainingPointMessage
from gql_server.protocol.tasks import TrainSae


class Enough(Exception):
    """As many steps as were wanted have been taken."""


class Steps(Silent):
    """Adds up how long steps took, and ends the training after some of them."""

    def __init__(self, n_steps: int, batch_size: int) -> None:
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.seconds = 0.0

    def emit(self, event: Event) -> None:
        """Take note of a training point, which is one step here."""
        if isinstance(event, TrainingPointMessage):
            self.seconds += self.batch_size / event.tokens_per_second
            if event.step == self.n_steps:
                raise Enough


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--sae-class", required=True)
    parser.add_argument("--latents", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=1024)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sae-") as directory:
        seconds = train(given, Path(directory))
    print(json.dumps({"seconds": seconds, "peak_megabytes": peak_megabytes()}))


def train(given: argparse.Namespace, directory: Path) -> float:
    """Train from the first step to the wanted one; returns how long the trainer's loop took."""
    task = TrainSae(
        sae_id="sae_a",
        name="benchmark",
        sae_class=given.sae_class,
        language_model_id="lm_a",
        run_id=RUN,
        store_dir=str(given.store),
        layer=block(9),
        n_latents=given.latents,
        k=given.k,
        epochs=given.epochs,
        batch_size=given.batch_size,
        learning_rate=None,
        l1_lambda=None,
        seed=0,
        device="cpu",
        sae_dir=str(directory / "sae_a"),
        shuffle_buffer_bytes=2**30,
    )
    steps = Steps(given.steps, given.batch_size)
    try:
        train_sae(task, steps, SaeClasses())
    except Enough:
        return steps.seconds
    raise SystemExit(f"{given.epochs} epochs have fewer than {given.steps} steps")


if __name__ == "__main__":
    main()
