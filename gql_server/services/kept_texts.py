"""Texts that are kept for a job: they are there before the job is, and go with what they were kept for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import datasets
from gql_server.errors import InvalidInput
from gql_server.server import Server
from gql_server.services import artifacts, launching, removals, texts
from gql_server.services.requests import DatasetRequest, Launched
from gql_server.services.tokenizing import TokenCounter
from gql_server.settings import Settings
from gql_server.text_files.rows import SkippedRows
from models import Job, LanguageModel
from models.enums import DatasetKind


def read(
    settings: Settings, request: DatasetRequest, offset: int, limit: int | None, language_model: LanguageModel
) -> texts.Texts:
    """Read a dataset, and see that those of its texts that are selected give tokens; call it in a thread.

    Raises:
        InvalidInput: There are no such texts.
    """
    dataset = texts.read(settings, request)
    if dataset.texts is not None:
        selected = texts.select(dataset, offset, limit)
        counter = TokenCounter.of(artifacts.copy_directory(settings, language_model.id), language_model)
        if counter is not None and not counter.any_counts(selected):
            raise InvalidInput.at("dataset", "The texts give no tokens; give at least one that does.")
    return dataset


def hub_dataset(dataset: DatasetRequest) -> dict[str, Any] | None:
    """Return what the worker needs to get texts from the Hub, where they are to come from there."""
    if dataset.kind != DatasetKind.HUGGING_FACE:
        return None
    wanted = ("repository", "config", "split", "text_field", "revision", "skip_bad_rows")
    return {name: value for name, value in asdict(dataset).items() if name in wanted}


async def launch(
    server: Server,
    job: Job,
    owner_id: str,
    kept: Sequence[str] | None,
    skipped: SkippedRows,
    add_artifact: Callable[[AsyncSession], Awaitable[None]],
) -> Launched:
    """Keep texts under their owner's ID and queue the job; without the job the texts go again.

    Args:
        server: The server.
        job: The job, in no session yet.
        owner_id: Of the run or job.
        kept: The texts; None where the task gets them.
        skipped: What was left out of their file.
        add_artifact: As of ``launching.launch``.

    Raises:
        Conflict, QueueFull: As ``launching.launch``.
    """
    database, settings = server.database, server.settings
    directory = artifacts.dataset_directory(settings, owner_id)

    async def add(session: AsyncSession) -> None:
        await add_artifact(session)
        await removals.keep(session, settings, directory)

    if kept is None:
        return await launching.launch(server, job, add)
    is_kept = False
    await removals.make_provisional(database, settings, directory)
    try:
        await asyncio.to_thread(datasets.write_texts, directory, kept, skipped)
        launched = await launching.launch(server, job, add)
        is_kept = not launched.replayed
    finally:
        if not is_kept:
            await removals.discard(database, settings, directory)
    return launched
