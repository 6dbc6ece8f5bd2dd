"""The worker process: takes tasks from a socket, does them, and sends what happens.

Started by the API process as ``python -m gql_server.compute.worker.main FD LANES …``; ends with the socket.
"""

import argparse
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog

from gql_server.compute.worker.channel import Channel
from gql_server.compute.worker.context import CancelRequested, TaskContext
from gql_server.compute.worker.failures import failure_of
from gql_server.compute.worker.inbox import Inbox
from gql_server.compute.worker.interactive_turns import InteractiveTurns
from gql_server.processes.process_limits import die_with_parent, limit_memory, offer_to_the_memory_killer
from gql_server.protocol.events import Event
from gql_server.protocol.results import Result
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import (
    FromWorker,
    Lane,
    StartTask,
    TaskBegan,
    TaskCanceledMessage,
    TaskEvent,
    TaskSucceeded,
    WorkerAlive,
    WorkerReady,
)
from gql_server.telemetry import logs

log = structlog.get_logger(__name__)

_IDLE_CHECK_SECONDS = 5.0
_SECONDS_BETWEEN_HEARTBEATS = 1.0
LOW_PRIORITY_NICENESS = 5
"""Of the job worker: what is interactive goes first; jobs still get on beside it (benchmarks/lanes.py)."""


class RunningTask:
    """The TaskContext of one task. In a job's checks, interactive tasks that wait here are done.

    In those of an interactive task, others have their turn.
    """

    def __init__(self, worker: "Worker", message: StartTask) -> None:
        self._worker = worker
        self._message = message

    def emit(self, event: Event) -> None:
        """Send an event. Raises CancelRequested where the task has been asked to stop."""
        self._worker.mark_progress(self._message.task_id)
        self._worker.channel.send(TaskEvent(self._message.task_id, event))
        self._raise_if_canceled()

    def check(self) -> None:
        """Raise CancelRequested where the task has been asked to stop."""
        self._worker.sharing.adjust()
        if self._message.lane == "jobs":
            while (waiting := self._worker.inbox.take("interactive")) is not None:
                self._worker.interactive.run(waiting)
        else:
            self._worker.interactive.pause()
        self._worker.mark_progress(self._message.task_id)
        self._raise_if_canceled()

    def _raise_if_canceled(self) -> None:
        if self._worker.inbox.canceled(self._message.task_id):
            raise CancelRequested


Send = Callable[[FromWorker], None]


class Runner(Protocol):
    """What a worker does its tasks with."""

    def describe(self) -> WorkerReady:
        """Return what this worker offers."""

    def do(self, task: Task, context: TaskContext) -> Result:
        """Do a task."""

    def rest(self, idle_seconds: float) -> None:
        """Let go of what nothing has used for so long; called while there is no task."""


class Sharing(Protocol):
    """How this worker gets on with others on the same processors."""

    def announce(self) -> None:
        """Say that this worker computes; said again every second."""

    def rest(self) -> None:
        """Say that it does not any more."""

    def adjust(self) -> None:
        """Suit whoever computes now; called between one step of a task and the next."""


def _no_accelerator() -> None:
    """Tell of no memory: there is no device that has some of its own."""


class Alone:
    """Nobody else is there."""

    def announce(self) -> None:
        """Tell nobody."""

    def rest(self) -> None:
        """Likewise."""

    def adjust(self) -> None:
        """Leave everything as it is."""


