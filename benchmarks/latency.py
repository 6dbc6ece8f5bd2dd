"""How long a ``job`` query takes while the server is idle, captures, trains and indexes.

``python -m benchmarks.latency``: on SmolLM2-135M from its wheel over the Python reference. Idle and busy
alternate in one run: each job is compared with what was measured just before and just after it. A job that is
over too soon is launched again. The query is asked over one connection, again and again, with short pauses.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import rows
from benchmarks.rows import Row, Spread
from benchmarks.served import ENDED, Client, p95, served
from gql_server.tour.steps import model_file

PAUSE_SECONDS = 0.005
PARTS = 5
"""The p95 is given for each part of a phase, to show how it varies."""
GOAL = 2.0
BUSY = ("capture", "training", "index")


@dataclass(frozen=True)
class Work:
    """What jobs have to do."""

    model: Path
    block: int
    texts: int
    latents: int
    k: int
    epochs: int
    queries: int
    """Of each phase, at least."""


@dataclass
class Times:
    """Milliseconds per query of the phases: idle, a job, idle, a job, …, idle."""

    idle: list[list[float]] = field(default_factory=list)
    busy: dict[str, list[float]] = field(default_factory=dict)

    def around(self, name: str) -> list[float]:
        """Return the idle times before and after a kind of job."""
        place = list(self.busy).index(name)
        return [*self.idle[place], *self.idle[place + 1]]


class Phases:
    """Measures one phase after the other on a server."""

    def __init__(self, client: Client, queries: int) -> None:
        self._client = client
        self._queries = queries
        self.times = Times()
        self._ended_job = ""

    def idle(self) -> None:
        """Ask for a job that has ended while nothing goes on."""
        self.times.idle.append([self._ask(self._ended_job)[1] for _ in range(self._queries)])

    def busy(self, name: str, launch: Callable[[], str]) -> str:
        """Ask for a job until it has ended, and the next where that is too soon; return its result's ID."""
        times = self.times.busy.setdefault(name, [])
        while True:
            self._ended_job = job = launch()
            while True:
                status, milliseconds = self._ask(job)
                times.append(milliseconds)
                if status in ENDED:
                    break
            if len(times) >= self._queries:
                return self._client.finish(job)

    def _ask(self, job: str) -> tuple[str, float]:
        status = self._client.job(job)["status"] if job else ""
        milliseconds = self._client.milliseconds
        time.sleep(PAUSE_SECONDS)
        return str(status), milliseconds

    def load(self, path: Path) -> str:
        """Load a language model, before anything is measured."""
        model = self._client.language_model(path)
        self._ended_job = self._client.ask("{ jobs { nodes { id } } }")["jobs"]["nodes"][0]["id"]
        return model


def measure(client: Client, work: Work) -> Times:
    phases = Phases(client, work.queries)
    model = phases.load(work.model)
    capture = {
        "languageModelId": model,
        "layers": [client.block(model, work.block)],
        "dataset": {"builtIn": "PYTHON_REFERENCE"},
        "sampleLimit": work.texts,
    }
    phases.idle()
    phases.times.idle.clear()  # That was to warm up.
    phases.idle()
    run = phases.busy("capture", lambda: client.launch("captureActivations", capture))
    phases.idle()
    training = {
        "activationRunId": run,
        "saeClass": "TopKSae",
        "latentCount": work.latents,
        "k": work.k,
        "epochs": work.epochs,
    }
    sae = phases.busy("training", lambda: client.launch("trainSae", training | {"indexNeurons": False}))
    phases.idle()
    phases.busy("index", lambda: client.launch("indexNeurons", {"saeId": sae}))
    phases.idle()
    return phases.times


def spread_of_p95(milliseconds: Sequence[float]) -> Spread:
    """Return the p95 of each of some parts, one after the other."""
    size = len(milliseconds) // PARTS
    return Spread.of([p95(milliseconds[part * size : (part + 1) * size]) for part in range(PARTS)])


def lines(times: Times) -> Iterator[Row]:
    for name in BUSY:
        goal = GOAL if name == "training" else None
        ours, idle = spread_of_p95(times.busy[name]), spread_of_p95(times.around(name))
        ratio = ours.median / idle.median
        yield Row(
            what=f"p95 of a job query during {'an' if name == 'index' else 'a'} {name}",
            ours=ours.show("ms", ".1f"),
            against="idle, before and after it",
            theirs=idle.show("ms", ".1f"),
            measured=f"{ratio:.2f} ×",
            goal=f"≤ {goal:g} ×" if goal else "",
            reached=ratio <= goal if goal else None,
            precision="float32",
        )


def report(times: Times) -> None:
    phases = {f"idle {place}": found for place, found in enumerate(times.idle)} | times.busy
    for name, milliseconds in phases.items():
        print(
            f"{name}: p50 {statistics.median(milliseconds):.1f} ms, p95 {p95(milliseconds):.1f} ms,"
            f" slowest {max(milliseconds):.0f} ms, {len(milliseconds)} queries"
        )


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--model", type=Path, help="a directory or GGUF file; SmolLM2-135M if left out")
    parser.add_argument("--block", type=int, default=9)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--queries", type=int, default=1000, help="of each phase, at least")
    given = parser.parse_args()
    model = given.model or model_file()
    work = Work(model, given.block, given.texts, given.latents, given.k, given.epochs, given.queries)
    with served(MODEL_DIRS=str(work.model.parent)) as server:
        times = measure(server.client, work)
    report(times)
    rows.hand_over(list(lines(times)), given)


if __name__ == "__main__":
    main()
