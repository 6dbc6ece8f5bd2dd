"""Stored datasets: files that are uploaded once, to be used in several captures and evaluations."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from gql_server.api import datasets
from gql_server.api.common import (
    BigInt,
    Conflict,
    Deleted,
    DeleteResult,
    InvalidInput,
    Node,
    NotFound,
    QueueFull,
    argument,
    field,
    from_row,
    mutation,
    object_type,
)
from gql_server.api.context import Info
from gql_server.api.enums import ArtifactStatus
from gql_server.api.loaders import TextsKey
from gql_server.api.pagination import After, Connection, First, listing, unset_to_none
from gql_server.services import dataset_previews, stored_datasets as stored_dataset_service
from models import StoredDataset as StoredDatasetRow

if TYPE_CHECKING:
    from gql_server.api.datasets import DatasetInput, UploadDatasetInput

DatasetInputRef = Annotated["DatasetInput", strawberry.lazy("gql_server.api.datasets")]
UploadDatasetInputRef = Annotated["UploadDatasetInput", strawberry.lazy("gql_server.api.datasets")]

COLUMNS = (
    "Its columns, 100 at most, as textField takes them: a field inside another with a dot between. None for"
    " texts without columns."
)


@object_type
class StoredDataset(Node):
    """The texts of an uploaded file, kept for use in several captures and evaluations."""

    name: str = strawberry.field(description="A name for people, unique among the stored datasets.")
    status: ArtifactStatus = strawberry.field(
        description="READY, or FAILED where its texts were gone when the server started."
    )
    byte_size: BigInt = strawberry.field(description="Bytes on disk.")
    sample_count: int = strawberry.field(description="How many texts it has.")
    skipped_row_count: int = strawberry.field(
        description="Bad rows of the file that skipBadRows has left out, and that are none of its texts."
    )
    columns: list[str] = strawberry.field(description=f"{COLUMNS} The texts of textField are kept alone.")
    text_field: str | None = strawberry.field(
        description="The column that the texts were in; null for a file with a text a line."
    )
    created_at: datetime = strawberry.field(description="When it was uploaded.")

    @field
    async def preview(
        self,
        info: Info,
        first: Annotated[int, argument("How many texts to give, 1 to 100.")] = 5,
        offset: Annotated[int, argument("How many to leave out at the start.")] = 0,
    ) -> list[str] | None:
        """Some of its texts, in the file's order; null where they are gone."""
        return await info.context.loaders.texts.load(TextsKey(self.id, first, offset))


def stored_dataset(row: StoredDatasetRow) -> StoredDataset:
    """Return a row as it is shown."""
    return from_row(StoredDataset, row, columns=row.column_names, skipped_row_count=row.skipped_count)


async def stored_dataset_of(info: Info, id: str | None) -> StoredDataset | None:
    """Return the dataset with an ID, if any."""
    row = await info.context.loaders.stored_datasets.load(id) if id else None
    return stored_dataset(row) if row else None


@object_type
class DatasetPreview:
    """What the beginning of a dataset tells of it."""

    columns: list[str] = strawberry.field(description=COLUMNS)
    texts: list[str] = strawberry.field(description="Its first texts; none where there is a problem.")
    sample_count: int | None = strawberry.field(
        description="How many texts it has; null where that takes reading a file to its end."
    )
    mean_token_count: float | None = strawberry.field(
        description=(
            "Mean number of tokens of its first texts, 256 of them or 1,000,000 characters, with what the"
            " tokenizer writes before a text. Null without languageModelId or texts, and where the tokenizer"
            " has no file that can be read without the model."
        )
    )
    problem: str | None = strawberry.field(
        description=(
            "Why it gives no texts as it was asked for, such as a textField that is none of its columns;"
            " null where it does."
        )
    )


DatasetPreviewResult = Annotated[
    DatasetPreview | InvalidInput | NotFound | Conflict | QueueFull,
    strawberry.union("DatasetPreviewResult", description="What looking at a dataset came to."),
]


@strawberry.type
class StoredDatasetQueries:
    """Queries for datasets."""

    @field
    async def datasets(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[StoredDataset]:
        """Datasets that are kept, newest first."""
        return await listing(info, StoredDatasetRow, [], stored_dataset, first, after)

    @field
    async def dataset(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of a dataset.")]
    ) -> StoredDataset | None:
        """A dataset that is kept; null if there is none with this ID."""
        return await stored_dataset_of(info, id)

    @field
    async def dataset_preview(
        self,
        info: Info,
        dataset: Annotated[
            DatasetInputRef,
            argument("The dataset; none of the Hub, which would have to be downloaded."),
        ],
        language_model_id: Annotated[
            strawberry.ID | None, argument("A language model, to count its tokens.")
        ] = strawberry.UNSET,
        first: Annotated[int, argument("How many texts to give, 1 to 100.")] = 5,
    ) -> DatasetPreviewResult:
        """The first texts of a dataset, its columns and the length of its texts, before anything is made of
        it; nothing is kept.
        """
        request = datasets.dataset_request(dataset)
        id = unset_to_none(language_model_id)
        made = await dataset_previews.look(info.context.server, request, id, first)
        return DatasetPreview(
            columns=made.columns,
            texts=made.texts,
            sample_count=made.count,
            mean_token_count=made.mean_tokens,
            problem=made.problem,
        )


UploadDatasetResult = Annotated[
    StoredDataset | InvalidInput | Conflict | QueueFull,
    strawberry.union("UploadDatasetResult", description="What keeping a file came to."),
]


@strawberry.type
class StoredDatasetMutations:
    """Mutations of datasets."""

    @mutation
    async def upload_dataset(
        self,
        info: Info,
        input: Annotated[UploadDatasetInputRef, argument("The file, and what in it are the texts.")],
        name: Annotated[
            str | None,
            argument("A name that no other dataset has; the file's, with a number if need be, if left out."),
        ] = strawberry.UNSET,
    ) -> UploadDatasetResult:
        """Keeps the texts of a file, so that several captures and evaluations can use them: see datasetId of
        DatasetInput.
        """
        request = datasets.upload_request(input)
        row = await stored_dataset_service.upload(info.context.server, request, unset_to_none(name))
        return stored_dataset(row)

    @mutation
    async def delete_dataset(
        self, info: Info, id: Annotated[strawberry.ID, argument("ID of the dataset.")]
    ) -> DeleteResult:
        """Deletes a dataset with its file; what was captured from it keeps its texts. A Conflict while a
        request reads it.
        """
        await stored_dataset_service.delete(info.context.server, id)
        return Deleted(deleted_id=id)
