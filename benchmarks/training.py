"""Training throughput and memory over the number of latents: ours, and that of other packages.

``python -m benchmarks.training``: tokens per second of each trainer's own loop and the most memory of its
process, on the same batches of SmolLM2's activations (width 576, k 32, 1,024 tokens a step, float32 but for
AMP), in processes of their own that take turns; and a plot of both, benchmarks/training.png. ``--plot``
puts it elsewhere.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import rows
from benchmarks.captures import RUN, block, capture_reference
from benchmarks.peers import trainings
from benchmarks.peers.trainings import PeerTraining
from benchmarks.rows import Row, Spread
from benchmarks.training_batches import write_batches
from benchmarks.training_plot import draw
from gql_server.compute.storage.store import ActivationStore

K = 32
BATCH_SIZE = 1024
OURS = ("TopKSae", "BatchTopKSae")
PEERS = (
    PeerTraining("mi_crow", "mi_crow, AMP", {"use_amp": True}),
    PeerTraining("mi_crow", "mi_crow", {"use_amp": False}),
    PeerTraining("sae_lens", "SAELens"),
    PeerTraining("dictionary_learning", "dictionary-learning"),
    PeerTraining("eai_sparsify", "eai-sparsify"),
)
AMP_STEPS = 4
"""AMP takes seconds for a step where a processor has no bfloat16 instructions."""


@dataclass(frozen=True)
class Size:
    """How often and how long is trained with so many latents; ``goal`` is what ours is to be times theirs."""

    n_latents: int
    n_steps: int
    n_rounds: int
    goal: float | None = None


SIZES = (
    Size(1024, 94, 3),
    Size(4096, 94, 3, 1.3),
    Size(16384, 32, 3, 2.0),
    Size(65536, 6, 1),
)


@dataclass(frozen=True)
class Measured:
    """What trainings of one trainer with one number of latents came to."""

    tokens_per_second: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


Results = dict[int, dict[str, Measured]]
"""By number of latents and by trainer."""


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--texts", type=int, default=1029)
    parser.add_argument("--latents", type=int, nargs="*", help="only these sizes")
    parser.add_argument("--plot", type=Path, default=Path(__file__).with_suffix(".png"))
    given = parser.parse_args()
    sizes = [size for size in SIZES if not given.latents or size.n_latents in given.latents]
    with tempfile.TemporaryDirectory(prefix="training-") as directory:
        store = capture_reference(Path(directory), given.texts)
        results = measure(store, Path(directory), sizes)
    draw(
        {name: points(results, name, "tokens_per_second") for name in names()},
        {name: points(results, name, "megabytes") for name in names()},
        given.plot,
    )
    rows.hand_over([row for size in sizes for row in compare(size, results[size.n_latents])], given)


def names() -> list[str]:
    """Return all trainers, ours first."""
    return [*OURS, *(training.title for training in PEERS)]


def points(results: Results, name: str, what: str) -> list[tuple[int, float]]:
    """Return a trainer's medians over the number of latents."""
    found = [(n_latents, getattr(by_name[name], what)) for n_latents, by_name in results.items()]
    return [(n_latents, Spread.of(values).median) for n_latents, values in found if values]


def measure(
    store: ActivationStore, directory: Path, sizes: Sequence[Size], peers: Sequence[PeerTraining] = PEERS
) -> Results:
    """Have the trainers take turns on the captured run; the directory is for files."""
    batches = directory / "batches.npy"
    n_batches = write_batches(
        store,
        RUN,
        block(9),
        batches,
        batch_size=BATCH_SIZE,
        epochs=2,
        seed=0,
        buffer_bytes=2**30,
    )
    results: Results = {}
    for size in sizes:
        by_name = results[size.n_latents] = defaultdict(Measured)
        n_steps = min(size.n_steps, n_batches)
        for _ in range(size.n_rounds):
            for sae_class in OURS:
                note(by_name[sae_class], n_steps, *ours(store.base_path, sae_class, size, n_steps))
            for training in peers:
                steps = min(n_steps, AMP_STEPS) if training.options.get("use_amp") else n_steps
                note(by_name[training.title], steps, *theirs(training, batches, size, steps))
    return results


def note(measured: Measured, n_steps: int, seconds: float, megabytes: float) -> None:
    """Add a training."""
    measured.tokens_per_second.append(n_steps * BATCH_SIZE / seconds)
    measured.megabytes.append(megabytes)


def ours(store: Path, sae_class: str, size: Size, n_steps: int) -> tuple[float, float]:
    """Train with this server's trainer; returns seconds and megabytes."""
    command = [sys.executable, "-m", "benchmarks.own_training", "--store", str(store), "--epochs", "2"]
    command += ["--sae-class", sae_class, "--latents", str(size.n_latents), "--steps", str(n_steps)]
    ended = subprocess.run([*command, "--k", str(K)], stdout=subprocess.PIPE, check=True)
    said = json.loads(ended.stdout.splitlines()[-1])
    print(f"{sae_class}, {size.n_latents:,} latents: {said}", flush=True)
    return said["seconds"], said["peak_megabytes"]


def theirs(training: PeerTraining, batches: Path, size: Size, n_steps: int) -> tuple[float, float]:
    """Train with another package's; returns seconds and megabytes."""
    with tempfile.TemporaryDirectory(prefix="peer-") as saes:
        trained = trainings.train(
            training, batches, Path(saes), n_latents=size.n_latents, k=K, seed=0, n_steps=n_steps
        )
    print(f"{training.title}, {size.n_latents:,} latents: {trained.seconds:.1f} s", flush=True)
    return trained.seconds, trained.peak_megabytes


def compare(size: Size, measured: dict[str, Measured]) -> list[Row]:
    """Compare each class of ours with the fastest of the others, in speed; and say what memory both take."""
    speeds = {name: Spread.of(one.tokens_per_second) for name, one in measured.items()}
    peers = [name for name in measured if name not in OURS]
    fastest = max(peers, key=lambda name: speeds[name].median)
    made = []
    for sae_class in OURS:
        what = f"training {sae_class}, {size.n_latents:,} latents, k {K}, width 576"
        row = rows.at_least(
            what, speeds[sae_class], fastest, speeds[fastest], size.goal or 0, "tokens/s", "float32"
        )
        made.append(row if size.goal else without_goal(row))
    memory = {name: f"{Spread.of(one.megabytes).median:,.0f} MB" for name, one in measured.items()}
    others = ", ".join(f"{name} {speeds[name].median:,.0f} tokens/s, {memory[name]}" for name in peers)
    made.append(
        Row(
            what=f"memory of that, {size.n_latents:,} latents",
            ours=", ".join(f"{sae_class} {memory[sae_class]}" for sae_class in OURS),
            against="all others",
            theirs=others,
            measured=rows.UNKNOWN,
            precision="float32; AMP: bfloat16",
        )
    )
    return made


def without_goal(row: Row) -> Row:
    """Return the comparison as one that has no goal."""
    return Row(row.what, row.ours, row.measured, row.precision, row.against, row.theirs)


if __name__ == "__main__":
    main()
