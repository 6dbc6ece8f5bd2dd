"""Eight trainings, and a capture in parts, on several job workers against one.

``python -m benchmarks.job_workers``: a server for each number of workers, with SmolLM2-135M-Instruct and the
Python reference captured at block 9; the same eight trainings, which differ in their seeds, are launched at
once, one server after the other, several rounds. A server has to come to the same weights in each. Then one
capture, in two parts for each worker where there are several.
"""

import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any

from benchmarks import rows
from benchmarks.rows import Row, Spread
from benchmarks.served import Served, served
from gql_server.tour.steps import model_file

BLOCK = 9
PRECISION = "float32"
TEXTS = 400
TRAININGS = 8
N_LATENTS, K, EPOCHS = 2048, 32, 3
SHA_256 = "query($id: ID!) { sae(id: $id) { provenance { checkpointSha256 } } }"


@dataclass(frozen=True)
class Setup:
    """A server with so many job workers, and what it is asked for."""

    server: Served
    workers: int
    capture: dict[str, Any]
    run: str
    """Of such a capture."""

    @classmethod
    def of(cls, server: Served, workers: int) -> "Setup":
        """Load the language model, and capture a run to train on."""
        client = server.client
        model = client.language_model(model_file())
        capture = {
            "languageModelId": model,
            "layers": [client.block(model, BLOCK)],
            "dataset": {"builtIn": "PYTHON_REFERENCE"},
            "sampleLimit": TEXTS,
        }
        # In parts, so that each worker has the model before anything is measured.
        parts = {"parts": 4 * workers}
        return cls(
            server, workers, capture, client.finish(client.launch("captureActivations", capture | parts))
        )

    def capture_in_parts(self) -> float:
        """Capture in two parts for each worker, or in one; return the seconds from the launch to the end."""
        client, parts = self.server.client, 2 * self.workers if self.workers > 1 else 1
        began = time.perf_counter()
        client.finish(client.launch("captureActivations", self.capture | {"parts": parts}))
        return time.perf_counter() - began

    def train_all(self) -> tuple[float, list[str]]:
        """Return the seconds from the first launch to the last end, and the SHA-256 of all weights."""
        client = self.server.client
        given = {"activationRunId": self.run, "latentCount": N_LATENTS, "k": K, "epochs": EPOCHS}
        given |= {"indexNeurons": False}
        began = time.perf_counter()
        jobs = [client.launch("trainSae", given | {"seed": seed}) for seed in range(TRAININGS)]
        saes = [client.finish(job) for job in jobs]
        seconds = time.perf_counter() - began
        return seconds, [client.ask(SHA_256, id=sae)["sae"]["provenance"]["checkpointSha256"] for sae in saes]


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, nargs="+", default=[0, 1], help="of each; 0: the default")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    setups = dict[tuple[int, int], Setup]()
    seconds = defaultdict[tuple[str, int, int], list[float]](list)
    weights = dict[tuple[int, int], list[str]]()
    with ExitStack() as stack:
        for threads, workers in product(given.threads, given.workers):
            settings = {"MODEL_DIRS": str(model_file().parent), "JOB_WORKERS": str(workers)}
            settings |= {"WORKER_THREADS": str(threads)} if threads else {}
            setups[threads, workers] = Setup.of(stack.enter_context(served(None, **settings)), workers)
        for _ in range(given.rounds):
            for key, setup in setups.items():
                seconds["a capture, in two parts for each of several workers", *key].append(
                    setup.capture_in_parts()
                )
                took, hashes = setup.train_all()
                seconds[f"{TRAININGS} trainings", *key].append(took)
                if weights.setdefault(key, hashes) != hashes:
                    raise RuntimeError("the same trainings came to other weights")
    rows.hand_over(
        [row(key, taken, seconds[*key[:2], given.workers[0]]) for key, taken in seconds.items()], given
    )


def row(key: tuple[str, int, int], taken: list[float], taken_by_fewest: list[float]) -> Row:
    """Compare the times of some number of workers with those of the first number."""
    what, threads, workers = key
    ours, fewest = Spread.of(taken), Spread.of(taken_by_fewest)
    each = "1 thread each" if threads == 1 else f"{threads} threads each" if threads else "default threads"
    return Row(
        what=f"{what}: {workers} job worker{'s' * (workers > 1)}, {each}",
        ours=ours.show("s", ",.1f"),
        against="the fewest workers",
        theirs=fewest.show("s", ",.1f"),
        measured=f"{fewest.median / ours.median:.2f} × as fast",
        precision=PRECISION,
    )


if __name__ == "__main__":
    main()
