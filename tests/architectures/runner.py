"""Takes architectures through the steps, each in a process of its own, and says what became of them."""

import multiprocessing
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from gql_server.compute.worker.context import TaskError
from tests.architectures.bench import Bench
from tests.architectures.configs import architectures
from tests.architectures.making import make, number_of, tokenizer_of
from tests.architectures.steps import NEEDS, STEPS
from tests.architectures.tokenizer_kinds import KINDS

SECONDS = 300.0
"""That an architecture may take."""
MAKING = "making"


@dataclass
class Outcome:
    """What became of an architecture: the steps that passed, and why another did not."""

    model_type: str
    class_name: str
    tokenizer: str
    passed: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """By step, a sentence; MAKING where there is no tiny model to begin with."""
    trace: str = ""
    seconds: float = 0.0

    @property
    def passes(self) -> bool:
        return not self.failures

    @property
    def made(self) -> bool:
        return MAKING not in self.failures


def run_one(model_type: str, directory: Path) -> Outcome:
    """Make a model and take it through all steps, also those after one that has failed."""
    outcome = Outcome(model_type, architectures()[model_type], tokenizer_of(model_type))
    began = time.monotonic()
    try:
        made = make(model_type, directory / model_type)
        sae_class = ("TopKSae", "BatchTopKSae")[number_of(model_type) // len(KINDS) % 2]
        bench = Bench(made, directory, sae_class)
    except Exception as error:
        _note(outcome, MAKING, error)
        return outcome
    for step, check in STEPS.items():
        missing = [need for need in NEEDS.get(step, ()) if need not in outcome.passed]
        if missing:
            outcome.failures[step] = f"needs {missing[0]}"
            continue
        try:
            check(bench)
        except Exception as error:
            _note(outcome, step, error)
        else:
            outcome.passed.append(step)
    outcome.seconds = time.monotonic() - began
    return outcome


def _note(outcome: Outcome, step: str, error: Exception) -> None:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = [] if isinstance(error, TaskError | AssertionError) and lines else [f"{type(error).__name__}:"]
    outcome.failures[step] = " ".join([*name, *lines[:6]])
    outcome.trace = outcome.trace or traceback.format_exc()


def run_all(model_types: Sequence[str], directory: Path, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Run one after the other; a crash or a standstill ends the one architecture only."""
    for model_type in model_types:
        place = directory / model_type
        place.mkdir()
        yield _in_process(model_type, place, seconds)
        shutil.rmtree(place)


def _in_process(model_type: str, directory: Path, seconds: float) -> Outcome:
    # Forked, so that the imports, which take longer than the steps, are done once.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(model_type, directory, sender))
    process.start()
    sender.close()
    try:
        if receiver.poll(seconds):
            outcome: Outcome = receiver.recv()
            return outcome
        sentence = f"not through after {seconds:.0f} s"
    except EOFError:
        process.join()
        sentence = f"its process ended with status {process.exitcode}"
    finally:
        process.kill()
        process.join()
    kind = tokenizer_of(model_type)
    return Outcome(model_type, architectures()[model_type], kind, failures={"process": sentence})


def _child(model_type: str, directory: Path, sender: Connection) -> None:
    sys.stdout = sys.stderr = (directory / "output.txt").open("w")
    sender.send(run_one(model_type, directory))
