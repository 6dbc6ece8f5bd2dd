"""Our trainings beside those of other packages: the same tokens, batches, steps, and one evaluation.

``make results`` makes the packages' environments, runs this and writes the tables of docs/results.md.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import results_page
from benchmarks.comparison import (
    BATCH_SIZE,
    LAYER,
    N_HELD_OUT,
    N_LATENTS,
    N_SEEN,
    N_TEXTS,
    SEED,
    Comparison,
    K,
)
from benchmarks.own_server import own_server
from benchmarks.pages import Marks, machine
from benchmarks.peers import trainings
from benchmarks.results_page import Circumstances, Measured
from benchmarks.training_batches import write_batches
from gql_server.compute.storage.store import ActivationStore
from gql_server.settings import Settings
from gql_server.tour.client import RemoteApi, wait_until_healthy
from gql_server.tour.steps import model_file

OUR_CLASSES = ("BatchTopKSae", "BiasedTopKSae", "TopKSae")
PAGE = Path(__file__).parents[1] / "docs" / "results.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--latents", type=int, default=N_LATENTS, help="of each SAE; a table for each number")
    parser.add_argument("--page", type=Path, default=PAGE, help="whose tables are written anew")
    parser.add_argument(
        "--only", default="", help="of the other packages' trainings, those with this in the name"
    )
    given = parser.parse_args()
    marks = marks_of(given.latents)
    page = given.page.read_text()
    marks.put_between(page, "")  # A page without them is refused now, not when everything is trained.
    choices = trainings.for_more_latents(trainings.TRAININGS, given.latents / N_LATENTS)
    wanted = [training for training in choices if given.only in training.name]
    with tempfile.TemporaryDirectory(prefix="results-") as directory:
        measured = asyncio.run(compare(Path(directory), given.epochs, wanted, given.latents))
    given.page.write_text(marks.put_between(page, measured))


def marks_of(n_latents: int) -> Marks:
    """Return between which marks of the page SAEs of this size are compared."""
    return results_page.MARKS if n_latents == N_LATENTS else Marks(f"make results with {n_latents:,} neurons")


async def compare(directory: Path, epochs: int, wanted: list[trainings.PeerTraining], n_latents: int) -> str:
    """Train and score everything in a temporary directory; returns the page's tables."""
    console = Console()
    saes, artifacts, model = directory / "saes", directory / "artifacts", model_file()
    saes.mkdir()
    with own_server(artifacts, [model.parent, saes]) as url:
        await wait_until_healthy(url)
        comparison = await Comparison.begin(RemoteApi(url), console, str(model), n_latents)
        scored = [await comparison.ours(sae_class, epochs) for sae_class in OUR_CLASSES]
        batches = directory / "batches.npy"
        n_steps = _write_batches(artifacts, comparison.run_id, batches, epochs)
        for training in wanted:
            console.print(f"Training {training.name} …", highlight=False)
            trained = trainings.train(training, batches, saes, n_latents=n_latents, k=K, seed=SEED)
            scored.append(await comparison.theirs(trained, n_steps * BATCH_SIZE))
        chosen = results_page.best_of_each([measured for _, measured in scored])
        complete = [
            await comparison.more_of(sae_id, measured) if measured in chosen else measured
            for sae_id, measured in scored
        ]
        circumstances = _circumstances(complete, n_latents, n_steps, await comparison.token_count())
    return results_page.render(complete, circumstances, machine())


def _write_batches(artifacts: Path, run_id: str, path: Path, epochs: int) -> int:
    store = ActivationStore(artifacts / "store")
    buffer_bytes = Settings(artifact_dir=artifacts).shuffle_buffer_bytes
    return write_batches(
        store,
        run_id,
        LAYER,
        path,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        seed=SEED,
        buffer_bytes=buffer_bytes,
    )


def _circumstances(measured: list[Measured], n_latents: int, n_steps: int, n_tokens: int) -> Circumstances:
    return Circumstances(
        n_latents=n_latents,
        k=K,
        n_steps=n_steps,
        batch_size=BATCH_SIZE,
        n_texts=N_TEXTS,
        n_tokens=n_tokens,
        n_held_out_texts=N_HELD_OUT,
        n_held_out_tokens=int(measured[0].held_out["tokenCount"] or 0),
        n_seen_texts=N_SEEN,
    )


if __name__ == "__main__":
    main()
