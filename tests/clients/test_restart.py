"""A server is stopped and started again in the middle of a job; every client follows the job to its end."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.clients.conftest import (
    LAYER,
    TOKEN,
    drive,
    needs_ariadne_codegen,
    needs_node,
    needs_node_modules,
)
from tests.clients.cutting_proxy import cutting_proxy
from tests.e2e.client import api, load_model
from tests.support.server_process import RunningServer, server_process

CLIENTS = [
    "gql_client.py",
    "ariadne_client.py",
    "apollo.mjs",
    "urql.mjs",
    "urql_sse.mjs",
    "compiled/typed.js",
]
MANY_TEXTS = {"builtIn": "PYTHON_REFERENCE"}


async def launch(server: RunningServer, model: Path) -> str:
    """Launch a capture that does not end by itself before the test does; returns the job's ID."""
    async with api(server.url, TOKEN) as client:
        capture = {
            "languageModelId": await load_model(client, str(model), "tiny"),
            "layers": [LAYER],
            "dataset": MANY_TEXTS,
            "batchSize": 1,
        }
        launched = await client.do(
            "captureActivations",
            "... on JobLaunched { job { id } }",
            input=("CaptureActivationsInput!", capture),
        )
        return str(launched["job"]["id"])


async def cancel(server: RunningServer, job: str) -> None:
    async with api(server.url, TOKEN) as client:
        await client.do("cancelJob", "... on JobCancelRequested { job { status } }", id=("ID!", job))


@needs_node
@needs_node_modules
@needs_ariadne_codegen
@pytest.mark.slow
def test_a_job_is_followed_across_a_restart_of_the_server(
    generated_python: Path, generated_typescript: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = {"MODEL_DIRS": str(tiny_model_dir), "TOKEN": TOKEN, "WORKERS": "1", "RESUME_JOBS": "true"}
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor())
        with server_process(tmp_path, **settings) as server:
            proxy = stack.enter_context(cutting_proxy(server.url))
            job = asyncio.run(launch(server, tiny_model_dir))
            follow = partial(drive, task="follow", url=proxy.url, arguments={"job": job, "after": 0})
            following = [threads.submit(follow, generated_python / client) for client in CLIENTS]
            proxy.wait_for_connections(len(CLIENTS))
        with server_process(tmp_path, **settings) as server:
            proxy.lead_to(server.url)
            proxy.wait_for_connections(2 * len(CLIENTS))
            asyncio.run(cancel(server, job))
            logs = [followed.result() for followed in following]

    for log in logs:
        statuses = [event["status"] for event in log if "status" in event]
        assert [event["sequence"] for event in log] == list(range(1, log[-1]["sequence"] + 1))
        assert "INTERRUPTED" in statuses and statuses[-1] == "CANCELED"