class Worker:
    """Does tasks: jobs one after the other, interactive ones in turns."""

    def __init__(
        self,
        channel: Channel,
        make_runner: Callable[[Send], Runner],
        idle_seconds: float,
        make_sharing: Callable[[], Sharing] = Alone,
        accelerator_bytes: Callable[[], int | None] = _no_accelerator,
    ) -> None:
        self._accelerator_bytes = accelerator_bytes
        self.channel = channel
        self.inbox = Inbox(channel)
        self.interactive = InteractiveTurns(self.inbox, self.do)
        self._ticks_at_step, self._made_progress = 0, False
        self._task_in_hand: int | None = None
        threading.Thread(target=self.inbox.fill, daemon=True).start()
        # Made with the thread running: the API process may end in the seconds that importing torch takes.
        self._runner = make_runner(channel.send)
        self.sharing = make_sharing()
        self._tasks_in_hand = 0
        self._idle_seconds = idle_seconds
        threading.Thread(target=self._send_heartbeats, daemon=True).start()

    def mark_progress(self, task_id: int | None = None) -> None:
        """Note that a task has got from one step to the next, and has the worker in hand."""
        self._made_progress, self._task_in_hand = True, task_id

    def _send_heartbeats(self) -> None:
        """Send a heartbeat every second, with how long the task in hand has been at one step.

        Time is counted in ticks: while the machine sleeps or this process is stopped, there are none.
        """
        while True:
            time.sleep(_SECONDS_BETWEEN_HEARTBEATS)
            self._ticks_at_step = 0 if self._made_progress else self._ticks_at_step + 1
            self._made_progress = False
            if self._tasks_in_hand:
                self.sharing.announce()
            try:
                seconds = self._ticks_at_step * _SECONDS_BETWEEN_HEARTBEATS
                self.channel.send(WorkerAlive(seconds, self._task_in_hand, self._accelerator_bytes()))
            except OSError:
                return  # The API process is gone; the inbox ends this one.

    def serve(self) -> None:
        """Do tasks until the API process is gone."""
        self.channel.send(self._runner.describe())
        while True:
            message = self.inbox.take(timeout=_IDLE_CHECK_SECONDS)
            self.mark_progress()
            if message is None:
                self._runner.rest(self._idle_seconds)
            elif message.lane == "interactive":
                self.interactive.run(message)
            else:
                self.do(message)

    def do(self, message: StartTask) -> None:
        """Do one task and send its last word."""
        context = RunningTask(self, message)
        self._tasks_in_hand += 1
        self.sharing.announce()
        self.channel.send(TaskBegan(message.task_id))
        self.mark_progress(message.task_id)
        try:
            context.check()
            result = self._runner.do(message.task, context)
            answer: FromWorker = TaskSucceeded(message.task_id, result)
        except CancelRequested:
            answer = TaskCanceledMessage(message.task_id)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # A panic of a Rust library is no Exception.
            answer = failure_of(message.task_id, error)
        self._tasks_in_hand -= 1
        if not self._tasks_in_hand:
            self.sharing.rest()
        self.inbox.forget(message.task_id)
        self.channel.send(answer)


def main() -> None:
    """Run a worker on the socket whose file descriptor is the first argument."""
    parser = argparse.ArgumentParser()
    parser.add_argument("descriptor", type=int)
    parser.add_argument("lanes")
    parser.add_argument("--log-descriptor", type=int, default=2)
    parser.add_argument("--log-format", default="console")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--idle-unload-seconds", type=float, default=900)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--board", type=int)
    parser.add_argument("--board-place", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--matmul-precision", default="highest")
    parser.add_argument("--low-priority", action="store_true")
    parser.add_argument("--memory-bytes", type=int)
    options = parser.parse_args()
    # What libraries print goes elsewhere than the log.
    stream = os.fdopen(options.log_descriptor, "w", buffering=1, closefd=False)
    logs.configure(options.log_format, options.log_level, stream)
    ignore_signals_to_stop()
    die_with_parent()
    offer_to_the_memory_killer()
    if options.memory_bytes is not None:
        limit_memory(options.memory_bytes)
    if options.low_priority:
        os.nice(LOW_PRIORITY_NICENESS)
    if options.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    channel = Channel(socket.socket(fileno=options.descriptor))
    if options.lanes == "downloads":
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        logging.getLogger("httpx").setLevel(logging.WARNING)  # It has a line for each request.
        Worker(channel, _downloader, options.idle_unload_seconds).serve()
        return
    # What computes waits for no network: downloads come before it, in processes of their own.
    os.environ["HF_HUB_OFFLINE"] = "1"
    make_runner = partial(_task_runner, options.device, options.matmul_precision)
    make_sharing = partial(_thread_waits, options.board, options.board_place, options.lanes)
    Worker(channel, make_runner, options.idle_unload_seconds, make_sharing, _held_bytes).serve()


def ignore_signals_to_stop() -> None:
    """Leave Ctrl-C and a service manager's SIGTERM, which reach this process too, to the API process."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)


def _downloader(send: Send) -> Runner:
    from gql_server.compute.downloading.downloader import Downloader  # It imports huggingface_hub.

    return Downloader(send)


def _task_runner(device: str | None, matmul_precision: str, send: Send) -> Runner:
    from gql_server.compute.worker.task_runner import TaskRunner  # It imports torch.

    return TaskRunner(send, device, matmul_precision)


def _held_bytes() -> int | None:
    from gql_server.compute.devices import held_bytes  # It imports torch.

    return held_bytes()


def _thread_waits(descriptor: int | None, place: int, lanes: str) -> Sharing:
    from gql_server.compute.worker.thread_waits import ThreadWaits  # It imports torch.
    from gql_server.compute.worker.worker_board import WorkerBoard

    lane: Lane = "jobs" if lanes == "jobs" else "interactive"
    return ThreadWaits(None if descriptor is None else WorkerBoard(descriptor, place), lane)


if __name__ == "__main__":
    main()
