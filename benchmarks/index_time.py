"""A neuron index over a captured run, against encoding the same activations with the same SAE.

``python -m benchmarks.index_time``: SmolLM2-135M-Instruct, block 9, the Python reference, float32; an SAE of
4,096 neurons (k 32), trained on that run for an epoch. What the index makes of the weights alone (nearest
neurons, promoted and suppressed tokens) does not grow with the run: it has a line of its own, and the index
is compared without it. Beside it mi_crow's own text tracking on the first of the texts, less its forward
pass, per token.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import rows
from benchmarks.alternating import alternate, seconds
from benchmarks.captures import RUN, Silent, capture_of
from benchmarks.rows import Row, Spread, at_least, at_most
from benchmarks.smollm2 import N_LATENTS, K, Subject, block_9
from gql_server.artifacts.datasets import built_in_python_reference, write_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.indexing.directions import direction_tensors
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.indexing.text_groups import MAX_GROUP_LATENTS
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.training import train_sae
from gql_server.protocol.sources import SaeSource
from gql_server.protocol.tasks import IndexNeurons, TrainSae

from mi_crow.mechanistic.sae.sae import Sae

GOAL = 1.3
STOCK_GOAL = 20
CLASSES = ("TopKSae", "BatchTopKSae")
PRECISION = "float32"
MAX_LENGTH = 128
STOCK_TEXTS = 8
TOP_TEXTS = 10


@dataclass(frozen=True)
class Run:
    """A captured run, and what indexes it."""

    directory: Path
    subject: Subject
    store: ActivationStore
    texts: Sequence[str]
    token_count: int


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--texts", type=int, default=929)
    parser.add_argument("--neurons", type=int, default=N_LATENTS)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        run = capture(Path(directory), block_9(Path(directory)), built_in_python_reference()[: given.texts])
        table = [row for name in CLASSES for row in measure(run, name, given.neurons, given.rounds)]
    rows.hand_over(table, given)


def measure(run: Run, name: str, n_latents: int, rounds: int) -> list[Row]:
    """Time one class of SAE."""
    of_sae = train(run, name, n_latents)
    sae = Saes(SaeClasses()).get(of_sae)
    task = index_task(run, of_sae)
    sides: dict[str, Callable[[], object]] = {
        "encode": lambda: encode_all(run, sae),
        "index": lambda: index_neurons(task, Silent(), sae, run.store, run.subject.language_models),
        "weights": lambda: direction_tensors(task, Silent(), sae, run.subject.language_models),
    }
    times = alternate(sides, rounds)
    passes = [whole - part for whole, part in zip(times["index"], times["weights"], strict=True)]
    what = f"index of {n_latents:,} neurons over {run.token_count:,} tokens, {name}"
    encoding = Spread.of(times["encode"])
    against = "reading and encoding the same"
    table = [
        at_most(
            f"{what}, less what the weights tell", Spread.of(passes), against, encoding, GOAL, "s", PRECISION
        ),
        Row(
            what=f"{what}, with it",
            ours=Spread.of(times["index"]).show("s", ",.1f"),
            measured=f"{Spread.of(times['weights']).show('s', ',.1f')} of it the weights",
            precision=PRECISION,
        ),
    ]
    if name == "TopKSae":
        stock = [tracked_tokens_per_second(run, sae, run.texts[:STOCK_TEXTS]) for _ in range(2)]
        ours = Spread.of([run.token_count / time for time in passes])
        what = f"tokens of a run that are indexed in a second, {name}"
        table.append(
            at_least(
                what,
                ours,
                "mi_crow's text tracking, without its forward pass",
                Spread.of(stock),
                STOCK_GOAL,
                "tokens/s",
                PRECISION,
            )
        )
    return table


def capture(directory: Path, subject: Subject, texts: Sequence[str]) -> Run:
    """Capture a run of the layer."""
    write_texts(directory / "texts", list(texts))
    task = capture_of(subject.source, subject.layer, directory)
    token_count = capture_activations(task, Silent(), subject.language_models).token_count
    store = ActivationStore(Path(task.store_dir))
    return Run(directory, subject, store, texts, token_count)


def train(run: Run, name: str, n_latents: int) -> SaeSource:
    """Train an SAE for an epoch; where it lies."""
    sae_dir = run.directory / "saes" / name
    task = TrainSae(
        sae_id=f"sae_{name}",
        name=name,
        sae_class=name,
        language_model_id=run.subject.source.id,
        run_id=RUN,
        store_dir=str(run.store.base_path),
        layer=run.subject.layer,
        n_latents=n_latents,
        k=min(K, n_latents),
        epochs=1,
        batch_size=min(1024, run.token_count),
        learning_rate=None,
        l1_lambda=None,
        seed=0,
        device="cpu",
        sae_dir=str(sae_dir),
        shuffle_buffer_bytes=2**28,
    )
    n_inputs = train_sae(task, Silent(), SaeClasses()).n_inputs
    return SaeSource(task.sae_id, name, str(sae_dir), run.subject.layer, n_inputs, n_latents, task.k)


def index_task(run: Run, sae: SaeSource) -> IndexNeurons:
    """Ask for the index that a training makes of itself."""
    return IndexNeurons(
        index_id="idx_a",
        sae=sae,
        run_id=RUN,
        store_dir=str(run.store.base_path),
        dataset_dir=str(run.directory / "texts"),
        tokenizer_dir=run.subject.source.copy_dir,
        top_texts_per_neuron=TOP_TEXTS,
        top_texts_path=str(run.directory / "top_texts.json"),
        language_model=run.subject.source,
    )


def encode_all(run: Run, sae: Sae) -> None:
    """Read the run's activations and encode those that count, in chunks as large as the index's."""
    chunk = max(1, MAX_GROUP_LATENTS // sae.context.n_latents)
    for index in run.store.list_run_batches(RUN):
        activations = run.store.read_masked(RUN, index, run.subject.layer)
        for start in range(0, len(activations), chunk):
            with torch.inference_mode():
                sae.encode(activations[start : start + chunk])


def tracked_tokens_per_second(run: Run, sae: Sae, texts: Sequence[str]) -> float:
    """Return how fast mi_crow's hook tracks texts, the same forward pass without the hook taken off."""
    lm = run.subject.lm
    options = {"truncation": True, "max_length": MAX_LENGTH}

    def infer() -> None:
        for text in texts:
            lm.inference.execute_inference([text], tok_kwargs=dict(options))

    infer()
    bare = seconds(infer)
    lm.layers.register_hook(run.subject.layer, sae)
    try:
        sae.concepts.enable_text_tracking()
        tracking = seconds(infer)
    finally:
        sae.concepts.disable_text_tracking()
        lm.layers.unregister_hook(sae)
    tokens = sum(len(lm.tokenizer(text, **options)["input_ids"]) for text in texts)
    return tokens / (tracking - bare)


if __name__ == "__main__":
    main()
