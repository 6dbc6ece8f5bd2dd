"""What jobs need from the Hugging Face Hub, got before a worker has their tasks: no lane waits for it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from gql_server.jobs.executor import Executor, TaskRun
from gql_server.model_files.files import whole_snapshot_in_cache
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import DOWNLOADED_FILE, DownloadLanguageModel, Task
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
        return await asyncio.to_thread(self._missing, task) if self._enabled else []

    def _missing(self, task: Task) -> list[Task]:
        found: list[Task] = []
        source, texts = task.language_model_needed(), task.texts_needed(self._patience)
        of_hub = source is not None and source.kind == "HUGGING_FACE"
        if source is not None and of_hub and (task.asks_hub_anew or not whole_snapshot_in_cache(source)):
            found.append(DownloadLanguageModel(source, self._patience))
        if texts is not None and not Path(texts.directory).is_dir():
            found.append(texts)
        sae = task.sae_needed()
        if sae is not None and not Path(sae.directory, DOWNLOADED_FILE).is_file():
            found.append(sae)
        return found

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
