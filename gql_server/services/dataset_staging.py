"""Texts that are kept for a job: they are there before the job is, and go with what they were kept for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.database.database import Database, after_commit
from gql_server.errors import InvalidInput
from gql_server.processes.reader_pool import refusing
from gql_server.services import artifacts, quota, removals, texts, uploads
from gql_server.services.app_context import AppContext
from gql_server.services.requests import DatasetRequest
from gql_server.services.text_taking import NotTaken, TakenTexts, TextSource, Wanted, take
from gql_server.services.texts import Described, Texts
from gql_server.services.tokenizing import TokenizerFiles
from gql_server.settings import Settings
from gql_server.text_files.reading import EXPANSION, ReadingOptions
from models import LanguageModel
from models.enums import DatasetKind


class KeptTexts:
    """The texts of a job that is about to be; they go again unless they are held with its launch."""

    def __init__(self, server: AppContext, owner_id: str, texts: Texts) -> None:
        """Take the texts that are kept under the ID of a run or a job."""
        self.texts = texts
        self._server = server
        self._directory = artifacts.dataset_directory(server.settings, owner_id)
        self.is_held = False

    async def hold(self, session: AsyncSession) -> None:
        """Keep the texts if the transaction that queues their job is committed."""
        await removals.keep(session, self._server.settings, self._directory)

        async def note(_: Database) -> None:
            self.is_held = True

        after_commit(session, note)


@asynccontextmanager
async def keep(
    server: AppContext,
    request: DatasetRequest,
    owner_id: str,
    language_model: LanguageModel,
    offset: int,
    limit: int | None,
    max_length: int | None = None,
    keeps_rest: bool = True,
) -> AsyncIterator[KeptTexts]:
    """Read, check and keep the texts of a request for the job that is launched in the block.

    Args:
        server: The server.
        request: Where the texts come from. Those of the Hub are the worker's to get.
        owner_id: Of the run or job that they are for.
        language_model: Whose tokens they are to give.
        offset: The first text that is wanted.
        limit: How many are, from there on.
        max_length: The tokens of a text that count towards the job's size; all of them if None.
        keeps_rest: Keep the texts behind those, too, unless they are a file's.

    Raises:
        InvalidInput: The source is none, cannot be read, or has too many, too long or none of the texts.
        NotFound, Conflict: There is no such stored dataset, or its texts are gone.
        QueueFull: Too many files wait to be read.
    """
    settings = server.settings
    with server.in_use.by_reader(request.dataset_id):
        found = await texts.describe(server, request)
        if found.source is None:
            yield KeptTexts(server, owner_id, Texts(request.kind, found.description, None))
            return
        options = reading_options(settings, request)
        tokenizer = TokenizerFiles.of(artifacts.copy_directory(settings, language_model.id), language_model)
        most_bytes = await asyncio.to_thread(room_for_texts, settings)
        wanted = Wanted(options, offset, limit, most_bytes, tokenizer, max_length, keeps_rest)
        directory = artifacts.dataset_directory(settings, owner_id)
        await removals.make_provisional(server.database, settings, directory)
        kept: KeptTexts | None = None
        try:
            async with on_disk(settings, request, found.source) as source:
                taken = await _take(server, found, source, wanted, directory)
            kept = KeptTexts(server, owner_id, Texts(request.kind, found.description, taken))
            yield kept
        finally:
            if kept is None or not kept.is_held:
                await removals.discard(server.database, settings, directory)


def reading_options(settings: Settings, request: DatasetRequest) -> ReadingOptions:
    """Return how a file that a request names is read, within the server's limits."""
    return ReadingOptions(
        text_field=request.text_field,
        skip_bad_rows=request.skip_bad_rows,
        max_characters=settings.max_text_characters,
        max_texts=settings.max_texts,
        max_bytes=settings.max_upload_bytes,
    )


def room_for_texts(settings: Settings) -> int:
    """Return how many bytes the texts of a dataset may take. Takes its time."""
    return min(EXPANSION * settings.max_upload_bytes, quota.left(settings))


async def _take(
    server: AppContext, found: Described, source: TextSource, wanted: Wanted, directory: Path
) -> TakenTexts:
    with refusing(found.path, f"{found.description} cannot be read"):
        taken = await server.readers.files.run(take, source, wanted, directory)
    if isinstance(taken, NotTaken):
        raise InvalidInput.at(found.path, taken.problem)
    if not taken.count:
        skipped = f" {taken.skipped}" if taken.skipped.count else ""
        raise InvalidInput.at(found.path, f"There are no texts; give at least one.{skipped}")
    if not taken.n_selected:
        message = f"The dataset has {taken.count} texts; leave out fewer than that."
        raise InvalidInput.at("sampleOffset", message)
    if not taken.any_counts:
        raise InvalidInput.at("dataset", "The texts give no tokens; give at least one that does.")
    return taken


@asynccontextmanager
async def on_disk(
    settings: Settings, request: DatasetRequest, source: TextSource
) -> AsyncIterator[TextSource]:
    """Give the source of a request with its upload, if it has one, in a file while the block runs."""
    if request.content is None:
        yield source
        return
    async with uploads.on_disk(settings, request.content) as path:
        yield replace(source, path=path, roots=[path.parent])


def hub_dataset(dataset: DatasetRequest) -> dict[str, Any] | None:
    """Return what the worker needs to get texts from the Hub, where they are to come from there."""
    if dataset.kind != DatasetKind.HUGGING_FACE:
        return None
    wanted = ("repository", "config", "split", "text_field", "revision", "skip_bad_rows")
    return {name: value for name, value in asdict(dataset).items() if name in wanted}
