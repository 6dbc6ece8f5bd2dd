"""Where the texts of a dataset request come from, and what was kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gql_server.artifacts.files import resolve_inside
from gql_server.errors import Conflict, InvalidInput
from gql_server.model_files.hub_names import is_part_of_dataset, is_repository, is_revision
from gql_server.services import artifacts, lookup
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.requests import DatasetRequest
from gql_server.services.text_taking import TakenTexts, TextSource
from gql_server.settings import Settings
from gql_server.telemetry.plain_text import plain
from gql_server.text_files.rows import SkippedRows
from models import StoredDataset
from models.enums import ArtifactStatus, DatasetKind


@dataclass(frozen=True)
class Texts:
    """Texts that are kept for a job, or a Hub dataset (``taken`` None) that only the worker can read."""

    kind: DatasetKind
    description: str
    taken: TakenTexts | None

    @property
    def count(self) -> int | None:
        """How many the dataset has, as far as it was read; None where that is the worker's to do."""
        return None if self.taken is None else self.taken.count

    @property
    def skipped(self) -> SkippedRows:
        """Rows of a file that were left out."""
        return SkippedRows() if self.taken is None else self.taken.skipped


@dataclass(frozen=True)
class Described:
    """A dataset to read: its source (None: the Hub), a name for people, and the field that names it."""

    source: TextSource | None
    description: str
    path: Sequence[str]


async def describe(server: AppContext, request: DatasetRequest) -> Described:
    """Check what a request names, without reading it; of an upload the file is still to be named.

    Raises:
        InvalidInput: There is no such source, or the texts are too many or too long.
        NotFound, Conflict: There is no such stored dataset, or its texts are gone.
        QueueFull: The directory that it is in does not answer.
    """
    settings = server.settings
    if request.kind == DatasetKind.HUGGING_FACE:
        return _hub(settings, request)
    if request.kind == DatasetKind.BUILT_IN:
        return Described(TextSource(), "PYTHON_REFERENCE", ["dataset"])
    if request.kind == DatasetKind.INLINE:
        texts = list(request.texts or [])
        _check(settings, ["dataset", "texts"], texts)
        return Described(TextSource(texts), _count(len(texts)), ["dataset"])
    if request.kind == DatasetKind.UPLOAD:
        name = Path(request.file_name or "").name
        return Described(TextSource(name=plain(name)), plain(name), ["dataset", "upload"])
    if request.kind == DatasetKind.STORED:
        return await _stored(server, request.dataset_id or "")
    return await server.file_threads.look(_file, settings, request)


async def _stored(server: AppContext, id: str) -> Described:
    async with server.database.read() as session:
        dataset = await lookup.get(session, StoredDataset, id)
    if dataset.status != ArtifactStatus.READY:
        message = f"The texts of the dataset {dataset.name!r} are gone: delete it, and upload the file again."
        raise Conflict(message, id)
    directory = artifacts.dataset_directory(server.settings, id)
    source = TextSource(name=dataset.name, dataset=directory, columns=dataset.column_names)
    return Described(source, dataset.name, ["dataset", "datasetId"])


def _hub(settings: Settings, request: DatasetRequest) -> Described:
    if not settings.hub_enabled:
        _refuse(["dataset", "huggingFace"], "This server takes no datasets from the Hugging Face Hub.")
    for name, value, is_one in (
        ("repository", request.repository, is_repository),
        ("config", request.config, is_part_of_dataset),
        ("split", request.split, is_part_of_dataset),
        ("revision", request.revision, is_revision),
    ):
        if (value is None and name == "repository") or (value is not None and not is_one(value)):
            _refuse(
                ["dataset", "huggingFace", name], f"This is no {name} of a dataset on the Hugging Face Hub."
            )
    return Described(None, f"{request.repository} ({request.split})", ["dataset", "huggingFace"])


def _file(settings: Settings, request: DatasetRequest) -> Described:
    path = resolve_inside(request.path or "", settings.dataset_dirs)
    if path is None or not path.is_file():
        _refuse(
            ["dataset", "file", "path"],
            "There is no such file under one of this server's dataset directories.",
        )
    if path.stat().st_size > settings.max_upload_bytes:
        message = f"The file has {path.stat().st_size:,} bytes; the limit is {settings.max_upload_bytes:,}."
        _refuse(["dataset", "file", "path"], message)
    roots = [root.resolve() for root in settings.dataset_dirs]
    name = plain(path.name)
    return Described(TextSource(name=name, path=path, roots=roots), name, ["dataset", "file"])


def _check(settings: Settings, path: list[str], texts: Sequence[str]) -> None:
    checks = Checks()
    checks.require(len(texts) > 0, path, "There are no texts; give at least one.")
    checks.require(
        len(texts) <= settings.max_texts,
        path,
        f"There are {len(texts):,} texts; the limit is {settings.max_texts:,}.",
    )
    limit = settings.max_text_characters
    for row, text in enumerate(texts):
        if len(text) > limit:
            checks.problem([*path, row], f"Text {row} has {len(text):,} characters; the limit is {limit:,}.")
            break
    checks.done()


def _count(number: int) -> str:
    return "1 text" if number == 1 else f"{number} texts"


def _refuse(path: Sequence[str], message: str) -> NoReturn:
    raise InvalidInput.at(path, message)
