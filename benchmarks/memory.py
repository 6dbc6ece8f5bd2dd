"""The peak of memory of a capture, a training and an index, at 1 × and 10 × the data.

``python -m benchmarks.memory``: each in a process of its own, whose highest resident memory the kernel
tells. A capture of SmolLM2-135M, block 0, over the Python reference again and again, given as a list of texts
or as a JSON Lines file; then the training and the index of a TopKSae on it. The training's shuffle buffer is
full at 1 × already. The index is without the part that takes the language model's weights, which no data
makes grow.
"""

import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

import msgspec

from benchmarks import rows
from benchmarks.captures import Silent, block, capture_of, smollm2
from benchmarks.peers.handover import peak_megabytes
from benchmarks.rows import Row, Spread
from gql_server.artifacts.datasets import built_in_python_reference, write_texts
from gql_server.protocol.sources import LanguageModelSource, SaeSource
from gql_server.protocol.tasks import CaptureActivations, IndexNeurons, LoadLanguageModel, TrainSae
from gql_server.text_files.reading import ReadingOptions, read_file

GOAL = 1.2
TIMES = 10
WIDTH, N_LATENTS, K = 576, 1024, 32


class Order(msgspec.Struct, frozen=True):
    """What one process is to do."""

    task: LoadLanguageModel | CaptureActivations | TrainSae | IndexNeurons
    texts_file: str | None = None
    """JSON Lines from which the dataset is made first."""
    text_count: int | None = None
    """The dataset is made of so many texts in memory."""


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--texts", type=int, default=500, help="at 1 ×")
    parser.add_argument("--order", type=Path, help="do this alone, and print the peak in bytes")
    given = parser.parse_args()
    if given.order is not None:
        print(peak_of(msgspec.json.decode(given.order.read_bytes(), type=Order)))
        return
    with tempfile.TemporaryDirectory() as directory:
        found = compare(smollm2(Path(directory), "FLOAT32"), Path(directory), given.texts)
    rows.hand_over(found, given)


def compare(source: LanguageModelSource, directory: Path, n_texts: int) -> list[Row]:
    """Measure each task at both sizes, after a load that may have to convert the model's file."""
    directory.mkdir(parents=True, exist_ok=True)
    in_a_process_of_its_own(Order(LoadLanguageModel(source)), directory)
    peaks = []
    for times in (1, TIMES):
        place = directory / str(times)
        given = orders(source, place, times * n_texts, n_texts)
        peaks.append({name: in_a_process_of_its_own(order, place) for name, order in given.items()})
    return [row(name, n_texts, *(measured[name] for measured in peaks)) for name in peaks[0]]


def row(name: str, n_texts: int, once: float, many: float) -> Row:
    """Compare peaks in MB."""
    return rows.at_most(
        f"peak memory of {name}, {TIMES * n_texts:,} texts",
        Spread.of([many]),
        f"itself, {n_texts:,} texts",
        Spread.of([once]),
        GOAL,
        "MB",
        "float32",
        ",.0f",
    )


def orders(source: LanguageModelSource, directory: Path, n_texts: int, base_texts: int) -> dict[str, Order]:
    """Say what is to be done over so many texts, one after the other."""
    directory.mkdir(parents=True)
    lines = directory / "texts.jsonl"
    with lines.open("wb") as file:
        for text in texts(n_texts):
            file.write(msgspec.json.encode({"text": text}) + b"\n")
    listed = capture_of(source, block(0), directory / "listed")
    filed = capture_of(source, block(0), directory / "filed")
    trained = training(listed, directory, base_texts)
    return {
        "a capture of a list of texts": Order(listed, text_count=n_texts),
        "a capture of a JSON Lines file": Order(filed, texts_file=str(lines)),
        "a training": Order(trained),
        "an index": Order(indexing(listed, trained, directory)),
    }


def texts(count: int) -> list[str]:
    return list(islice(cycle(built_in_python_reference()), count))


def training(capture: CaptureActivations, directory: Path, base_texts: int) -> TrainSae:
    """Train for an epoch; the buffer is full with two thirds of what 1 × has (of some 47 tokens a text)."""
    return TrainSae(
        sae_id="sae",
        name="sae",
        sae_class="TopKSae",
        language_model_id=capture.language_model.id,
        run_id=capture.run_id,
        store_dir=capture.store_dir,
        layer=capture.layers[0],
        n_latents=N_LATENTS,
        k=K,
        epochs=1,
        batch_size=512,
        learning_rate=None,
        l1_lambda=None,
        seed=0,
        device="cpu",
        sae_dir=str(directory / "sae"),
        shuffle_buffer_bytes=base_texts * 32 * WIDTH * 4,
    )


def indexing(capture: CaptureActivations, trained: TrainSae, directory: Path) -> IndexNeurons:
    sae = SaeSource("sae", trained.sae_class, trained.sae_dir, trained.layer, WIDTH, N_LATENTS, K)
    return IndexNeurons(
        index_id="index",
        sae=sae,
        run_id=capture.run_id,
        store_dir=capture.store_dir,
        dataset_dir=capture.dataset_dir,
        tokenizer_dir=capture.language_model.copy_dir,
        top_texts_per_neuron=10,
        top_texts_path=str(directory / "top_texts.json"),
    )


def in_a_process_of_its_own(order: Order, directory: Path) -> float:
    file = directory / "order.json"
    file.write_bytes(msgspec.json.encode(order))
    command = [sys.executable, "-m", "benchmarks.memory", "--order", str(file)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(told.split()[-1]) / 1e6


def peak_of(order: Order) -> int:
    """Do the task here; return the process's highest resident memory so far in bytes."""
    from gql_server.compute.worker.task_runner import TaskRunner

    given: list[str] = []
    if isinstance(order.task, CaptureActivations):
        place = Path(order.task.dataset_dir)
        if order.text_count is not None:
            given = texts(order.text_count)
            write_texts(place, given)
        elif order.texts_file is not None:
            write_texts(place, read_file(Path(order.texts_file), ReadingOptions()).texts)
    TaskRunner(lambda change: None).do(order.task, Silent())
    del given  # Whoever gives texts as a list holds them as well.
    return round(peak_megabytes() * 1e6)


if __name__ == "__main__":
    main()
