"""What a client's generations and top-neuron queries lose beside a job, and what the job loses beside them.

``python -m benchmarks.lanes``: SmolLM2-135M from its wheel over the Python reference, one client that asks
without pause. Windows of a few seconds alternate in one run: the client alone before and after each job; the
job alone, beside generations, and beside top-neuron queries. With ``--busy 2`` two other processes compute
all the time, which changes both sides of each ratio.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.rows import Row, Spread
from benchmarks.served import ENDED, Served, served
from gql_server.artifacts.python_reference import python_reference
from gql_server.tour.steps import model_file

CLIENT_GOAL = 0.55
JOB_GOAL = 0.45
EDGE_SECONDS = 0.01
SPENT = 0.6
"""A job that is further than this is replaced before the next window."""
GENERATE = """mutation($input: GenerateInput!) { generate(input: $input) {
  ... on Generation { outputs { tokens { text } } } ... on Error { message } } }"""
TOP_NEURONS = """query($sae: ID!, $prompts: [String!]!) { topNeurons(saeId: $sae, prompts: $prompts) {
  ... on TopNeurons { prompts { neurons { activation } } } ... on Error { message } } }"""
BUSY_LOOP = "while True: sum(range(10_000))"
TOKENS_OF_A_TEXT = 64
CHARACTERS = 480
STRIDE = 60
SENTENCE = "The expression list is evaluated once; it should yield an iterable object. "


@dataclass(frozen=True)
class Setup:
    """What is there to be worked with."""

    server: Served
    model: str
    layer: str
    sae: str
    launch: Mapping[str, Callable[[], str]]
    """Launches a job of each kind and returns its ID."""

    def generate(self) -> int:
        """Generate once; returns the number of tokens."""
        asked = {"languageModelId": self.model, "prompts": [SENTENCE], "maxNewTokens": 24, "topNeurons": 0}
        generated = self.server.client.ask(GENERATE, input=asked)["generate"]
        return len(generated["outputs"][0]["tokens"])

    def top_neurons(self) -> int:
        """Ask for the top neurons of about 120 tokens; returns 1."""
        self.server.client.ask(TOP_NEURONS, sae=self.sae, prompts=[SENTENCE * 8])
        return 1


@dataclass
class Rates:
    """Units a second of one kind of interactive work and of one kind of job, a value for each window."""

    client_alone: list[float] = field(default_factory=list)
    client_beside: list[float] = field(default_factory=list)
    job_alone: list[float] = field(default_factory=list)
    job_beside: list[float] = field(default_factory=list)


class Running:
    """A job that is replaced when it nears its end."""

    def __init__(self, server: Served, launch: Callable[[], str]) -> None:
        self._server, self._launch = server, launch
        self._id = launch()

    def prepare(self) -> None:
        """Wait until the job computes and has far to go."""
        while True:
            job = self._server.client.job(self._id)
            fraction = (job["progress"] or {}).get("fraction") or 0.0
            if job["status"] in ENDED or fraction > SPENT:
                self.end()
                self._id = self._launch()
            elif job["status"] == "RUNNING" and fraction > 0:
                return
            time.sleep(0.1)

    def edge(self) -> tuple[float, int]:
        """Wait for the next progress; returns when it came and what is completed."""
        before = completed = self._completed()
        while completed == before:
            time.sleep(EDGE_SECONDS)
            completed = self._completed()
        return time.perf_counter(), completed

    def end(self) -> None:
        """Cancel the job and wait for its end."""
        client = self._server.client
        client.ask("mutation($id: ID!) { cancelJob(id: $id) { __typename } }", id=self._id)
        while (
            client.ask("query($id: ID!) { job(id: $id) { status } }", id=self._id)["job"]["status"]
            not in ENDED
        ):
            time.sleep(0.1)

    def _completed(self) -> int:
        # A new connection: the server closes one that has been idle for some seconds.
        job = self._server.client.job(self._id)
        if job["status"] in ENDED:
            raise RuntimeError("The job ended within a window: use more texts or shorter windows.")
        return int(job["progress"]["completed"])


def measure(setup: Setup, seconds: float, rounds: int, kinds: Sequence[str]) -> dict[tuple[str, str], Rates]:
    works = {"generation": setup.generate, "top neurons": setup.top_neurons}
    rates: dict[tuple[str, str], Rates] = {(kind, name): Rates() for kind in kinds for name in works}
    for work in works.values():
        _rate(work, seconds)  # To warm up.
    for kind in kinds:
        for _ in range(rounds):
            idle = {name: [_rate(work, seconds)] for name, work in works.items()}
            job = Running(setup.server, setup.launch[kind])
            for name, work in works.items():
                found = rates[kind, name]
                found.job_alone.append(_beside(job, lambda: time.sleep(seconds))[0])
                job_rate, client_rate = _beside(job, partial(_rate, work, seconds))
                found.job_beside.append(job_rate)
                found.client_beside.append(client_rate)
            job.end()
            for name, work in works.items():
                idle[name].append(_rate(work, seconds))
                rates[kind, name].client_alone += idle[name]
            print({name: rates[kind, name] for name in works}, kind, flush=True)
    return rates


def _rate(work: Callable[[], int], seconds: float) -> float:
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += work()
    return done / (time.perf_counter() - began)


def _beside(job: Running, work: Callable[[], Any]) -> tuple[float, Any]:
    """Do something while a job runs; returns the job's rate meanwhile, and what came of the work."""
    job.prepare()
    began, before = job.edge()
    result = work()
    ended, after = job.edge()
    return (after - before) / (ended - began), result


