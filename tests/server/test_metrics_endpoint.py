"""/metrics, as Prometheus reads it, over a server whose worker's side is written down by the test."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gql_server import __version__
from gql_server.errors import QueueFull
from gql_server.services import generation, jobs, language_models, top_neurons
from gql_server.services.app_context import AppContext
from gql_server.services.requests import LoadLanguageModelRequest
from gql_server.telemetry.telemetry import Telemetry
from models.enums import ArtifactStatus, JobKind, JobStatus
from tests.support.fake_executor import FakeExecutor
from tests.support.requests import PROMPT, generate_request
from tests.support.scraping import rendered, scrape
from tests.support.serving import add_language_model, add_run, add_sae, client_of, idle_job, serving
from tests.support.task_scripts import fail_to_load, infer


async def add_job(server: AppContext, status: JobStatus, artifact_id: str = "") -> str:
    job = idle_job(status=status, artifact_id=artifact_id)
    async with server.database.write() as session:
        session.add(job)
    return job.id


async def test_all_names_begin_with_the_servers_or_are_the_processes(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        scraped = await scrape(client)
    assert {name for name in scraped.names if not name.startswith("gql_server_")} <= {
        "process_cpu_seconds",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    }
    (build,) = [sample for sample in scraped.samples if sample.name == "gql_server_build_info"]
    assert build.labels["version"] == __version__


async def test_open_metrics_are_given_to_those_who_ask(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        accept = "application/openmetrics-text; version=1.0.0"
        response = await client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert list(text_string_to_metric_families(response.text))  # type: ignore[no-untyped-call]


async def test_jobs_are_counted_in_the_database_at_each_scrape(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        before = await scrape(client)
        for status in (JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.FAILED, JobStatus.QUEUED):
            await add_job(server, status)
        after = await scrape(client)
    capture = {"kind": "CAPTURE_ACTIVATIONS"}
    assert before.value("gql_server_jobs", **capture, status="RUNNING") == 0
    assert after.value("gql_server_jobs", **capture, status="RUNNING") == 2
    assert after.value("gql_server_jobs", **capture, status="FAILED") == 1
    assert before.value("gql_server_jobs_queued", lane="jobs") == 0
    assert after.value("gql_server_jobs_queued", lane="none") == 1


async def test_without_the_database_the_other_metrics_are_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, client_of(server) as client:
        async with server.database.write() as session:
            await (await session.connection()).exec_driver_sql("ALTER TABLE jobs RENAME TO gone")
        scraped = await scrape(client)
        async with server.database.write() as session:
            await (await session.connection()).exec_driver_sql("ALTER TABLE gone RENAME TO jobs")
    assert not [sample for sample in scraped.samples if sample.name == "gql_server_jobs"]
    assert scraped.value("process_start_time_seconds")


async def test_a_job_that_was_done_is_counted_with_its_seconds(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeExecutor(fail_to_load)) as server, client_of(server) as client:
        language_model = await add_language_model(server)
        launched = await language_models.load(server, LoadLanguageModelRequest(language_model.id))
        async with asyncio.timeout(10):
            async for _ in jobs.watch(server, launched.job.id, 0):
                pass
        run = await add_run(server, language_model, status=ArtifactStatus.PENDING)
        await jobs.cancel(server, await add_job(server, JobStatus.QUEUED, run.id))
        scraped = await scrape(client)
    load = {"kind": "LOAD_LANGUAGE_MODEL", "status": "FAILED"}
    assert scraped.value("gql_server_jobs_ended_total", **load) == 1
    assert scraped.value("gql_server_job_duration_seconds_count", **load) == 1
    never_began = {"kind": "CAPTURE_ACTIVATIONS", "status": "CANCELED"}
    assert scraped.value("gql_server_jobs_ended_total", **never_began) == 1
    assert scraped.value("gql_server_job_duration_seconds_count", **never_began) is None


async def test_inference_is_timed_and_its_tokens_are_counted_but_no_prompt_is_logged(tmp_path: Path) -> None:
    async with serving(tmp_path, FakeExecutor(infer)) as server, client_of(server) as client:
        language_model = await add_language_model(server)
        sae = await add_sae(server, await add_run(server, language_model))
        with capture_logs() as logs:
            await top_neurons.find(server, sae.id, [PROMPT], 5, False)
            await generation.generate(server, generate_request(language_model.id))
        scraped = await scrape(client)
    for kind in ("top_neurons", "generation"):
        assert scraped.value("gql_server_inference_requests_total", kind=kind, outcome="ok") == 1
        assert scraped.value("gql_server_inference_duration_seconds_count", kind=kind) == 1
        assert scraped.value("gql_server_inference_wait_seconds_count", kind=kind) == 1
        assert scraped.value("gql_server_inference_waiting", kind=kind) == 0
    assert scraped.value("gql_server_generated_tokens_total") == 3
    found, generated = logs
    assert found["event"] == "top neurons" and found["sae"] == sae.id and found["prompts"] == 1
    assert generated["event"] == "generation" and generated["tokens"] == 3
    assert generated["milliseconds"] >= generated["waited_milliseconds"] >= 0
    assert PROMPT not in repr(logs)


async def test_requests_that_wait_and_those_that_find_no_room_are_counted(tmp_path: Path) -> None:
    has_come = asyncio.Event()
    executor = FakeExecutor(lambda task, run: has_come.set())
    async with serving(tmp_path, executor, max_interactive_requests=1) as server:
        language_model = await add_language_model(server)
        sae = await add_sae(server, await add_run(server, language_model))
        waiting = asyncio.create_task(top_neurons.find(server, sae.id, [PROMPT], 5, False))
        await asyncio.wait_for(has_come.wait(), 10)
        with pytest.raises(QueueFull):
            await top_neurons.find(server, sae.id, [PROMPT], 5, False)
        scraped = rendered(server.telemetry)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        afterwards = rendered(server.telemetry)
    assert scraped.value("gql_server_inference_waiting", kind="top_neurons") == 1
    assert scraped.value("gql_server_inference_requests_total", kind="top_neurons", outcome="BUSY") == 1
    assert afterwards.value("gql_server_inference_waiting", kind="top_neurons") == 0
    ended = "gql_server_inference_requests_total"
    assert afterwards.value(ended, kind="top_neurons", outcome="canceled") == 1


def test_two_servers_in_a_process_count_each_for_itself() -> None:
    one, other = Telemetry(), Telemetry()
    one.metrics.jobs.ended(JobKind.TRAIN_SAE, JobStatus.SUCCEEDED, 2.0)
    labels = {"kind": "TRAIN_SAE", "status": "SUCCEEDED"}
    assert rendered(one).value("gql_server_jobs_ended_total", **labels) == 1
    assert rendered(other).value("gql_server_jobs_ended_total", **labels) is None
