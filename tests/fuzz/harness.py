"""From a server with something in it, through the operations, to a look at what they left."""

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save_file

from tests.fuzz.cases import Case, Way, cases
from tests.fuzz.checks import log_problems, problems, warnings_in
from tests.fuzz.making import Maker, NotMadeError
from tests.fuzz.sending import Answer, Sender
from tests.fuzz.tally import Tally
from tests.fuzz.world import World
from tests.support.server_process import RunningServer, server_process
from tests.support.tiny_model import make_tiny_model

SETTINGS = {
    "HUB_ENABLED": "false",
    "LOG_FORMAT": "json",
    "WORKER_THREADS": "1",
    "PROGRESS_INTERVAL_SECONDS": "0.05",
    "MAX_QUEUED_JOBS": "12",
    "MAX_TEXTS": "5000",
    "MAX_TEXT_CHARACTERS": "20000",
    "MAX_PROMPTS": "8",
    "MAX_BATCH_SIZE": "64",
    "MAX_LENGTH": "128",
    "MAX_EPOCHS": "3",
    "MAX_TRAINING_BATCH_SIZE": "4096",
    "MAX_LATENTS": "4096",
    "MAX_NEW_TOKENS": "32",
    "MAX_UPLOAD_BYTES": "2000000",
    "MAX_BODY_BYTES": "2000000",
    "MAX_ARTIFACT_BYTES": "2000000000",
}
"""Whatever may be asked for is done in a moment."""
LANES = ("jobs", "interactive")
PROMPT_SECONDS = 2.0
"""In which a server that is well answers what costs nothing."""


@dataclass(frozen=True)
class Plan:
    """How much is to be sent."""

    operations: int
    seed: int
    clients: int = 4
    """Operations that are under way at once."""
    refresh_every: int = 60
    """Operations after which the server's things are looked at, and those made that are missing."""
    only: Collection[int] = ()
    """The numbers of the operations to send; all, where none are given."""


async def run(plan: Plan, directory: Path, tell: Callable[[str], None] = lambda _: None) -> Tally:
    """Do everything in a directory; returns the counts with what was found. ``tell`` hears how it goes."""
    tally, began = Tally(), time.monotonic()
    models = _models(directory / "models")
    _saes_of_others(directory / "models")
    files = _dataset_files(directory / "datasets")
    settings = SETTINGS | {
        "MODEL_DIRS": str(directory / "models"),
        "DATASET_DIRS": str(directory / "datasets"),
    }
    with server_process(directory / "artifacts", **settings) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            maker = Maker(http, models[0])
            world = World(maker, files, models)
            run = _Run(plan, world, Sender(server.url, http), server, tally)
            try:
                await world.refresh()
                made, workers = maker.made, _workers(server)
                await run.send_all(tell)
                tally.notes["things made anew"] = maker.made - made
            except NotMadeError as error:
                tally.find(f"the server would not make what is needed: {error}")
            else:
                await _check_end(server, http, workers, tally)
    _check_log(server.artifact_dir / "server.log", tally)
    tally.seconds = time.monotonic() - began
    return tally


@dataclass(frozen=True)
class _Run:
    plan: Plan
    world: World
    sender: Sender
    server: RunningServer
    tally: Tally

    async def send_all(self, tell: Callable[[str], None]) -> None:
        plan = self.plan
        count = max([plan.operations, *(number + 1 for number in plan.only)])
        chosen = (case for case in cases(count, plan.seed) if not plan.only or case.number in plan.only)
        while portion := list(itertools.islice(chosen, plan.refresh_every)):
            waiting = iter(portion)
            await asyncio.gather(*(self._send(waiting) for _ in range(plan.clients)))
            if self.server.process.poll() is not None:
                self.tally.find(f"the server has ended with {self.server.process.returncode}")
                return
            tell(f"{self.tally.operations} operations sent, {len(self.tally.findings)} findings …")
            await self.world.refresh()

    async def _send(self, waiting: Iterator[Case]) -> None:
        for case in waiting:
            world = self.world
            sent = replace(case, members=world.put_in(case.members), frames=world.put_in(case.frames))
            answer = await self.sender.send(sent)
            self.tally.note(case, answer)
            for problem in problems(answer, self.server):
                self.tally.find(problem, case, _shown(sent, answer))


def _models(directory: Path) -> list[str]:
    """Make a language model and some that are broken."""
    tiny = make_tiny_model(directory / "tiny")
    config = (tiny / "config.json").read_text()
    configs = {
        "strange": '{"model_type": "unheardOf"}',
        "wrong": config.replace('"num_attention_heads": 4', '"num_attention_heads": "four"'),
        "small": config.replace('"hidden_size": 32', '"hidden_size": 16'),
        "bare": config,
    }
    for name, text in configs.items():
        shutil.copytree(tiny, directory / name)
        (directory / name / "config.json").write_text(text)
    (directory / "bare" / "model.safetensors").write_bytes(b"no tensors")
    (directory / "broken.gguf").write_bytes(b"GGUF and no more")
    return [tiny.name, *configs, "broken.gguf"]


def _saes_of_others(directory: Path) -> None:
    """Make an SAE that can be imported for a layer of the tiny model, and a file that is none."""
    shapes = {"W_enc": (32, 40), "b_enc": (40,), "W_dec": (40, 32), "b_dec": (32,)}
    dice = np.random.default_rng(0)
    tensors = {name: dice.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    cfg = {"architecture": "standard", "d_in": 32, "d_sae": 40, "metadata": {"sae_lens_version": "6.0.0"}}
    (directory / "sae-lens").mkdir()
    (directory / "sae-lens" / "cfg.json").write_text(json.dumps(cfg))
    save_file(tensors, directory / "sae-lens" / "sae_weights.safetensors")
    (directory / "sae.pt").write_bytes(b"PK and no more")


def _dataset_files(directory: Path) -> list[str]:
    directory.mkdir(parents=True)
    (directory / "lines.txt").write_text("one line\nanother line\n\na third\n")
    (directory / "rows.jsonl").write_text('{"text": "a row"}\n{"text": "another"}\n')
    return ["lines.txt", "rows.jsonl"]


def _shown(case: Case, answer: Answer) -> dict[str, Any]:
    """Return what was sent and came, for people."""
    shown: dict[str, Any] = dict(case.members)
    if case.way == Way.FRAMES:
        shown = {"frames": case.frames}
    if case.content is not None:
        shown = {"content": repr(case.content[:300])}
    if case.files:
        shown["files"] = {path: [file.name, repr(file.content[:100])] for path, file in case.files.items()}
    return shown | {"headers": case.headers, "answer": [text[:300] for text in answer.texts[:3]]}


def _workers(server: RunningServer) -> dict[str, int | None]:
    return {lane: server.worker(lane) for lane in LANES}


async def _check_end(
    server: RunningServer, http: httpx.AsyncClient, workers: dict[str, int | None], tally: Tally
) -> None:
    """See that server and workers are those of the beginning, and answer at once."""
    for lane, pid in _workers(server).items():
        if pid is None or pid != workers[lane]:
            tally.find(f"the worker for {lane} is not the one of the beginning")
    for path in ("/healthz", "/graphql?query={server{version devices}}"):
        began = time.perf_counter()
        answer = await http.get(path)
        took = time.perf_counter() - began
        if not answer.is_success or took > PROMPT_SECONDS:
            tally.find(f"{path} came to {answer.status_code} after {took:.1f} s")


def _check_log(log: Path, tally: Tally) -> None:
    for problem in log_problems(log):
        tally.find(problem)
    tally.notes["warnings in the log"] = warnings_in(log)
