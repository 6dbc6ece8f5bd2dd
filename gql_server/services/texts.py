"""The texts of a dataset request: read, checked, and kept for the job."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NoReturn

from gql_server import datasets
from gql_server.errors import InvalidInput
from gql_server.files import resolve_inside
from gql_server.services.checks import Checks
from gql_server.services.language_models import REPOSITORY
from gql_server.services.requests import DatasetRequest
from gql_server.settings import Settings
from gql_server.text_files.problems import FileProblem
from gql_server.text_files.reading import ReadingOptions, TextFile, read_texts
from gql_server.text_files.rows import SkippedRows
from models.enums import DatasetKind

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)


@dataclass(frozen=True)
class Texts:
    """Checked texts, or a Hub dataset (``texts`` None) that only the worker can read."""

    kind: DatasetKind
    description: str
    texts: Sequence[str] | None
    skipped: SkippedRows = field(default_factory=SkippedRows)
    """Rows of a file that were left out."""


def read(settings: Settings, request: DatasetRequest) -> Texts:
    """Read and check a dataset; takes its time, so call it in a thread.

    Raises:
        InvalidInput: The source is none, cannot be read, or has too many or too long texts.
    """
    if request.kind == DatasetKind.HUGGING_FACE:
        return _hub(settings, request)
    if request.kind == DatasetKind.BUILT_IN:
        return Texts(request.kind, "PYTHON_REFERENCE", datasets.built_in_python_reference())
    if request.kind == DatasetKind.INLINE:
        texts = list(request.texts or [])
        _check(settings, ["dataset", "texts"], texts)
        return Texts(request.kind, _count(len(texts)), texts)
    if request.kind == DatasetKind.UPLOAD:
        return _uploaded(settings, request)
    return _file(settings, request)


def _hub(settings: Settings, request: DatasetRequest) -> Texts:
    if not settings.hub_enabled:
        _refuse(["dataset", "huggingFace"], "This server takes no datasets from the Hugging Face Hub.")
    for name, value, pattern in (
        ("repository", request.repository, REPOSITORY),
        ("config", request.config, _HUB_NAME),
        ("split", request.split, _HUB_NAME),
        ("revision", request.revision, _HUB_NAME),
    ):
        if (value is None and name == "repository") or (value is not None and not pattern.fullmatch(value)):
            _refuse(
                ["dataset", "huggingFace", name], f"This is no {name} of a dataset on the Hugging Face Hub."
            )
    return Texts(request.kind, f"{request.repository} ({request.split})", None)


def _uploaded(settings: Settings, request: DatasetRequest) -> Texts:
    name = Path(request.file_name or "").name
    return _from_file(settings, request, name, BytesIO(request.content or b""), ["dataset", "upload"])


def _file(settings: Settings, request: DatasetRequest) -> Texts:
    path = resolve_inside(request.path or "", settings.dataset_dirs)
    if path is None or not path.is_file():
        _refuse(
            ["dataset", "file", "path"],
            "There is no such file under one of this server's dataset directories.",
        )
    if path.stat().st_size > settings.max_upload_bytes:
        message = f"The file has {path.stat().st_size} bytes; {settings.max_upload_bytes} may be."
        _refuse(["dataset", "file", "path"], message)
    with path.open("rb") as source:
        return _from_file(settings, request, path.name, source, ["dataset", "file"])


def _from_file(
    settings: Settings, request: DatasetRequest, name: str, source: BinaryIO, path: list[str]
) -> Texts:
    options = ReadingOptions(
        text_field=request.text_field,
        skip_bad_rows=request.skip_bad_rows,
        max_characters=settings.max_text_characters,
        max_texts=settings.max_texts,
        max_bytes=settings.max_upload_bytes,
    )
    try:
        file = read_texts(name, source, options)
    except FileProblem as problem:
        _refuse(path, str(problem))
    if not file.texts:
        _refuse(path, _no_texts(file))
    return Texts(request.kind, name, file.texts, file.skipped)


def _no_texts(file: TextFile) -> str:
    skipped = f" {file.skipped}" if file.skipped.count else ""
    return f"There are no texts; give at least one.{skipped}"


def _check(settings: Settings, path: list[str], texts: Sequence[str]) -> None:
    checks = Checks()
    checks.require(len(texts) > 0, path, "There are no texts; give at least one.")
    checks.require(
        len(texts) <= settings.max_texts, path, f"There are {len(texts)} texts; {settings.max_texts} may be."
    )
    limit = settings.max_text_characters
    for row, text in enumerate(texts):
        if len(text) > limit:
            checks.problem([*path, row], f"Text {row} has {len(text)} characters; {limit} may be.")
            break
    checks.done()


def select(texts: Texts, offset: int, limit: int | None) -> Sequence[str]:
    """Return the texts that a capture would run over.

    Raises:
        InvalidInput: The offset leaves none.
    """
    assert texts.texts is not None
    selected = texts.texts[offset:] if limit is None else texts.texts[offset : offset + limit]
    if not selected:
        _refuse(["sampleOffset"], f"The dataset has {len(texts.texts)} texts; leave out fewer than that.")
    return selected


def _count(number: int) -> str:
    return "1 text" if number == 1 else f"{number} texts"


def _refuse(path: Sequence[str], message: str) -> NoReturn:
    raise InvalidInput.at(path, message)
