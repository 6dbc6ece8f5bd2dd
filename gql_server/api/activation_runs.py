"""Activation runs, and the mutations that capture and delete them."""

from datetime import datetime
from typing import Annotated

import strawberry

from gql_server.api import jobs, language_models, saes
from gql_server.api.common import (
    BigInt,
    Deleted,
    DeleteResult,
    Node,
    argument,
    field,
    from_row,
    input_type,
    mutation,
    object_type,
    request_of,
)
from gql_server.api.context import Info
from gql_server.api.datasets import Dataset, DatasetInput, dataset_request
from gql_server.api.enums import ArtifactStatus, FloatType, LongTexts
from gql_server.api.launches import LaunchResult, job_launched
from gql_server.api.pagination import After, Connection, First, children_connection, listing, unset_to_none
from gql_server.api.provenance import ActivationRunProvenance, run_provenance
from gql_server.api.references import JobRef, LanguageModelRef, SaeRef
from gql_server.services import activation_runs as activation_run_service, pages
from gql_server.services.requests import CaptureRequest
from models import ActivationRun as ActivationRunRow

# --------------------------------------------------------------------------------- types


@object_type
class CapturedLayer:
    """A layer whose activations are in a run."""

    name: str = strawberry.field(description="Its name, as Layer.name.")
    hidden_size: int | None = strawberry.field(
        description="Width of its activations; null until something has been captured."
    )


