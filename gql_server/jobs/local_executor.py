"""The executor of one machine: worker processes beside the API process."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from itertools import chain
from typing import IO

import structlog

from gql_server.jobs.executor import TaskRun, WorkerLost, WorkerState
from gql_server.jobs.watchdog import WorkerTimeouts
from gql_server.jobs.worker_process import STOPPING, WorkerProcess
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import (
    BOARD_PLACE_BYTES,
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
    """A worker for what is interactive, and others for jobs; or one for both where models do not fit twice.

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

        together = settings.workers == 1
        self._board = None if together else _worker_board(1 + settings.job_workers)

        def worker(lanes: Sequence[Lane], place: int, gpu: str | None = None) -> WorkerProcess:
            interactive = "interactive" in lanes
            options = _options(settings, low_priority=not interactive, gpu=gpu)
            if self._board is not None:
                options += [f"--board={self._board.fileno()}", f"--board-place={place}"]
            return WorkerProcess(
                lanes,
                options,
                timeouts,
                on_language_model if interactive else _only_found(on_language_model),
                on_interactive_lost if interactive else _ignore_loss,
                telemetry,
                descriptors=[] if self._board is None else [self._board.fileno()],
                gpu=gpu,
            )

        def download_worker() -> WorkerProcess:
            options = _options(settings, low_priority=True, gpu=None)
            return WorkerProcess(["downloads"], options, timeouts, lambda told: None, _ignore_loss, telemetry)

        self._download_worker = download_worker
        self._downloads: set[WorkerProcess] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._is_closed = False
        gpus = settings.job_worker_gpus or (None,)
        self._has_gpus = bool(settings.job_worker_gpus)
        if together:
            both = worker(["interactive", "jobs"], 0, gpus[0])
            self._workers: dict[Lane, list[WorkerProcess]] = {"interactive": [both], "jobs": [both]}
        else:
            jobs = [worker(["jobs"], 1 + n, gpus[n % len(gpus)]) for n in range(settings.job_workers)]
            self._workers = {"interactive": [worker(["interactive"], 0)], "jobs": jobs}

    async def start(self, lane: Lane, task: Task) -> TaskRun:
        """Hand a task to the worker of a lane with the fewest; among several to one that has its model."""
        if lane == "downloads":
            return await self._download(task)
        needed = task.language_model_needed()

        def burden(worker: WorkerProcess) -> tuple[int, bool]:
            return worker.task_count, needed is not None and not worker.holds(needed.id)

        return await min(self._workers[lane], key=burden).start(lane, task)

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
        for worker in (*self._lane_workers(), *self._downloads):
            if await worker.cancel(run):
                return

    async def describe(self) -> WorkerReady:
        """Return what the workers offer; starts one if none runs."""
        # With a GPU each, job workers call it by another name than whoever sees all of them.
        return await self._workers["jobs" if self._has_gpus else "interactive"][0].ready()

    def workers(self) -> list[WorkerState]:
        """Return the workers of the lanes, whether they run or not."""
        return [worker.state for worker in self._lane_workers()]

    def _lane_workers(self) -> list[WorkerProcess]:
        return list(dict.fromkeys(chain.from_iterable(self._workers.values())))

    async def warm_up(self) -> None:
        """Start the workers, so that the first request does not wait for their imports."""
        for worker in self._lane_workers():
            try:
                await worker.ready()
            except WorkerLost as lost:
                log.warning("worker not warmed up", lanes=worker.lanes, reason=str(lost))

    async def close(self, grace_seconds: float) -> None:
        """Ask all tasks to stop, and end all workers once they have, or after so long."""
        self._is_closed = True
        workers = (*self._lane_workers(), *self._downloads)
        await asyncio.gather(*(worker.close(grace_seconds) for worker in workers))
        await asyncio.gather(*self._serving)
        if self._board is not None:
            self._board.close()


def _worker_board(n_workers: int) -> IO[bytes]:
    """Return the file in which the workers tell each other that they compute; it goes when nobody has it."""
    board = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the executor)
    board.truncate(n_workers * BOARD_PLACE_BYTES)
    return board


def _options(settings: Settings, *, low_priority: bool, gpu: str | None) -> list[str]:
    options = [
        f"--log-format={settings.log_format}",
        f"--log-level={settings.log_level}",
        f"--idle-unload-seconds={settings.idle_unload_seconds}",
        f"--matmul-precision={settings.worker_matmul_precision}",
    ]
    device = settings.worker_device if gpu is None else "cuda"
    if device is not None:
        options.append(f"--device={device}")
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
