"""Curves of a training that is stopped, killed and retried: whole for everybody, each point once, always."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.e2e.client import Api, api, load_model
from tests.e2e.test_cancel import STATUS, built_in, launch, training
from tests.support.curves import POINTS, CurveClient
from tests.support.server_process import RunningServer, server_process

SETTINGS = {"SNAPSHOT_INTERVAL_SECONDS": "1", "WORKERS": "1", "WARM_UP": "false"}
EPOCHS = 12
HISTORY = """query($id: ID!) { sae(id: $id) { status
  trainingHistory(maxPoints: 10000) { step tokenCount loss explainedVariance tokensPerSecond } } }"""
SAE_OF = "query($id: ID!) { job(id: $id) { status result { ... on Sae { id } } } }"
PATIENCE_SECONDS = 120


class Follower:
    """A client that follows a curve over whatever server runs, and connects again with its cursor."""

    def __init__(self, sae_id: str) -> None:
        self.curve = CurveClient(sae_id)
        self.connections = 0

    @asynccontextmanager
    async def following(self, client: Api) -> AsyncIterator[None]:
        """Follow while the block runs; a connection that breaks is no error."""
        task = asyncio.create_task(self._follow(client))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self, client: Api) -> None:
        self.connections += 1
        try:
            async for data in client.listen(POINTS, saes=[self.curve.cursor]):
                self.curve.take(data["trainingPoints"])
        except AssertionError:
            raise
        except Exception as error:
            print(f"connection {self.connections} ended: {error!r}")


async def history(client: Api, sae: str) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = (await client.ask(HISTORY, id=sae))["sae"]["trainingHistory"]
    return points


async def agree(client: Api, *followers: Follower) -> int:
    """Wait until clients have exactly the server's history; returns the number of its points."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            expected = await history(client, followers[0].curve.sae_id)
            if all(list(one.curve.points.values()) == expected for one in followers):
                return len(expected)
            await asyncio.sleep(0.05)


async def never_empty(client: Api, sae: str, ending: asyncio.Event) -> int:
    """Ask for the history over and over until told to end: its least number of points."""
    fewest = len(await history(client, sae))
    while not ending.is_set():
        fewest = min(fewest, len(await history(client, sae)))
        await asyncio.sleep(0.2)
    return fewest


async def points_beyond(follower: Follower, count: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(follower.curve.points) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def end(server: RunningServer, sign: signal.Signals) -> None:
    server.process.send_signal(sign)
    await asyncio.to_thread(server.process.wait, 30)


async def retry(client: Api, job: str, sae: str) -> None:
    """Retry a job, and check that its history is there until its worker goes on."""
    ending = asyncio.Event()
    watching = asyncio.create_task(never_empty(client, sae, ending))
    last = (await client.ask("query($id: ID!) { job(id: $id) { lastSequence } }", id=job))["job"]
    await client.do("retryJob", "... on JobLaunched { job { attempt } }", id=("ID!", job))
    async for data in client.listen(STATUS, id=job, after=last["lastSequence"]):
        if data["jobProgress"]["__typename"] == "TrainingResumed":
            break
    ending.set()
    assert await watching > 0


async def test_a_curve_is_whole_through_a_stop_a_kill_and_two_retries_for_who_watches_and_who_comes_later(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), **SETTINGS}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            language_model = await load_model(client, str(tiny_model_dir), "tiny")
            run, _ = await client.run_job("captureActivations", **built_in(language_model, 300))
            job = await launch(client, "trainSae", training(run, EPOCHS))
            sae = (await client.ask(SAE_OF, id=job))["job"]["result"]["id"]
            throughout = Follower(sae)
            async with throughout.following(client):
                await points_beyond(throughout, 5)
                await end(server, signal.SIGTERM)
    for sign in (signal.SIGKILL, None):
        with server_process(tmp_path, **settings) as server:
            async with api(server.url) as client, api(server.url) as other:
                late = Follower(sae)
                async with throughout.following(client), late.following(other):
                    # The interrupted training's curve is there, for both, and stays while it is retried.
                    n_points = await agree(client, throughout, late)
                    assert n_points >= 5
                    await retry(client, job, sae)
                    await points_beyond(throughout, n_points + 5)
                    if sign is not None:
                        await end(server, sign)
                        continue
                    assert (await client.follow(job))[-1]["status"] == "SUCCEEDED"
                    n_points = await agree(client, throughout, late)
                after = Follower(sae)
                async with after.following(client):
                    assert await agree(client, after) == n_points
    steps = throughout.curve.steps
    assert steps == sorted(set(steps)) and len(steps) > 100
    assert throughout.connections == 3
    assert late.curve.points == after.curve.points == throughout.curve.points
    print(f"{len(steps)} points; taken back above {throughout.curve.truncations}")
