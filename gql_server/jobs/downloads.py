"""What jobs need from the Hugging Face Hub, got before a worker has their tasks: no lane waits for it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from gql_server.jobs.executor import Executor, TaskRun
from gql_server.model_files.files import whole_snapshot_in_cache
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import (
    CaptureActivations,
    DownloadLanguageModel,
    DownloadTexts,
    EvaluateSae,
    IndexNeurons,
    LoadLanguageModel,
    Task,
)
from gql_server.settings import Settings

AT_ONCE = 4
"""Downloads under way; more wait."""

Follow = Callable[[TaskRun], Awaitable[None]]


class Downloads:
    """Gets what tasks need, each thing by a task in a process of its own."""

    def __init__(self, executor: Executor, settings: Settings) -> None:
        self._executor = executor
        self._enabled = settings.hub_enabled
        self._patience = settings.download_patience_seconds
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def is_here(self, source: LanguageModelSource) -> bool:
        """Whether a language model can be loaded as it is; what is not of the Hub is taken to be."""
        if source.kind != "HUGGING_FACE":
            return True
        return await asyncio.to_thread(whole_snapshot_in_cache, source) is not None

    async def missing(self, task: Task) -> list[Task]:
        """Return the tasks that get what a task needs and that is not here."""
        source, texts = _language_model(task), self._texts(task)
        if not self._enabled or (source is None and texts is None):
            return []
        return await asyncio.to_thread(self._missing, task, source, texts)

    def _missing(
        self, task: Task, source: LanguageModelSource | None, texts: DownloadTexts | None
    ) -> list[Task]:
        found: list[Task] = []
        # A load that people ask for looks whether a branch has moved.
        if source is not None and (
            isinstance(task, LoadLanguageModel) or not whole_snapshot_in_cache(source)
        ):
            found.append(DownloadLanguageModel(source, self._patience))
        if texts is not None and not Path(texts.directory).is_dir():
            found.append(texts)
        return found

    def _texts(self, task: Task) -> DownloadTexts | None:
        """Return what gets the texts of the Hub that a task reads, if it does."""
        if not isinstance(task, CaptureActivations | EvaluateSae) or task.hub_dataset is None:
            return None
        wanted = None if task.sample_limit is None else task.sample_offset + task.sample_limit
        return DownloadTexts(task.hub_dataset, task.dataset_dir, wanted, task.max_texts, self._patience)

    async def get(self, downloads: Sequence[Task], follow: Follow) -> None:
        """Do downloads, one after the other; ``follow`` takes in what each tells. It may be canceled.

        Raises:
            TaskEnded: One has ended without a result.
        """
        for download in downloads:
            async with self._turns:
                run = await self._executor.start("downloads", download)
                try:
                    await follow(run)
                    await run.result()
                except BaseException:
                    await self._executor.cancel(run)
                    raise


def _language_model(task: Task) -> LanguageModelSource | None:
    """Return the repository whose files a task loads, if it does."""
    match task:
        case (
            LoadLanguageModel(language_model=source)
            | CaptureActivations(language_model=source)
            | EvaluateSae(language_model=source)
            | IndexNeurons(language_model=LanguageModelSource() as source)
        ):
            return source if source.kind == "HUGGING_FACE" else None
    return None
