"""The executor of one machine: worker processes beside the API process."""

import asyncio
import tempfile
from collections.abc import Callable
from typing import IO

import structlog

from gql_server.jobs.executor import TaskRun, WorkerLost, WorkerState
from gql_server.jobs.watchdog import WorkerTimeouts
from gql_server.jobs.worker_process import STOPPING, WorkerProcess
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import (
    LANE_BOARD_BYTES,
    Lane,
    LanguageModelChanged,
    LanguageModelFound,
    WorkerReady,
)
from gql_server.settings import Settings
from gql_server.telemetry.telemetry import Telemetry

log = structlog.get_logger(__name__)

OnLanguageModel = Callable[[LanguageModelChanged | LanguageModelFound], None]


class LocalExecutor:
    """Two workers, one a lane; or one for both lanes where the models do not fit twice.

    Each download has a worker of its own, which ends with it: it may hang in a library.
    """

    def __init__(
        self,
        settings: Settings,
        on_language_model: OnLanguageModel,
        on_interactive_lost: Callable[[], None],
        telemetry: Telemetry,
    ) -> None:
        timeouts = WorkerTimeouts(
            cancel=settings.cancel_grace_seconds,
            silence=settings.worker_silence_seconds,
            stall=settings.stall_seconds,
        )

        self._board = _lane_board() if settings.workers == 2 else None

        def worker(*lanes: Lane) -> WorkerProcess:
            interactive = "interactive" in lanes
            options = _options(settings, low_priority=not interactive)
            descriptors = [] if self._board is None else [self._board.fileno()]
            return WorkerProcess(
                lanes,
                [*options, *(f"--lane-board={descriptor}" for descriptor in descriptors)],
                timeouts,
                on_language_model if interactive else _only_found(on_language_model),
                on_interactive_lost if interactive else _ignore_loss,
                telemetry,
                descriptors=descriptors,
            )

        def download_worker() -> WorkerProcess:
            options = _options(settings, low_priority=True)
            return WorkerProcess(["downloads"], options, timeouts, lambda told: None, _ignore_loss, telemetry)

        self._download_worker = download_worker
        self._downloads: set[WorkerProcess] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._is_closed = False
        if settings.workers == 1:
            both = worker("interactive", "jobs")
            self._workers: dict[Lane, WorkerProcess] = {"jobs": both, "interactive": both}
        else:
            self._workers = {"interactive": worker("interactive"), "jobs": worker("jobs")}

    async def start(self, lane: Lane, task: Task) -> TaskRun:
        """Hand a task to a lane's worker."""
        return await (self._download(task) if lane == "downloads" else self._workers[lane].start(lane, task))

    async def _download(self, task: Task) -> TaskRun:
        if self._is_closed:
            raise WorkerLost(STOPPING)
        worker, started = self._download_worker(), asyncio.get_running_loop().create_future()
        self._downloads.add(worker)
        # In a task of its own, which ends the process whatever becomes of who waits for the download.
        serving = asyncio.create_task(self._serve_download(worker, task, started))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        try:
            return await asyncio.shield(started)
        except asyncio.CancelledError:
            started.add_done_callback(self._give_up)
            raise

    async def _serve_download(
        self, worker: WorkerProcess, task: Task, started: asyncio.Future[TaskRun]
    ) -> None:
        try:
            run = await worker.start("downloads", task)
            started.set_result(run)
            await run.ended()
        except Exception as error:
            started.set_exception(error)
        finally:
            await worker.close(0, "Its download has ended.")
            self._downloads.discard(worker)

    def _give_up(self, started: asyncio.Future[TaskRun]) -> None:
        """Cancel a download that has started after whoever wanted it had gone."""
        if started.exception() is None:
            canceling = asyncio.create_task(self.cancel(started.result()))
            self._serving.add(canceling)
            canceling.add_done_callback(self._serving.discard)

    async def cancel(self, run: TaskRun) -> None:
        """Ask a task to stop; one that does not react within the grace period loses its worker."""
        for worker in (*set(self._workers.values()), *self._downloads):
            if await worker.cancel(run):
                return

    async def describe(self) -> WorkerReady:
        """Return what the workers offer; starts one if none runs."""
        return await self._workers["interactive"].ready()

    def workers(self) -> list[WorkerState]:
        """Return the workers of the lanes, whether they run or not."""
        return [worker.state for worker in dict.fromkeys(self._workers.values())]

    async def warm_up(self) -> None:
        """Start the workers, so that the first request does not wait for their imports."""
        for worker in self._workers.values():
            try:
                await worker.ready()
            except WorkerLost as lost:
                log.warning("worker not warmed up", lanes=worker.lanes, reason=str(lost))

    async def close(self, grace_seconds: float) -> None:
        """Ask all tasks to stop, and end all workers once they have, or after so long."""
        self._is_closed = True
        workers = (*set(self._workers.values()), *self._downloads)
        await asyncio.gather(*(worker.close(grace_seconds) for worker in workers))
        await asyncio.gather(*self._serving)
        if self._board is not None:
            self._board.close()


def _lane_board() -> IO[bytes]:
    """Return the file in which the workers tell each other that they compute; it goes when nobody has it."""
    board = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the executor)
    board.truncate(LANE_BOARD_BYTES)
    return board


def _options(settings: Settings, *, low_priority: bool) -> list[str]:
    options = [
        f"--log-format={settings.log_format}",
        f"--log-level={settings.log_level}",
        f"--idle-unload-seconds={settings.idle_unload_seconds}",
        f"--matmul-precision={settings.worker_matmul_precision}",
    ]
    if settings.worker_device is not None:
        options.append(f"--device={settings.worker_device}")
    if settings.worker_threads is not None:
        options.append(f"--threads={settings.worker_threads}")
    if settings.worker_memory_bytes is not None:
        options.append(f"--memory-bytes={settings.worker_memory_bytes}")
    if low_priority:
        options.append("--low-priority")
    return options


def _only_found(tell: OnLanguageModel) -> OnLanguageModel:
    """Pass on what the job worker finds models to be; their status speaks of the interactive worker alone."""

    def tell_found(told: LanguageModelChanged | LanguageModelFound) -> None:
        if isinstance(told, LanguageModelFound):
            tell(told)

    return tell_found


def _ignore_loss() -> None:
    """The job worker's loss is told by the end of its task."""
