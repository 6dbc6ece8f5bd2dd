"""A server that is asked to stop takes leave, saves what it has, and finds it again."""

import asyncio
import json
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.client import Api, api, load_model
from tests.e2e.test_cancel import STATUS, built_in, launch, training
from tests.support.server_process import RunningServer, server_process

STOP_SECONDS = 5.0
"""The longest that a busy server may take beyond an idle one."""
PROGRESS = "subscription($id: ID!) { jobProgress(id: $id) { sequence } }"
ENDED = """query($id: ID!) { job(id: $id) { status error attempt
  result { ... on Sae { status } ... on ActivationRun { status } } } }"""


async def subscribe(url: str, job: str) -> ClientConnection:
    """Follow a job over a socket of our own; returns it after the first event."""
    socket = await connect(f"{url.replace('http', 'ws')}/graphql", subprotocols=["graphql-transport-ws"])  # type: ignore[list-item]
    await socket.send(json.dumps({"type": "connection_init"}))
    assert json.loads(await socket.recv())["type"] == "connection_ack"
    payload = {"query": PROGRESS, "variables": {"id": job}}
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
    assert json.loads(await socket.recv())["type"] == "next"
    return socket


async def how_it_closed(socket: ClientConnection) -> tuple[int, str]:
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code or 0, socket.close_reason or ""


async def stop(server: RunningServer, sign: signal.Signals) -> float:
    """Ask a server to stop; returns the seconds that it took."""
    began = time.monotonic()
    server.process.send_signal(sign)
    assert await asyncio.to_thread(server.process.wait, 30) == 0
    return time.monotonic() - began


async def running_training(client: Api, model: Path) -> str:
    """Launch a training that would take minutes; returns its job once it has made steps."""
    language_model = await load_model(client, str(model), "tiny")
    run, _ = await client.run_job("captureActivations", **built_in(language_model, 300))
    job = await launch(client, "trainSae", training(run, 1000))
    async for data in client.listen(STATUS, id=job, after=0):
        if data["jobProgress"]["__typename"] == "JobProgressed":
            break
    return job


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopped_server_ends_cleanly_and_its_training_goes_on_after_the_next_start(
    tiny_model_dir: Path, tmp_path: Path, sign: signal.Signals
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir)}
    with server_process(tmp_path / "idle") as idle:
        usual = await stop(idle, sign)
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            job = await running_training(client, tiny_model_dir)
        sockets = [await subscribe(server.url, job) for _ in range(3)]
        deaf = await subscribe(server.url, job)
        deaf.transport.pause_reading()  # One that does not read must not make the others wait.
        seconds = await stop(server, sign)
        print(f"{sign.name}: ended after {seconds:.2f} s")
        assert [await how_it_closed(socket) for socket in sockets] == [
            (1012, "The server is stopping; connect again when it is back.")
        ] * 3
        deaf.transport.resume_reading()
        assert (await how_it_closed(deaf))[0] in (1006, 1012)
    assert seconds < STOP_SECONDS + usual
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            found = (await client.ask(ENDED, id=job))["job"]
            assert found == {
                "status": "INTERRUPTED",
                "error": "The server was stopped while the job ran; retry it with retryJob.",
                "attempt": 1,
                "result": {"status": "PARTIAL"},
            }
            await client.do("retryJob", "... on JobLaunched { job { attempt } }", id=("ID!", job))
            assert "Going on after step" in await first_sentence(client, job, "Going on")


async def first_sentence(client: Api, job: str, beginning: str) -> str:
    async for data in client.listen(STATUS, id=job, after=0):
        message: str = data["jobProgress"].get("message", "")
        if message.startswith(beginning):
            return message
    return "The job has ended without it."


async def test_a_server_set_to_resume_goes_on_by_itself_after_it_was_killed(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "RESUME_JOBS": "true", "SNAPSHOT_INTERVAL_SECONDS": "0.1"}
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            job = await running_training(client, tiny_model_dir)
            snapshot = tmp_path / "sae"
            while not any(snapshot.rglob("snapshot.pt")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        server.process.kill()
        await asyncio.to_thread(server.process.wait)
    with server_process(tmp_path, **settings) as server:
        async with api(server.url) as client:
            assert "Going on after step" in await first_sentence(client, job, "Going on")
            assert (await client.ask(ENDED, id=job))["job"]["attempt"] == 2
