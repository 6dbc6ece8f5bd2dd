"""Eight trainings on several job workers against one.

``python -m benchmarks.job_workers``: a server for each number of workers, with SmolLM2-135M-Instruct and the
Python reference captured at block 9; the same eight trainings, which differ in their seeds, are launched at
once, one server after the other, several rounds. A server has to come to the same weights in each.
"""

import time
from collections import defaultdict
from contextlib import ExitStack

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


def captured(server: Served) -> str:
    """Return the ID of a run to train on."""
    client = server.client
    model = client.language_model(model_file())
    given = {
        "languageModelId": model,
        "layers": [client.block(model, BLOCK)],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": TEXTS,
    }
    return client.finish(client.launch("captureActivations", given))


def train_all(server: Served, run: str) -> tuple[float, list[str]]:
    """Train on a run; return the seconds from the first launch to the last end, and the weights' SHA-256."""
    client = server.client
    given = {
        "activationRunId": run,
        "latentCount": N_LATENTS,
        "k": K,
        "epochs": EPOCHS,
        "indexNeurons": False,
    }
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
    seconds, weights = defaultdict[tuple[int, int], list[float]](list), dict[tuple[int, int], list[str]]()
    with ExitStack() as stack:
        runs = dict[tuple[int, int], tuple[Served, str]]()
        for threads in given.threads:
            for workers in given.workers:
                settings = {"WORKER_THREADS": str(threads)} if threads else {}
                settings |= {"MODEL_DIRS": str(model_file().parent), "JOB_WORKERS": str(workers)}
                server = stack.enter_context(served(None, **settings))
                runs[threads, workers] = server, captured(server)
        for _ in range(given.rounds):
            for key, (server, run) in runs.items():
                took, hashes = train_all(server, run)
                seconds[key].append(took)
                weights.setdefault(key, hashes)
                if weights[key] != hashes:
                    raise RuntimeError("the same trainings came to other weights")
    found = []
    for (threads, workers), taken in seconds.items():
        ours, alone = Spread.of(taken), Spread.of(seconds[threads, given.workers[0]])
        found.append(
            Row(
                what=f"{TRAININGS} trainings, {workers} job worker{'s' * (workers > 1)}, "
                f"{f'{threads} thread each' if threads else 'threads as by default'}",
                ours=ours.show("s"),
                against=f"{given.workers[0]} worker",
                theirs=alone.show("s"),
                measured=f"{alone.median / ours.median:.2f} × as fast",
                precision=PRECISION,
            )
        )
    rows.hand_over(found, given)


if __name__ == "__main__":
    main()
