"""The explorer's pages stay true while the server goes away, comes back, fails and is full."""

import asyncio
import csv
import io
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gql_server.api.transport import explorer
from tests.browser.browsing import NEEDS_BROWSER, drive, driving
from tests.browser.trainings import capture, launch, sae_of, training
from tests.e2e.client import Api, api, load_model
from tests.support.curves import CurveClient
from tests.support.server_process import server_process

pytestmark = [
    *NEEDS_BROWSER,
    pytest.mark.skipif(not explorer.is_built(), reason="needs the explorer's bundle: make explorer"),
]

EPOCHS = 40
"""More than are waited for; a two-hundredth of the steps is a point."""
HISTORY = """query($id: ID!) { sae(id: $id) {
  trainingHistory(maxPoints: 10000) { step tokenCount loss explainedVariance } } }"""
STATUS = "subscription($id: ID!) { jobProgress(id: $id) { job { status } } }"


async def history(client: Api, sae: str) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = (await client.ask(HISTORY, id=sae))["sae"]["trainingHistory"]
    return points


class Returning:
    """A server that goes away, and comes back with its files and at its port."""

    def __init__(self, running: ExitStack, artifact_dir: Path, **settings: str) -> None:
        self._running = running
        self._settings = settings
        self._server = running.enter_context(server_process(artifact_dir, **settings))
        self.url = self._server.url
        self.artifact_dir = artifact_dir

    async def end(self, sign: signal.Signals) -> None:
        """Send a signal, and wait for the end."""
        self._server.process.send_signal(sign)
        await asyncio.to_thread(self._server.process.wait, 30)

    def start(self) -> None:
        """Come back."""
        again = server_process(self.artifact_dir, port=self._server.port, **self._settings)
        self._server = self._running.enter_context(again)


@pytest.fixture(scope="module")
def server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Returning]:
    """Run a server in whose queue one job fits; to be left with nothing in it."""
    settings = {"MODEL_DIRS": str(tiny_model_dir), "SNAPSHOT_INTERVAL_SECONDS": "1", "WARM_UP": "false"}
    with ExitStack() as running:
        yield Returning(running, tmp_path_factory.mktemp("returning"), MAX_QUEUED_JOBS="1", **settings)


@pytest.fixture(scope="module")
async def language_model(server: Returning, tiny_model_dir: Path) -> str:
    """Load the tiny model, and return its ID."""
    async with api(server.url) as client:
        return await load_model(client, str(tiny_model_dir), "tiny")


@pytest.fixture(scope="module")
async def run(server: Returning, language_model: str) -> str:
    """Capture activations to train on, and return the run's ID."""
    async with api(server.url) as client:
        return (await client.run_job("captureActivations", **capture(language_model, 300)))[0]


async def running_now(client: Api, job: str) -> None:
    """Wait until a job has left the queue."""
    async for data in client.listen(STATUS, id=job):
        if data["jobProgress"]["job"]["status"] != "QUEUED":
            return


def curve_of(saved: str) -> list[dict[str, Any]]:
    """Return the points of a saved curve as the API has them."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    return [
        {
            "step": int(row["step"]),
            "tokenCount": int(row["tokens"]),
            "loss": number(row["loss"]),
            "explainedVariance": number(row["explained_variance"]),
        }
        for row in csv.DictReader(io.StringIO(saved))
    ]


def subscriptions(frames: list[dict[str, Any]], field: str) -> dict[str, tuple[dict[str, Any], list[Any]]]:
    """Return each subscription's first variables and what it was sent over all connections, by its ID."""
    found: dict[str, tuple[dict[str, Any], list[Any]]] = {}
    for frame in frames:
        if frame["sent"] and frame["type"] == "subscribe" and field in frame["payload"]["query"]:
            found.setdefault(frame["id"], (frame["payload"]["variables"], []))
        elif not frame["sent"] and frame["type"] == "next" and frame["id"] in found:
            found[frame["id"]][1].append(frame["payload"]["data"][field])
    return found


def assert_nothing_came_twice(frames: list[dict[str, Any]], sae: str) -> None:
    """Hold what a tab was sent against what it had: by sequence for events, by step for points."""
    curves = subscriptions(frames, "trainingPoints")
    assert curves
    for variables, events in curves.values():
        (cursor,) = variables["saes"]
        client = CurveClient(sae, points={cursor["afterStep"]: {}}, sequence=cursor["afterSequence"])
        for event in events:
            client.take(event)
    feeds = subscriptions(frames, "jobProgress")
    assert feeds
    for variables, events in feeds.values():
        sequences = [variables["after"], *(event["sequence"] for event in events)]
        assert sequences == sorted(set(sequences))


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
async def test_two_tabs_have_the_whole_curve_and_nothing_twice_after_the_server_went_away_in_mid_training(
    sign: signal.Signals, server: Returning, run: str
) -> None:
    async with api(server.url) as client:
        job = await launch(client, "trainSae", training(run, latentCount=1024, epochs=EPOCHS))
        sae = await sae_of(client, job)
    async with driving("follow_training", server.url, job=job, path="/jobs") as browser:
        await browser.reached("following")
        await server.end(sign)
        await browser.reached("away")
        server.start()
        await browser.reached("canceled")
        async with api(server.url) as client:
            expected = await history(client, sae)
        await browser.hand(lastStep=expected[-1]["step"])
        await browser.ended()

    found = browser.found
    assert len(expected) > 15
    assert [curve_of(saved) for saved in found["curves"]] == [expected, expected]
    for frames in found["frames"]:
        assert_nothing_came_twice(frames, sae)
    for lines in found["logs"]:
        assert lines == sorted(set(lines)) and lines
    assert found["logs"][0] == found["logs"][1]


def cut_short(store: Path) -> None:
    """Take the end off each file of activations."""
    for path in store.rglob("activations.safetensors"):
        path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.slow
async def test_a_failed_job_shows_its_error_and_log_and_a_full_queue_says_when_to_try_again(
    server: Returning, language_model: str, run: str
) -> None:
    async with api(server.url) as client:
        torn, _ = await client.run_job("captureActivations", **capture(language_model, 50))
        cut_short(server.artifact_dir / "store" / "runs" / torn)
        failed = await launch(client, "trainSae", training(torn))
        *_, last = await client.follow(failed)
        running = await launch(client, "trainSae", training(run, epochs=1000, latentCount=1024))
        await running_now(client, running)
        waiting = await launch(client, "trainSae", training(run))
        found = await drive("retry_job", server.url, path=f"/jobs/{failed}")
        log = (await client.ask("query($id: ID!) { job(id: $id) { log { message } } }", id=failed))["job"]
        full = await client.do(
            "retryJob", "... on QueueFull { retryAfterSeconds message }", id=("ID!", failed)
        )
        for job in (waiting, running):
            await client.do("cancelJob", "... on JobCancelRequested { job { id } }", id=("ID!", job))
        await client.follow(running)

    assert last["status"] == "FAILED" and last["error"]
    assert last["error"] in found["shown"]
    assert found["lines"] == [line["message"] for line in log["log"]]
    assert full["message"] in found["refused"]
    assert "The server is busy" in found["refused"]
    assert "Try again in" in found["refused"]