@contextmanager
def busy(n_processes: int) -> Iterator[None]:
    """Have processes compute beside the block."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(n_processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def set_up(server: Served, model_path: Path, given: argparse.Namespace) -> Setup:
    client = server.client
    model = client.language_model(model_path)
    layer = client.block(model, given.block)
    # Alike, so that each window finds as much to do for a text, and with progress often.
    texts = {"dataset": {"texts": alike_texts()}, "maxLength": TOKENS_OF_A_TEXT, "batchSize": 8}
    capture = {"languageModelId": model, "layers": [layer], **texts}

    def run(limit: int | None) -> str:
        return client.finish(client.launch("captureActivations", capture | {"sampleLimit": limit}))

    def training(run_id: str, latents: int, epochs: int) -> dict[str, Any]:
        asked = {
            "activationRunId": run_id,
            "saeClass": "TopKSae",
            "latentCount": latents,
            "k": 32,
            "epochs": epochs,
        }
        return asked | {"indexNeurons": False}

    small = run(given.texts)
    sae = client.finish(client.launch("trainSae", training(small, given.latents, 1)))
    indexed: dict[str, Any] = {}
    if "index" in given.jobs:
        wide = client.finish(client.launch("trainSae", training(small, 4 * given.latents, 1)))
        indexed = {"saeId": wide, "activationRunId": run(given.index_texts)}
    evaluated = {"saeId": sae, "dataset": texts["dataset"], "sampleLimit": 10_000}
    launch = {
        "training": lambda: server.client.launch("trainSae", training(small, given.latents, 1000)),
        "capture": lambda: server.client.launch("captureActivations", capture),
        "index": lambda: server.client.launch("indexNeurons", indexed),
        "evaluation": lambda: server.client.launch("evaluateSae", evaluated),
    }
    return Setup(server, model, layer, sae, launch)


def alike_texts() -> list[str]:
    """Return texts of the Python reference that all have ``TOKENS_OF_A_TEXT`` tokens or more."""
    prose = " ".join(python_reference())
    starts = range(0, len(prose) - CHARACTERS, STRIDE)
    return [prose[start : start + CHARACTERS] for start in starts]


def lines(rates: dict[tuple[str, str], Rates], n_busy: int) -> Iterator[Row]:
    others = f", {n_busy} other busy processes" if n_busy else ""
    for (kind, name), found in rates.items():
        unit = "tokens/s" if name == "generation" else "/s"
        a = "an" if kind[0] in "aeiou" else "a"
        sides = [
            (f"{name} beside {a} {kind}{others}", found.client_beside, found.client_alone, CLIENT_GOAL, unit),
            (f"{kind} beside {name}{others}", found.job_beside, found.job_alone, JOB_GOAL, "units/s"),
        ]
        for what, beside, alone, goal, rate_unit in sides:
            ours, theirs = Spread.of(beside), Spread.of(alone)
            ratio = ours.median / theirs.median
            yield Row(
                what=what,
                ours=ours.show(rate_unit, ",.1f"),
                against="alone",
                theirs=theirs.show(rate_unit, ",.1f"),
                measured=f"{ratio:.2f} ×",
                goal=f"≥ {goal:g} ×",
                reached=ratio >= goal,
                precision="float32",
            )


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("--model", type=Path, help="a directory or GGUF file; SmolLM2-135M if left out")
    parser.add_argument("--block", type=int, default=9)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--index-texts", type=int, default=1500)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=6, help="of each window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], help="other processes that compute")
    parser.add_argument("--jobs", nargs="+", default=["training", "capture", "index", "evaluation"])
    given = parser.parse_args()
    model = given.model or model_file()
    found: list[Row] = []
    with served(MODEL_DIRS=str(model.parent)) as server:
        setup = set_up(server, model, given)
        for n_busy in given.busy:
            with busy(n_busy):
                rates = measure(setup, given.seconds, given.rounds, given.jobs)
            found += lines(rates, n_busy)
    rows.hand_over(found, given)


if __name__ == "__main__":
    main()
