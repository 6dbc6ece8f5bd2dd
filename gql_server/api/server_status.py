"""How the server is: workers, memory, queue and disk."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime

import strawberry

from gql_server.api import jobs, language_models
from gql_server.api.common import BigInt, describe_enum, field, from_row, object_type, subscription
from gql_server.api.context import Info
from gql_server.api.references import JobRef, LanguageModelRef
from gql_server.artifacts.usage import ArtifactKind
from gql_server.services import server_status as status_service

describe_enum(
    ArtifactKind,
    "What takes room on the disk.",
    {
        "ACTIVATIONS": "Tensors of activation runs.",
        "CHECKPOINTS": "Weights of SAEs, snapshots of trainings, histories, names and configs.",
        "INDEXES": "Neuron indexes and their top texts.",
        "DATASETS": "Texts of runs and evaluations.",
        "EXPORTS": "SAEs in the formats of other libraries.",
        "LANGUAGE_MODELS": "Tokenizers, and the server's own copies of GGUF models.",
        "DATABASE": "The database, and the copies that migrations have made of it.",
        "OTHER": "What belongs to nothing, such as files that a server has found at its start.",
    },
)


@object_type
class ArtifactUsage:
    """How much of the disk a kind of file takes."""

    kind: ArtifactKind = strawberry.field(description="What the files are.")
    byte_size: BigInt = strawberry.field(description="Bytes of all of them.")


@object_type
class WorkerStatus:
    """A process that computes."""

    job_ids: strawberry.Private[tuple[str, ...]]
    language_model_ids: strawberry.Private[tuple[str, ...]]
    lanes: list[str] = strawberry.field(
        description="What it is for: jobs, interactive, or both with GQL_SERVER_WORKERS=1."
    )
    is_running: bool = strawberry.field(description="Whether the process runs; it is started when needed.")
    gpu: str | None = strawberry.field(
        description="The GPU that GQL_SERVER_JOB_WORKER_GPUS gives it; null where it sees all there are."
    )
    device: str | None = strawberry.field(
        description="Where it computes if not told, such as cuda:0; null until it has started."
    )
    interactive_requests: int = strawberry.field(
        description="Top-neuron queries and generations that it is working on."
    )
    memory_bytes: BigInt | None = strawberry.field(
        description="Memory that the process has; null while it does not run, and where that is not told."
    )
    accelerator_memory_bytes: BigInt | None = strawberry.field(
        description="Memory of accelerators that it holds; null without one."
    )

    @field
    async def busy_with(self, info: Info) -> list[JobRef]:
        """The jobs that it has: one for each of its lanes at most."""
        rows = await info.context.loaders.jobs.load_many(list(self.job_ids))
        return [jobs.job(row) for row in rows if row is not None]

    @field
    async def language_models(self, info: Info) -> list[LanguageModelRef]:
        """The language models that it holds in memory."""
        rows = await info.context.loaders.language_models.load_many(list(self.language_model_ids))
        return [language_models.language_model(row) for row in rows if row is not None]


@object_type
class ServerStatus:
    """A server as it is."""

    at: datetime = strawberry.field(description="When it was so.")
    started_at: datetime = strawberry.field(description="When the server started.")
    memory_bytes: BigInt | None = strawberry.field(
        description="Memory of the process that answers; null where that is not told."
    )
    workers: list[WorkerStatus] = strawberry.field(description="Its workers, whether they run or not.")
    queued_jobs: int = strawberry.field(description="Jobs that wait, in all lanes.")
    waiting_interactive_requests: int = strawberry.field(
        description="Top-neuron queries and generations that wait for a worker, or are being prepared."
    )
    artifact_bytes: BigInt | None = strawberry.field(
        description=(
            "Bytes of the artifact directory, as of artifactsMeasuredAt; null until it has been gone over."
        )
    )
    artifact_bytes_by_kind: list[ArtifactUsage] = strawberry.field(
        description="The same by kind; empty until it has been gone over."
    )
    artifacts_measured_at: datetime | None = strawberry.field(
        description="The directory is gone over every 30 seconds, less often where that takes long."
    )
    artifact_byte_limit: BigInt | None = strawberry.field(
        description="GQL_SERVER_MAX_ARTIFACT_BYTES; null where only the disk limits it."
    )
    free_bytes: BigInt = strawberry.field(description="Bytes that are free on the disk.")


def server_status(status: status_service.ServerStatus) -> ServerStatus:
    """Return a state as it is shown."""
    usage = status.artifact_bytes
    return from_row(
        ServerStatus,
        status,
        workers=[from_row(WorkerStatus, worker) for worker in status.workers],
        artifact_bytes=None if usage is None else BigInt(sum(usage.values())),
        artifact_bytes_by_kind=[
            ArtifactUsage(kind=kind, byte_size=BigInt(n_bytes)) for kind, n_bytes in (usage or {}).items()
        ],
    )


@strawberry.type
class ServerSubscriptions:
    """Subscriptions to the server itself."""

    @subscription
    async def server_status(self, info: Info) -> AsyncGenerator[ServerStatus, None]:
        """How the server is, now and once a second. Never completes."""
        context = info.context
        while True:
            status = await context.server.monitor.status(context.server)
            context.renew_loaders()
            context.snapshot_key = ("status", status.at, context.server.database.commits)
            yield server_status(status)
            await asyncio.sleep(status_service.INTERVAL_SECONDS)
