"""The tasks that wait in a worker."""

import os
import threading
from collections import deque
from collections.abc import Callable

from gql_server.compute.worker.channel import Channel
from gql_server.protocol.wire import (
    CancelTask,
    Lane,
    StartTask,
    TaskCanceledMessage,
    ToWorker,
)

_IN_ORDER: tuple[Lane, ...] = ("interactive", "jobs", "downloads")


class Inbox:
    """Tasks that wait, by lane, and which were canceled; filled by a thread of its own."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: dict[Lane, deque[StartTask]] = {lane: deque() for lane in _IN_ORDER}
        self._begun: set[int] = set()
        self._canceled: set[int] = set()
        self._changed = threading.Condition()

    def fill(self) -> None:
        """Receive until the API process is gone, then end this process at once: nobody waits for it."""
        exit_code = 1
        try:
            while True:
                self._put(self._channel.receive())
        except (EOFError, ConnectionError):
            exit_code = 0
        finally:
            os._exit(exit_code)

    def _put(self, message: ToWorker) -> None:
        match message:
            case StartTask():
                with self._changed:
                    self._waiting[message.lane].append(message)
                    self._changed.notify()
            case CancelTask(task_id):
                if self._cancel(task_id):
                    self._channel.send(TaskCanceledMessage(task_id))

    def _cancel(self, task_id: int) -> bool:
        """Take a waiting task out, or mark one that has begun; returns whether it was taken out."""
        with self._changed:
            for waiting in self._waiting.values():
                for message in waiting:
                    if message.task_id == task_id:
                        waiting.remove(message)
                        return True
            if task_id in self._begun:
                self._canceled.add(task_id)
            return False

    def take(self, lane: Lane | None = None, timeout: float | None = 0) -> StartTask | None:
        """Return the next task of a lane, or of any (interactive first), or None after the timeout."""
        lanes: tuple[Lane, ...] = (lane,) if lane else _IN_ORDER
        with self._changed:
            self._changed.wait_for(lambda: any(self._waiting[name] for name in lanes), timeout)
            for name in lanes:
                if self._waiting[name]:
                    message = self._waiting[name].popleft()
                    self._begun.add(message.task_id)
                    return message
        return None

    def take_that(
        self,
        is_wanted: Callable[[StartTask], bool],
        may_begin: Callable[[StartTask], bool] = lambda message: True,
    ) -> StartTask | None:
        """Return the first interactive task that waits and is wanted, if it may begin, or None."""
        with self._changed:
            waiting = self._waiting["interactive"]
            message = next(filter(is_wanted, waiting), None)
            if message is None or not may_begin(message):
                return None
            waiting.remove(message)
            self._begun.add(message.task_id)
            return message

    def canceled(self, task_id: int) -> bool:
        """Whether a task that has begun was asked to stop."""
        return task_id in self._canceled

    def forget(self, task_id: int) -> None:
        """Drop what is known of an ended task."""
        with self._changed:
            self._begun.discard(task_id)
            self._canceled.discard(task_id)
