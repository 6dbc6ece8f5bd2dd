"""Neuron indexes: what a pass over an activation run found out about an SAE's neurons."""

from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated

import strawberry

from gql_server.api import activation_runs, jobs
from gql_server.api.common import (
    BigInt,
    argument,
    field,
    from_row,
    input_type,
    mutation,
    object_type,
    request_of,
)
from gql_server.api.context import Info
from gql_server.api.enums import ArtifactStatus
from gql_server.api.exclusions import EXCLUDE_FIRST_POSITIONS, EXCLUDE_OUTLIERS
from gql_server.api.histograms import Histogram, histogram
from gql_server.api.launches import LaunchResult, job_launched
from gql_server.api.provenance import NeuronIndexProvenance, index_provenance
from gql_server.api.references import ActivationRunRef, JobRef
from gql_server.services import neuron_indexes as neuron_index_service
from gql_server.services.requests import IndexRequest
from models import NeuronIndex as NeuronIndexRow


@object_type
class NeuronIndex:
    """What a pass over an activation run found out about the neurons. Null until there."""

    row: strawberry.Private[NeuronIndexRow]
    status: ArtifactStatus = strawberry.field(description="Whether the neurons can be told about.")
    token_count: BigInt | None = strawberry.field(description="Tokens that it passed over.")
    sample_count: int | None = strawberry.field(description="Texts that it passed over.")
    top_texts_per_neuron: int = strawberry.field(description="How many top texts it keeps.")
    dead_count: int | None = strawberry.field(description="Neurons that never fired.")
    top_texts_path: str | None = strawberry.field(
        description="The top-texts JSON file, relative to the artifact directory."
    )
    provenance: NeuronIndexProvenance | None = strawberry.field(
        description="What it takes to make the same again; null where an earlier version made it."
    )
    built_at: datetime | None = strawberry.field(description="When it got READY.")

    @field
    def top_texts_url(self, info: Info) -> str | None:
        """Where this server hands it out, under the same access rules as the API."""
        return top_texts_url(info, self.row.sae_id, self.row.top_texts_path)

    @field
    async def frequency_histogram(self, info: Info) -> Histogram | None:
        """log10 of activation frequency over the neurons that fired."""
        found = await info.context.loaders.frequency_histograms.load(self.row.id)
        return histogram(found["edges"], found["counts"]) if found else None

    @field
    async def activation_run(self, info: Info) -> ActivationRunRef | None:
        """The run that it passed over."""
        return await activation_runs.activation_run_of(info, self.row.activation_run_id)

    @field
    async def job(self, info: Info) -> JobRef | None:
        """The job that makes it."""
        return await jobs.job_of(info, self.row.job_id)


def neuron_index(row: NeuronIndexRow) -> NeuronIndex:
    """Return a row as it is shown."""
    return from_row(
        NeuronIndex,
        row,
        row=row,
        provenance=index_provenance(row.provenance),
    )


def top_texts_url(info: Info, sae_id: str, path: str | None) -> str | None:
    """Return where this server hands out a top-texts file."""
    root_path = info.context.server.settings.root_path
    return f"{root_path}/top-texts/{sae_id}/{PurePosixPath(path).name}" if path else None


# ------------------------------------------------------------------------------- mutations


@input_type
class IndexNeuronsInput:
    """Neurons to index."""

    sae_id: strawberry.ID = strawberry.field(description="The SAE that they belong to.")
    activation_run_id: strawberry.ID | None = strawberry.field(
        description="The run that it was trained on if left out."
    )
    top_texts_per_neuron: int = strawberry.field(
        default=10, description="How many top texts to keep, 1 to 100."
    )
    exclude_first_positions: int | None = strawberry.field(description=EXCLUDE_FIRST_POSITIONS)
    exclude_outliers: float | None = strawberry.field(description=EXCLUDE_OUTLIERS)
    idempotency_key: str | None = strawberry.field(
        description=(
            "A second request with the same key returns the first one's job; with the key but another"
            " input it is a Conflict."
        )
    )

    def request(self) -> IndexRequest:
        """Return what the service is asked for."""
        return request_of(IndexRequest, self)


@strawberry.type
class NeuronIndexMutations:
    """Mutations of neuron indexes."""

    @mutation
    async def index_neurons(
        self, info: Info, input: Annotated[IndexNeuronsInput, argument("What to index.")]
    ) -> LaunchResult:
        """Queues a job that finds out how often and on which texts an SAE's neurons fire."""
        return job_launched(await neuron_index_service.index(info.context.server, input.request()))