@object_type
class ActivationRun(Node):
    """The activations of some layers of one language model over one dataset."""

    row: strawberry.Private[ActivationRunRow]
    name: str = strawberry.field(description="A name for people.")
    status: ArtifactStatus = strawberry.field(description="Whether it can be used.")
    dataset: Dataset = strawberry.field(description="The texts that were run through the model.")
    sample_offset: int = strawberry.field(
        description="Texts of the dataset that were left out at its start, as CaptureActivationsInput has it."
    )
    sample_limit: int | None = strawberry.field(
        description="How many texts were asked for from there on, at most; null for all."
    )
    layers: list[CapturedLayer] = strawberry.field(description="The captured layers, by depth.")
    batch_size: int = strawberry.field(description="Texts per stored batch.")
    max_length: int = strawberry.field(
        description="Tokens per text, or per piece of one; longTexts says what becomes of longer texts."
    )
    long_texts: LongTexts = strawberry.field(description="What is done with texts of more tokens.")
    truncated_text_count: int | None = strawberry.field(
        description=(
            "Texts that were cut at maxLength, 0 with longTexts: SPLIT; null until known, and where an"
            " earlier version made the run."
        )
    )
    dtype: FloatType = strawberry.field(description="Precision of the stored activations.")
    sample_count: int = strawberry.field(description="Texts whose activations are stored.")
    piece_count: int | None = strawberry.field(
        description=(
            "Pieces of texts that are stored, a text that was not split being one; null until known, and"
            " where an earlier version made the run."
        )
    )
    batch_count: int = strawberry.field(description="Batches that are stored.")
    token_count: BigInt = strawberry.field(description="Tokens that count: no padding, no special tokens.")
    byte_size: BigInt = strawberry.field(description="Bytes on disk.")
    manifest_path: str | None = strawberry.field(
        description="The manifest, relative to the artifact directory."
    )
    provenance: ActivationRunProvenance | None = strawberry.field(
        description=(
            "What it takes to capture the same again; null until there, and where an earlier version made it."
        )
    )
    created_at: datetime = strawberry.field(description="When it was asked for.")
    completed_at: datetime | None = strawberry.field(description="When it got READY.")

    @field
    async def language_model(self, info: Info) -> LanguageModelRef:
        """The model that the activations belong to."""
        return await language_models.language_model_of(info, self.row.language_model_id)

    @field
    async def language_model_matches(self, info: Info) -> bool | None:
        """Whether the language model's files are those that it was made with, or accepted in their place.
        Null where that is not known: the files have gone, or were not hashed since they changed.
        """
        return await language_models.matches(info, self.row.language_model_id, self.row)

    @field
    async def jobs(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[JobRef]:
        """The jobs that make it: its capture."""
        return await children_connection(info, pages.JOBS_OF_RESULT, self.id, jobs.job, first, after)

    @field
    async def job(self, info: Info) -> JobRef | None:
        """The job that captures it."""
        return await jobs.job_of(info, self.row.job_id)

    @field
    async def saes(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[SaeRef]:
        """SAEs trained on it."""
        return await children_connection(info, pages.SAES_OF_RUN, self.id, saes.sae, first, after)


def activation_run(row: ActivationRunRow) -> ActivationRun:
    """Return a row as it is shown."""
    dataset = Dataset(
        owner_id=row.id,
        dataset_id=row.dataset_id,
        kind=row.dataset_kind,
        description=row.dataset_description,
        sample_count=row.dataset_sample_count,
        skipped_row_count=row.dataset_skipped_count,
    )
    layers = [CapturedLayer(name=layer["name"], hidden_size=layer["hidden_size"]) for layer in row.layers]
    provenance = run_provenance(row.provenance)
    return from_row(ActivationRun, row, row=row, dataset=dataset, layers=layers, provenance=provenance)


async def activation_run_of(info: Info, id: str | None) -> ActivationRun | None:
    """Return the run that a foreign key names, if any."""
    row = await info.context.loaders.activation_runs.load(id) if id else None
    return activation_run(row) if row else None


# --------------------------------------------------------------------------------- queries


@strawberry.type
class ActivationRunQueries:
    """Queries for activation runs."""

    @field
    async def activation_runs(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        language_model_id: Annotated[
            strawberry.ID | None, argument("Only runs of this language model.")
        ] = strawberry.UNSET,
        status: Annotated[ArtifactStatus | None, argument("Only runs in this state.")] = strawberry.UNSET,
    ) -> Connection[ActivationRun]:
        """Activation runs."""
        conditions = pages.having(
            ActivationRunRow,
            language_model_id=unset_to_none(language_model_id),
            status=unset_to_none(status),
        )
        return await listing(info, ActivationRunRow, conditions, activation_run, first, after)

    @field
    async def activation_run(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of an activation run.")]
    ) -> ActivationRun | None:
        """An activation run; null if there is none with this ID."""
        return await activation_run_of(info, id)


# ------------------------------------------------------------------------------- mutations


@input_type
class CaptureActivationsInput:
    """Activations to capture."""

    language_model_id: strawberry.ID = strawberry.field(description="The model to run.")
    layers: list[str] = strawberry.field(description="Layer names; any order.")
    dataset: DatasetInput = strawberry.field(description="The texts to run through it.")
    name: str | None = strawberry.field(description="A name for people; the server makes one if left out.")
    sample_offset: int = strawberry.field(
        default=0,
        description="Leave out this many texts at the start: how to hold text out for an evaluation.",
    )
    sample_limit: int | None = strawberry.field(description="At most this many texts, however long they are.")
    batch_size: int = strawberry.field(default=16, description="Texts per batch.")
    max_length: int = strawberry.field(
        default=128,
        description="Tokens per text, or per piece of one, those that the tokenizer adds included.",
    )
    long_texts: LongTexts = strawberry.field(
        default=LongTexts.TRUNCATE,
        description="What to do with texts of more tokens than maxLength.",
    )
    dtype: FloatType = strawberry.field(
        default=FloatType.FLOAT32, description="Precision to store the activations in."
    )
    parts: int = strawberry.field(
        default=1,
        description=(
            "Into how many parts the texts are divided, for as many job workers as are free"
            " (GQL_SERVER_JOB_WORKERS); the run is the same, bit by bit."
        ),
    )
    idempotency_key: str | None = strawberry.field(
        description=(
            "A second request with the same key returns the first one's job; with the key but another"
            " input it is a Conflict."
        )
    )

    async def request(self) -> CaptureRequest:
        """Return what the service is asked for."""
        return request_of(CaptureRequest, self, dataset=dataset_request(self.dataset))


@strawberry.type
class ActivationRunMutations:
    """Mutations of activation runs."""

    @mutation
    async def capture_activations(
        self, info: Info, input: Annotated[CaptureActivationsInput, argument("What to capture.")]
    ) -> LaunchResult:
        """Queues a job that runs texts through a model and stores activations of some of its layers."""
        request = await input.request()
        return job_launched(await activation_run_service.capture(info.context.server, request))

    @mutation
    async def delete_activation_run(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of the activation run.")]
    ) -> DeleteResult:
        """Deletes a run with its tensors and texts. A Conflict while an SAE or a job needs it."""
        await activation_run_service.delete(info.context.server, id)
        return Deleted(deleted_id=id)
