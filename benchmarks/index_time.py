"""How long an index takes, and how much of it is what the weights tell: nearest neurons, tokens.

``python -m benchmarks.index_time``: an SAE of 4,096 neurons (k 32) with random weights over SmolLM2-135M,
block 9, on the Python reference. The language model is loaded for the first index, as in a worker that has
let go of it. Times of the clock, and of all processors together, which other programs disturb less.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.indexing.directions import direction_tensors
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.messages.events import Event
from gql_server.compute.messages.sources import LanguageModelSource, SaeSource
from gql_server.compute.messages.tasks import CaptureActivations, IndexNeurons
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.stored.store import ActivationStore
from gql_server.datasets import built_in_python_reference, write_texts
from gql_server.tour.steps import model_file

LAYER = "llamaforcausallm_model_layers_9"


class Silent:
    """A task context that nobody listens to."""

    def emit(self, event: Event) -> None:
        """Pass over the event."""

    def check(self) -> None:
        """Go on."""


class Watch:
    """Seconds by the clock and of processors."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        return f"{wall:.1f} s ({cpu:.1f} s of processors)"


def measure(directory: Path, n_texts: int, n_latents: int) -> None:
    """Capture, index with and without the directions, and print the figures."""
    source = LanguageModelSource(
        "lm_a", "GGUF", str(model_file()), None, "FLOAT32", str(directory / "models" / "lm_a")
    )
    write_texts(directory / "datasets" / "run_a", built_in_python_reference()[:n_texts])
    capture = CaptureActivations(
        run_id="run_a",
        language_model=source,
        layers=[LAYER],
        dataset_dir=str(directory / "datasets" / "run_a"),
        hub_dataset=None,
        dataset_kind="BUILT_IN",
        dataset_description="PYTHON_REFERENCE",
        sample_offset=0,
        sample_limit=None,
        batch_size=16,
        max_length=128,
        dtype="FLOAT32",
        store_dir=str(directory / "store"),
        max_texts=n_texts,
    )
    token_count = capture_activations(capture, Silent(), LanguageModels(device="cpu")).token_count
    task = IndexNeurons(
        index_id="idx_a",
        sae=SaeSource("sae_a", "TopKSae", str(directory), LAYER, 576, n_latents, 32),
        run_id="run_a",
        store_dir=capture.store_dir,
        dataset_dir=capture.dataset_dir,
        tokenizer_dir=source.copy_dir,
        top_texts_per_neuron=10,
        top_texts_path=str(directory / "top_texts.json"),
        language_model=source,
    )
    torch.manual_seed(0)
    sae = SaeClasses().get("TopKSae").build(n_latents, 576, 32, "cpu")
    place(sae, "cpu")
    sae.sae_engine.eval()
    store, language_models = ActivationStore(Path(task.store_dir)), LanguageModels(device="cpu")
    for loaded in ("model to be loaded", "model loaded"):
        watch = Watch()
        index_neurons(task, Silent(), sae, store, language_models)
        print(f"{n_latents:,} neurons, {token_count:,} tokens, {loaded}: {watch}", end="")
        watch = Watch()
        direction_tensors(task, Silent(), sae, language_models)
        n_bytes = store.index_path("idx_a").stat().st_size
        print(f", of which the weights {watch}; {n_bytes / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--neurons", type=int, default=4096)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        measure(Path(directory), options.texts, options.neurons)


if __name__ == "__main__":
    main()
