"""One worker: a process of its own at the other end of a socket."""

import asyncio
import math
import re
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass

import msgspec
import structlog

from gql_server.errors import shortened
from gql_server.jobs.executor import (
    TaskCanceled,
    TaskFailure,
    TaskRun,
    WorkerLost,
    WorkerOutOfMemory,
    WorkerState,
)
from gql_server.jobs.spawning import how_it_ended, kill, spawn
from gql_server.jobs.watchdog import SILENT, STUCK, Watchdog, WorkerTimeouts
from gql_server.processes import oom
from gql_server.processes.oom import kills_so_far
from gql_server.protocol.frames import HEADER_BYTES, body_bytes, frame, from_worker
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import (
    CancelTask,
    FromWorker,
    Lane,
    LanguageModelChanged,
    LanguageModelFound,
    StartTask,
    TaskBegan,
    TaskCanceledMessage,
    TaskEvent,
    TaskFailed,
    TaskSucceeded,
    WorkerAlive,
    WorkerReady,
)
from gql_server.telemetry.plain_text import plain
from gql_server.telemetry.telemetry import Telemetry

log = structlog.get_logger(__name__)

_ENDS_OF_LINES = re.compile(rb"[\r\n]+")
_PRINTED_BYTES = 16 * 1024
_PRINTED_CHARACTERS = 1_000
"""Of a line that a library prints."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
"""Before a worker is started again that has ended before it was ready, twice as long each time."""
_LOAD_STEPS = 4
"""A load of a language model is one step, and may take so many times as long as another."""
_GRACES_BESIDE_OTHERS = 6
"""A canceled task that does not stop, and lets nobody else get on, has so many times its grace."""
STOPPING = "The server is stopping."
GARBLED = "The worker sent what the server does not understand, and was ended."
KEPT_ON = "The worker was ended, because a canceled task in it did not stop."


@dataclass(frozen=True)
class _Sent:
    """A task that the process has, or is about to have."""

    run: TaskRun
    frame: bytes


class WorkerProcess:
    """Starts the process when first needed, and again after it was lost."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        options: Sequence[str],
        timeouts: WorkerTimeouts,
        on_language_model: Callable[[LanguageModelChanged | LanguageModelFound], None],
        on_lost: Callable[[], None],
        telemetry: Telemetry,
        module: str = "gql_server.compute.worker.main",
        descriptors: Sequence[int] = (),
        gpu: str | None = None,
    ) -> None:
        self.lanes = tuple(lanes)
        self._name = "+".join(lanes)
        self._metrics = telemetry.metrics.workers
        self._options = list(options)
        self._module = module
        self._descriptors = tuple(descriptors)
        self._gpu = gpu
        self._timeouts = timeouts
        self._on_language_model = on_language_model
        self._on_lost = on_lost
        self._spawning: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[WorkerReady] | None = None
        self._sent: dict[int, _Sent] = {}
        self._starting = 0
        """Tasks that are to be sent as soon as the process is there."""
        self._watchdog = Watchdog(timeouts)
        self._watching: asyncio.Task[None] | None = None
        self._loading = False
        """Whether it is inside a library's loading of a language model, which asks nobody."""
        self._language_models: set[str] = set()
        """IDs of those that it holds."""
        self._accelerator_bytes: int | None = None
        self._kills: set[asyncio.Task[None]] = set()
        self._memory_kills = self._newest_memory_kills = 0
        self._ended_for_cancel = False
        self._last_task_id = 0
        self._closed, self._closing = False, asyncio.Event()
        self._reason: str | None = None
        self._pause = 0.0
        """Seconds before the process is started, where the last ones ended before they were ready."""

    @property
    def pid(self) -> int | None:
        """The process's ID while it runs."""
        return self._process.pid if self._process else None

    @property
    def state(self) -> WorkerState:
        """What the process is about now."""
        is_ready = self._ready is not None and self._ready.done() and self._ready.exception() is None
        offered = self._ready.result() if self._ready is not None and is_ready else None
        return WorkerState(
            lanes=self.lanes,
            pid=self.pid,
            gpu=self._gpu,
            device=offered.devices[0] if offered and self.pid else None,
            runs=[sent.run for sent in self._sent.values()],
            language_model_ids=sorted(self._language_models),
            accelerator_bytes=self._accelerator_bytes,
        )

    async def ready(self) -> WorkerReady:
        """Start the process if need be, and return what it offers once its libraries are there.

        Raises:
            WorkerLost: It ended before that.
        """
        await self._ensure_started()
        assert self._ready is not None
        return await asyncio.shield(self._ready)

    @property
    def task_count(self) -> int:
        """How many tasks it has, or will have in a moment."""
        return len(self._sent) + self._starting

    def holds(self, language_model_id: str) -> bool:
        """Whether the process has a language model in memory."""
        return language_model_id in self._language_models

    async def start(self, lane: Lane, task: Task) -> TaskRun:
        """Send a task; raises WorkerLost where the server is stopping."""
        self._starting += 1
        try:
            await self._ensure_started()
        finally:
            self._starting -= 1
        self._last_task_id += 1
        # Encoded before it is registered: what cannot be encoded must not wait for ever.
        sent = _Sent(TaskRun(), frame(StartTask(self._last_task_id, lane, task)))
        if self._process is None:
            raise WorkerLost("The worker ended as soon as it had started.")
        sent.run.waiting_before = sum(not other.run.begun for other in self._sent.values())
        self._sent[self._last_task_id] = sent
        await self._send(sent.frame)
        return sent.run

    async def cancel(self, run: TaskRun) -> bool:
        """Ask a task of this worker to stop; returns whether it has the task."""
        for task_id, sent in self._sent.items():
            if sent.run is run:
                run.cancel_requested = True
                await self._send(frame(CancelTask(task_id)))
                if run.begun:
                    self._kill_later(task_id)
                return True
        return False

    async def close(self, grace_seconds: float, reason: str = STOPPING) -> None:
        """Ask its tasks to stop, and end the process for good once they have, or after so long."""
        self._closed = True
        self._closing.set()
        if self._spawning is not None:
            await asyncio.wait([self._spawning])
        self._reason = reason
        process = self._process
        if process is not None:
            await self._stop_tasks(grace_seconds)
            kill(process)
            await process.wait()
        if self._reading is not None:
            await self._reading
        for pending in list(self._kills):
            pending.cancel()

    async def _stop_tasks(self, grace_seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                for task_id in list(self._sent):
                    await self._send(frame(CancelTask(task_id)))
                for sent in list(self._sent.values()):
                    await sent.run.ended()

    async def _ensure_started(self) -> None:
        """Start the process unless it runs; in a task of its own, which no caller's end breaks off."""
        if self._closed:
            raise WorkerLost(STOPPING)
        if self._process is None and self._spawning is None:
            # What follows outlives the request that was first to need the worker: not under its reference.
            self._spawning = asyncio.create_task(self._spawn(), context=Context())
        if self._spawning is not None:
            await asyncio.shield(self._spawning)

    async def _wait_out_pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._closing.wait()

    async def _spawn(self) -> None:
        try:
            await self._wait_out_pause()
            if self._closed:
                raise WorkerLost(STOPPING)
            process, reader, writer = await spawn(
                self._module, self.lanes, self._options, self._descriptors, self._gpu
            )
        finally:
            self._spawning = None
        # From here on without a pause: the process is there with all that goes with it, or not at all.
        self._process, self._writer = process, writer
        self._ready = asyncio.get_running_loop().create_future()
        self._loading = self._ended_for_cancel = False
        self._memory_kills = self._newest_memory_kills = kills_so_far()
        self._watchdog = Watchdog(self._timeouts)
        self._watching = asyncio.create_task(self._watch(self._watchdog, process))
        self._reading = asyncio.create_task(self._read(reader, process))
        self._printing = asyncio.create_task(self._log_what_is_printed(process))
        self._metrics.started(self._name)
        log.info("worker started", lanes=self.lanes, pid=process.pid)

    async def _send(self, data: bytes) -> None:
        if self._writer is None:
            return
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            # The reader sees the same end and tells every task of it.
            log.info("worker is gone", lanes=self.lanes)

    async def _read(self, reader: asyncio.StreamReader, process: Process) -> None:
        try:
            while True:
                n_bytes = body_bytes(await reader.readexactly(HEADER_BYTES))
                self._receive(from_worker.decode(await reader.readexactly(n_bytes)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The process has ended, or is about to; how is told below.
        except msgspec.DecodeError:
            log.exception("worker sent what is no message", lanes=self.lanes)
            self._reason = GARBLED
        finally:
            kill(process)
            await self._lost(await process.wait())

    async def _log_what_is_printed(self, process: Process) -> None:
        """Make log lines of what libraries print, without what would act on a terminal."""
        assert process.stdout is not None
        begun = b""
        while part := await process.stdout.read(_PRINTED_BYTES):
            *lines, begun = _ENDS_OF_LINES.split(begun + part)
            if len(begun) > _PRINTED_BYTES:
                lines, begun = [*lines, begun], b""
            for line in lines:
                self._log_printed(line)
        self._log_printed(begun)

    def _log_printed(self, line: bytes) -> None:
        text = plain(line.decode(errors="replace").strip())
        if text:
            log.info("worker printed", lanes=self.lanes, text=shortened(text, _PRINTED_CHARACTERS))

    async def _watch(self, watchdog: Watchdog, process: Process) -> None:
        self._reason = await watchdog.wait_for_hang(self._stall_seconds)
        kill(process)

    def _stall_seconds(self) -> float:
        """Return for how many seconds the task in hand may stand still; a load is one long step."""
        if not any(sent.run.begun for sent in self._sent.values()):
            return math.inf
        return self._timeouts.stall * (_LOAD_STEPS if self._loading else 1)

    def _receive(self, message: FromWorker) -> None:
        match message:
            case WorkerReady():
                self._watchdog.ready()
                self._pause = 0.0
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(message)
            case WorkerAlive():
                self._watchdog.heartbeat(message)
                self._accelerator_bytes = message.accelerator_bytes
                # As it was one heartbeat ago: this one may have been on its way when the worker was ended.
                self._memory_kills, self._newest_memory_kills = self._newest_memory_kills, kills_so_far()
            case LanguageModelChanged(status=status):
                self._loading = status == "LOADING"
                if status == "LOADED":
                    self._language_models.add(message.language_model_id)
                else:
                    self._language_models.discard(message.language_model_id)
                for task_id, sent in self._sent.items():
                    if self._loading and sent.run.begun and sent.run.cancel_requested:
                        self._kill_later(task_id)
                self._on_language_model(message)
            case LanguageModelFound():
                self._on_language_model(message)
            case TaskBegan(task_id):
                run = self._sent[task_id].run
                run.begin()
                if run.cancel_requested:
                    self._kill_later(task_id)
            case TaskEvent(task_id, event):
                if task_id in self._sent:
                    self._sent[task_id].run.push(event)
            case TaskSucceeded(task_id, result):
                self._end(task_id).finish(result)
            case TaskFailed(task_id):
                self._end(task_id).finish(TaskFailure(message))
            case TaskCanceledMessage(task_id):
                self._end(task_id).finish(TaskCanceled())

    def _end(self, task_id: int) -> TaskRun:
        return self._sent.pop(task_id).run

    async def _lost(self, exit_code: int) -> None:
        loss, self._reason = self._loss(exit_code), None
        say = log.info if self._closed else log.warning
        self._metrics.ended(self._name, _in_a_word(loss, closed=self._closed))
        say("worker ended", lanes=self.lanes, exit_code=exit_code, reason=str(loss))
        self._process, self._accelerator_bytes = None, None
        self._language_models.clear()
        if self._watching is not None:
            self._watching.cancel()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._ready is not None and not self._ready.done():
            self._pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * self._pause))
            self._ready.set_exception(loss)
            self._ready.exception()
        sent_before, self._sent = self._sent, {}
        for task_id, sent in sent_before.items():
            if self._ended_for_cancel and not (sent.run.begun or sent.run.cancel_requested or self._closed):
                self._sent[task_id] = sent  # It only waited there: the next process does it.
            else:
                sent.run.finish(TaskCanceled() if sent.run.cancel_requested else loss)
        self._on_lost()
        if self._sent:
            self._sending_again = asyncio.create_task(self._send_again())

    async def _send_again(self) -> None:
        """Hand what waited in a process that was ended to the next one, but what was canceled since."""
        waiting = dict(self._sent)
        try:
            await self._ensure_started()
        except (OSError, WorkerLost) as error:
            for task_id in waiting:
                self._end(task_id).finish(WorkerLost(str(error)))
            return
        for task_id, sent in waiting.items():
            if sent.run.cancel_requested:
                self._end(task_id).finish(TaskCanceled())
            else:
                await self._send(sent.frame)

    def _loss(self, exit_code: int) -> WorkerLost:
        if self._reason is not None:
            return WorkerLost(self._reason)
        if exit_code == -signal.SIGKILL and kills_so_far() > self._memory_kills:
            return WorkerOutOfMemory(oom.ENDED)
        return WorkerLost(how_it_ended(exit_code))

    def _kill_later(self, task_id: int) -> None:
        pending = asyncio.create_task(self._kill_unless_ended(task_id))
        self._kills.add(pending)
        pending.add_done_callback(self._kills.discard)

    def _hangs(self, task_id: int) -> bool:
        """Whether a canceled task keeps the worker to itself, so that others that have begun get no turn."""
        grace = _GRACES_BESIDE_OTHERS * self._timeouts.cancel
        return self._watchdog.task_id == task_id and self._watchdog.seconds_at_step > grace

    async def _kill_unless_ended(self, task_id: int) -> None:
        """End the process for a canceled task that does not stop; not under another one that gets on."""
        await asyncio.sleep(0 if self._loading else self._timeouts.cancel)
        while task_id in self._sent and self._process is not None:
            others = any(sent.run.begun and not sent.run.cancel_requested for sent in self._sent.values())
            if not others or self._hangs(task_id):
                self._reason = KEPT_ON
                self._ended_for_cancel = True
                kill(self._process)
                return
            await asyncio.sleep(self._timeouts.cancel)


_IN_A_WORD = {SILENT: "silent", STUCK: "stuck", GARBLED: "garbled", KEPT_ON: "canceled"}


def _in_a_word(loss: WorkerLost, *, closed: bool) -> str:
    """Return why a process has ended, as the metrics name it."""
    if isinstance(loss, WorkerOutOfMemory):
        return "out_of_memory"
    return _IN_A_WORD.get(str(loss), "stopped" if closed else "crashed")
