"""A server's parts over a real database in a directory, without workers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from gql_server import ids
from gql_server.database.database import Database
from gql_server.database.migrate import migrate
from gql_server.jobs.downloads import Downloads
from gql_server.jobs.notifier import Notifier
from gql_server.jobs.supervisor import Supervisor
from gql_server.processes.reader_pool import Pool, Readers
from gql_server.server.app import application, bind_server
from gql_server.services import job_kinds
from gql_server.services.app_context import AppContext
from gql_server.settings import Settings
from gql_server.telemetry.telemetry import Telemetry
from gql_server.telemetry.tracing import Tracer
from models import ActivationRun, Job, LanguageModel, Sae
from models.enums import (
    ArtifactStatus,
    DatasetKind,
    FloatType,
    JobKind,
    JobStatus,
    LanguageModelSourceKind,
    ProgressUnit,
    SaeOrigin,
)
from tests.support.fake_executor import FakeExecutor

LAYERS = [
    {"name": "m_layers_0", "kind": "BLOCK", "depth": 0, "module_class": "Block"},
    {"name": "m_layers_1", "kind": "BLOCK", "depth": 1, "module_class": "Block"},
]


class PoolHere(Pool):
    """A pool without processes of its own, whose start would take most of a test's time."""

    async def run(self, function: Callable[..., Any], *args: Any, **_: Any) -> Any:
        return await asyncio.to_thread(function, *args)


class ReadersHere(Readers):
    def __init__(self, settings: Settings) -> None:
        self.files = self.prompts = self.kept = self.bodies = PoolHere(
            "requests", processes=1, max_waiting=1, seconds=1, memory_bytes=1
        )


@asynccontextmanager
async def serving(
    directory: Path, executor: FakeExecutor | None = None, **settings: Any
) -> AsyncIterator[AppContext]:
    """Give a server with a supervisor that takes jobs."""
    chosen = Settings(artifact_dir=directory, progress_interval_seconds=1e-6, **settings)
    migrate(chosen.database_path)
    database = Database(chosen.database_path)
    notifier = Notifier()
    executor = executor or FakeExecutor()
    downloads = Downloads(executor, chosen)
    telemetry = Telemetry(tracer=Tracer(chosen.otlp_endpoint))
    supervisor = Supervisor(
        database, executor, job_kinds.handlers(chosen), notifier, chosen, telemetry, downloads
    )
    supervisor.start()
    try:
        readers = ReadersHere(chosen)
        yield AppContext(chosen, database, executor, supervisor, notifier, readers, downloads, telemetry)
    finally:
        await supervisor.close()
        await database.close()
        telemetry.tracer.close(10)


def endpoint(server: AppContext, **settings: Any) -> Starlette:
    """Return the whole application around a server's parts, with some settings of its own."""
    if settings:
        server = replace(server, settings=server.settings.model_copy(update=settings))
    app = application(server.settings, server.telemetry)
    bind_server(app, server)
    return app


@asynccontextmanager
async def client_of(server: AppContext, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the whole application."""
    transport = httpx.ASGITransport(endpoint(server, **settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def add_language_model(server: AppContext, name: str = "tiny", **columns: Any) -> LanguageModel:
    """Insert a language model that has been loaded once."""
    row = LanguageModel(
        **{
            "id": ids.new(ids.LANGUAGE_MODEL),
            "name": name,
            "source_kind": LanguageModelSourceKind.DIRECTORY,
            "source": "/nowhere",
            "dtype": FloatType.FLOAT32,
            "hidden_size": 8,
            "layers": LAYERS,
            "context_length": 64,
        }
        | columns
    )
    async with server.database.write() as session:
        session.add(row)
    return row


async def add_run(server: AppContext, language_model: LanguageModel, **columns: Any) -> ActivationRun:
    """Insert a READY run over one layer."""
    row = ActivationRun(
        **{
            "id": ids.new(ids.ACTIVATION_RUN),
            "name": "run",
            "status": ArtifactStatus.READY,
            "language_model_id": language_model.id,
            "dataset_kind": DatasetKind.INLINE,
            "dataset_description": "3 texts",
            "layers": [{"name": "m_layers_1", "hidden_size": 8}],
            "batch_size": 2,
            "max_length": 16,
            "dtype": FloatType.FLOAT32,
            "token_count": 500,
        }
        | columns
    )
    async with server.database.write() as session:
        session.add(row)
    return row


async def add_sae(server: AppContext, run: ActivationRun, **columns: Any) -> Sae:
    """Insert a READY SAE of 32 neurons."""
    id = ids.new(ids.SAE)
    row = Sae(
        **{
            "id": id,
            "name": "sae",
            "status": ArtifactStatus.READY,
            "origin": SaeOrigin.TRAINED,
            "sae_class": "TopKSae",
            "language_model_id": run.language_model_id,
            "layer": "m_layers_1",
            "input_size": 8,
            "latent_count": 32,
            "k": 4,
            "activation_run_id": run.id,
            "directory": f"sae/{run.language_model_id}/{id}",
        }
        | columns
    )
    async with server.database.write() as session:
        session.add(row)
    return row


def idle_job(**columns: Any) -> Job:
    """Return a RUNNING job that no lane takes, in no session yet."""
    return Job(
        **{
            "id": ids.new(ids.JOB),
            "kind": JobKind.CAPTURE_ACTIVATIONS,
            "status": JobStatus.RUNNING,
            "lane": "none",
            "artifact_id": "",
            "result_id": "",
            "request": {},
            "request_hash": "",
            "unit": ProgressUnit.TEXTS,
            "last_sequence": 0,
        }
        | columns
    )
