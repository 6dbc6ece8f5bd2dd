"""From a reference, through rounds of faults, to the checks."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults import artifact_checks, file_checks, log_checks
from tests.faults.inputs import LARGE, SMALL, Scale, model_of
from tests.faults.orders import KINDS
from tests.faults.reference import load, make_reference
from tests.faults.rounds import Rounds
from tests.faults.site import Site
from tests.faults.tally import Tally

PHASES = (
    {"RESUME_JOBS": "false", "WORKERS": "2"},
    {"RESUME_JOBS": "true", "WORKERS": "2"},
    {"RESUME_JOBS": "false", "WORKERS": "1"},
)
TIDYING_SECONDS = 20.0


@dataclass(frozen=True)
class Plan:
    """How much is to be done, and on what."""

    kills: int
    seed: int
    model: str
    minutes: float
    brief: bool = False
    """One capture, one training and one index instead of all kinds of them, and one phase."""


async def run(plan: Plan, directory: Path) -> Tally:
    """Do everything in a directory; returns the counts with what does not hold."""
    tally, start = Tally(), time.monotonic()
    deadline = asyncio.get_running_loop().time() + 60 * plan.minutes
    model = await asyncio.to_thread(model_of, plan.model, directory / "model")
    scale = LARGE if model.suffix == ".gguf" else SMALL
    settings = _settings(model, scale) | ({"WARM_UP": "false"} if plan.brief else {})
    reference = await make_reference(Site(directory / "reference", settings), model, scale, brief=plan.brief)
    site = Site(directory / "faults", dict(settings))
    await site.start(**PHASES[0])
    language_model_id = await load(site, model)
    dice = random.Random(plan.seed)
    rounds = Rounds(site, reference, language_model_id, tally, dice)
    if plan.brief:
        rounds.most_strikes = dict.fromkeys(KINDS, 2)
    try:
        await _rounds(rounds, plan, deadline)
        await _check(rounds)
    except TimeoutError:
        stuck = [f"{s.job_id} is {s.follower.status}" for s in rounds.subjects if not s.over]
        tally.check("everything went on").that(False, f"it did not: {', '.join(stuck)}")
        await site.stop()
    enough = tally.kills.total() >= plan.kills
    tally.check("kills").that(enough, f"only {tally.kills.total()} of {plan.kills} in {plan.minutes} minutes")
    tally.seconds = time.monotonic() - start
    return tally


async def _rounds(rounds: Rounds, plan: Plan, deadline: float) -> None:
    phases = PHASES[:1] if plan.brief else PHASES
    for number, phase in enumerate(phases, 1):
        if number > 1:
            await rounds.stop_and_start(**phase)
        await rounds.go_on(plan.kills * number // len(phases), deadline)


async def _check(rounds: Rounds) -> None:
    site, tally = rounds.site, rounds.tally
    await rounds.stop_and_start(RESUME_JOBS="false")
    await log_checks.check_readers(site, rounds.subjects, tally)
    await _wait_for_tidiness(rounds)
    await site.stop()
    file_checks.check_files(site.directory, rounds.deleted, tally)
    log_checks.check_logs(site.directory, tally)
    log_checks.check_server_log(site.directory, tally)
    for check in (artifact_checks.check_runs, artifact_checks.check_saes, artifact_checks.check_indexes):
        check(site.directory, rounds.reference, rounds.subjects, tally)
    later = sum(subject.follower.attempt - 1 for subject in rounds.subjects)
    by_itself = later - tally.others["jobs retried by a client"]
    tally.others["jobs taken up again by the server"] = by_itself
    survivors = tally.check("workers ended with their server")
    survivors.that(not site.survivors, "; ".join(site.survivors))


async def _wait_for_tidiness(rounds: Rounds) -> None:
    """Give the server's start the time that it takes to tidy up, if it does."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIDYING_SECONDS
    while loop.time() < deadline:
        found = Tally()
        file_checks.check_files(rounds.site.directory, rounds.deleted, found)
        if not found.failures:
            return
        await asyncio.sleep(0.5)


def _settings(model: Path, scale: Scale) -> dict[str, str]:
    return {
        "MODEL_DIRS": str(model if model.is_dir() else model.parent),
        "HUB_ENABLED": "false",
        "LOG_FORMAT": "json",
        "WARM_UP": "true",
        # The same number of threads everywhere: sums depend on it.
        "WORKER_THREADS": "1",
        "SNAPSHOT_INTERVAL_SECONDS": "0.3",
        "PROGRESS_INTERVAL_SECONDS": "0.1",
        "SHUFFLE_BUFFER_BYTES": str(scale.shuffle_buffer_bytes),
    }
