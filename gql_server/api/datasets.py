"""Datasets: where the texts of a run come from."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import strawberry

from gql_server.api import stored_datasets
from gql_server.api.common import (
    Upload,
    argument,
    describe_enum,
    field,
    input_type,
    object_type,
    one_of_input_type,
)
from gql_server.api.context import Info
from gql_server.api.enums import DatasetKind
from gql_server.api.loaders import TextsKey
from gql_server.api.references import StoredDatasetRef
from gql_server.services.requests import DatasetRequest

if TYPE_CHECKING:
    from starlette.datastructures import UploadFile


@object_type
class Dataset:
    """Texts, and where they come from."""

    owner_id: strawberry.Private[str | None] = None
    """The run whose texts they are, where they are kept."""
    dataset_id: strawberry.Private[str | None] = None
    """The stored dataset that they were taken from."""
    kind: DatasetKind = strawberry.field(description="What kind of source it is.")
    description: str = strawberry.field(
        description=(
            "A name for people: the repository, the file's or the stored dataset's name as it was, or the"
            " number of inline texts."
        )
    )
    sample_count: int | None = strawberry.field(
        description=(
            "How many texts it has; null until known. A file or a dataset of the Hub is read no further than"
            " sampleOffset and sampleLimit ask for, and has as many here as were read."
        )
    )
    skipped_row_count: int = strawberry.field(
        description=(
            "Bad rows of its source that skipBadRows has left out, and that are none of its texts; the job's"
            " log says what was wrong with the first ones."
        )
    )

    @field
    async def stored_dataset(self, info: Info) -> StoredDatasetRef | None:
        """The stored dataset that they were taken from; null for other kinds, and once it is deleted."""
        return await stored_datasets.stored_dataset_of(info, self.dataset_id)

    @field
    async def texts(
        self,
        info: Info,
        first: Annotated[int, argument("How many texts to give, 1 to 100.")] = 20,
        offset: Annotated[
            int, argument("How many to leave out at the start; TopText.textIndex counts like this.")
        ] = 0,
    ) -> list[str] | None:
        """Its texts as they were captured, with those that the run's sampleOffset leaves out. Null where they
        are not kept, as after an evaluation, or not there yet.
        """
        key = None if self.owner_id is None else TextsKey(self.owner_id, first, offset)
        return await info.context.loaders.texts.load(key) if key else None


class BuiltInDataset(StrEnum):
    """Texts that every server has."""

    PYTHON_REFERENCE = "PYTHON_REFERENCE"


describe_enum(
    BuiltInDataset,
    "Texts that every server has.",
    {
        "PYTHON_REFERENCE": (
            "The prose of the Python language reference that every Python carries (pydoc_data);"
            " a text is a paragraph."
        )
    },
)


_KINDS = (
    "TXT (a text a line), CSV, TSV, JSON lines, JSON (a list of strings or objects), Parquet; all but Parquet"
    " also packed as .gz. The name's ending says which."
)
_TEXT_FIELD = (
    "The column with the texts, for all kinds but TXT; meta.text is the field text in an object meta, unless"
    " a column has that very name."
)
_SKIP_BAD_ROWS = (
    "Leave out rows whose text is missing, no string, no valid Unicode or too long, and count them in"
    " Dataset.skippedRowCount. Else the first of them refuses the dataset."
)


@input_type
class UploadDatasetInput:
    """A file that comes with the request."""

    file: Upload = strawberry.field(description=_KINDS)
    text_field: str = strawberry.field(default="text", description=_TEXT_FIELD)
    skip_bad_rows: bool = strawberry.field(default=False, description=_SKIP_BAD_ROWS)


@input_type
class FileDatasetInput:
    """A file on the server's machine."""

    path: str = strawberry.field(description=f"Under one of the server's dataset directories. {_KINDS}")
    text_field: str = strawberry.field(default="text", description=_TEXT_FIELD)
    skip_bad_rows: bool = strawberry.field(default=False, description=_SKIP_BAD_ROWS)


@input_type
class HuggingFaceDatasetInput:
    """A dataset of the Hugging Face Hub."""

    repository: str = strawberry.field(description="Owner and name, as the Hub spells them.")
    config: str | None = strawberry.field(description="One of its configurations, where it has several.")
    split: str = strawberry.field(default="train", description="One of its splits.")
    text_field: str = strawberry.field(default="text", description=_TEXT_FIELD)
    revision: str | None = strawberry.field(
        description="A branch, tag or commit; its main branch if left out."
    )
    skip_bad_rows: bool = strawberry.field(default=False, description=_SKIP_BAD_ROWS)


@one_of_input_type
class DatasetInput:
    """Texts to use, from one kind of source."""

    texts: list[str] | None = strawberry.field(description="The texts themselves.")
    upload: UploadDatasetInput | None = strawberry.field(description="A file that comes with the request.")
    file: FileDatasetInput | None = strawberry.field(description="A file on the server's machine.")
    hugging_face: HuggingFaceDatasetInput | None = strawberry.field(
        description="A dataset of the Hugging Face Hub."
    )
    built_in: BuiltInDataset | None = strawberry.field(description="Texts that every server has.")
    dataset_id: strawberry.ID | None = strawberry.field(
        description="A dataset that uploadDataset has kept. What is made from it has its texts for good."
    )


def upload_request(input: UploadDatasetInput) -> DatasetRequest:
    """Return the request that an uploaded file stands for."""
    file: UploadFile = input.file  # type: ignore[assignment]
    return DatasetRequest(
        DatasetKind.UPLOAD,
        file_name=file.filename,
        content=file.file,
        text_field=input.text_field,
        skip_bad_rows=input.skip_bad_rows,
    )


def dataset_request(input: DatasetInput) -> DatasetRequest:
    """Return the request that an input stands for; an upload is read later."""
    if input.texts is not None:
        return DatasetRequest(DatasetKind.INLINE, texts=input.texts)
    if input.upload is not None:
        return upload_request(input.upload)
    if input.file is not None:
        return DatasetRequest(
            DatasetKind.FILE,
            path=input.file.path,
            text_field=input.file.text_field,
            skip_bad_rows=input.file.skip_bad_rows,
        )
    if input.hugging_face is not None:
        return DatasetRequest(
            DatasetKind.HUGGING_FACE,
            repository=input.hugging_face.repository,
            config=input.hugging_face.config,
            split=input.hugging_face.split,
            text_field=input.hugging_face.text_field,
            revision=input.hugging_face.revision,
            skip_bad_rows=input.hugging_face.skip_bad_rows,
        )
    if input.dataset_id is not None:
        return DatasetRequest(DatasetKind.STORED, dataset_id=input.dataset_id)
    return DatasetRequest(DatasetKind.BUILT_IN)
