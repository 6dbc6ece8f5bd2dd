"""Stored datasets: files that are kept, so that several captures and evaluations can use their texts."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts import datasets
from gql_server.errors import Conflict, InvalidInput, Refusal
from gql_server.processes.reader_pool import ReadingEnded, refusing
from gql_server.services import artifacts, dataset_staging, lookup, removals, texts
from gql_server.services.app_context import AppContext
from gql_server.services.checks import MAX_NAME_LENGTH, Checks, visible
from gql_server.services.cursors import check_first
from gql_server.services.requests import DatasetRequest
from gql_server.services.text_taking import NotTaken, StoredTexts, store
from gql_server.services.unused_names import unused_name
from models import StoredDataset
from models.enums import ArtifactStatus

MAX_OFFSET = 2**31 - 1


async def upload(server: AppContext, request: DatasetRequest, name: str | None) -> StoredDataset:
    """Keep the texts of an uploaded file; the row is added when they are there.

    Args:
        server: The server.
        request: The file, of kind UPLOAD.
        name: A name of its own; the file's with a number where that is taken, if None.

    Raises:
        InvalidInput: The name cannot be right, or the file cannot be read, or has no texts or too many.
        Conflict: The name is in use.
        QueueFull: Too many files wait to be read, or there is no room.
    """
    checks = Checks()
    checks.name("name", name)
    checks.done()
    settings = server.settings
    async with server.database.read() as session:
        await _check_free(session, name)
    found = await texts.describe(server, request)
    assert found.source is not None
    id = ids.new(ids.DATASET)
    directory = artifacts.dataset_directory(settings, id)
    most_bytes = await asyncio.to_thread(dataset_staging.room_for_texts, settings)
    options = dataset_staging.reading_options(settings, request)
    await removals.make_provisional(server.database, settings, directory)
    is_kept = False
    try:
        async with dataset_staging.on_disk(settings, request, found.source) as source:
            with refusing(["file"], f"{found.description} cannot be read"):
                stored = await server.readers.files.run(store, source, options, most_bytes, directory)
        async with server.database.write() as session:
            await _check_free(session, name)
            row = _row(id, _taken(stored), request)
            file_name = found.description if visible(found.description) else "dataset"
            row.name = name or await unused_name(session, StoredDataset, file_name[:MAX_NAME_LENGTH])
            session.add(row)
            await removals.keep(session, settings, directory)
        is_kept = True
    finally:
        if not is_kept:
            await removals.discard(server.database, settings, directory)
    return row


def _taken(stored: StoredTexts | NotTaken) -> StoredTexts:
    if isinstance(stored, NotTaken):
        raise InvalidInput.at(["file"], stored.problem)
    if not stored.count:
        raise InvalidInput.at(["file"], "There are no texts in the file; give at least one.")
    return stored


def _row(id: str, stored: StoredTexts, request: DatasetRequest) -> StoredDataset:
    return StoredDataset(
        id=id,
        status=ArtifactStatus.READY,
        byte_size=stored.byte_size,
        sample_count=stored.count,
        skipped_count=stored.skipped_count,
        column_names=stored.columns,
        text_field=request.text_field if stored.columns else None,
    )


async def _check_free(session: AsyncSession, name: str | None) -> None:
    if name is not None:
        other = await session.scalar(select(StoredDataset.id).where(StoredDataset.name == name))
        if other is not None:
            raise Conflict(f"The name {name!r} is in use; choose another.", other)


async def delete(server: AppContext, id: str) -> None:
    """Delete a dataset with its file; what was captured from it keeps its texts.

    Raises:
        Conflict: A request is taking its texts.
    """
    async with server.database.write() as session:
        dataset = await lookup.get(session, StoredDataset, id)
        if server.in_use.count(id):
            raise Conflict("A request is reading this dataset; try again soon.", id)
        await session.delete(dataset)
        directory = artifacts.dataset_directory(server.settings, id)
        await removals.remove_after_commit(session, server.settings, [directory])


async def read(
    server: AppContext, owner_ids: Sequence[str], first: int, offset: int, most_bytes: int
) -> Sequence[list[str] | Refusal | None]:
    """Return ``first`` texts of each of several datasets, those that runs have among them; None: not there.

    A refusal stands in the place of what is more than ``most_bytes`` in all, or cannot be read.

    Raises:
        InvalidInput: ``first`` or ``offset`` are out of range.
        QueueFull: Too many look into what the server keeps.
    """
    check_first(first)
    if not 0 <= offset <= MAX_OFFSET:
        raise InvalidInput.at("offset", f"offset must be from 0 to {MAX_OFFSET}; it is {offset}.")
    directories = [artifacts.dataset_directory(server.settings, id) for id in owner_ids]
    try:
        return await server.readers.kept.run(_read, directories, first, offset, most_bytes)
    except ReadingEnded as ended:
        raise Conflict(f"The texts cannot be read: {ended}.") from ended


def _read(
    directories: Sequence[Path], first: int, offset: int, most_bytes: int
) -> list[list[str] | Refusal | None]:
    found, left = list[list[str] | Refusal | None](), most_bytes
    for directory in directories:
        one = _read_one(directory, first, offset, left)
        if isinstance(one, list):
            left -= sum(len(text.encode()) for text in one)
        found.append(one)
    return found


def _read_one(directory: Path, first: int, offset: int, most_bytes: int) -> list[str] | Refusal | None:
    try:
        dataset, taken, n_bytes = datasets.TextDataset(directory), list[str](), 0
        for text in dataset.slice(offset, offset + first):
            n_bytes += len(text.encode())
            if n_bytes > most_bytes:
                message = "The texts are more than an answer may have; ask for fewer at once."
                return InvalidInput.at("first", message)
            taken.append(text)
    except FileNotFoundError:
        return None
    except (datasets.UnreadableTexts, ValueError, OSError):
        return Conflict("The file of the texts is damaged.")
    return taken
