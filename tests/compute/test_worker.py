"""The worker's loop, without a process or a socket."""

import queue
import threading
import time
from typing import Any, cast

import pytest

from gql_server.compute.channel import Channel
from gql_server.compute.failures import GAVE_UP
from gql_server.compute.messages.tasks import UnloadLanguageModel
from gql_server.compute.messages.wire import StartTask, TaskBegan, WorkerAlive
from gql_server.compute.worker import Tools, Worker


class Sent:
    """A channel that keeps what is sent, and on which nothing comes."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()

    def send(self, message: object) -> None:
        self.messages.put(message)

    def receive(self) -> object:
        threading.Event().wait()
        raise AssertionError


def test_a_task_stands_still_for_as_many_looks_as_were_made_whatever_the_clock_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: queue.Queue[None] = queue.Queue()
    hours = iter(range(0, 3600 * 1000, 3600))
    monkeypatch.setattr(time, "sleep", lambda _: looks.get())
    monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
    channel = Sent()
    worker = Worker(cast("Channel", channel), lambda send: cast("Tools", None), 900)
    for seconds in (1.0, 2.0, 3.0):
        looks.put(None)
        assert channel.messages.get(timeout=10) == WorkerAlive(seconds)
    worker.get_on()
    looks.put(None)
    assert channel.messages.get(timeout=10) == WorkerAlive(0.0)
    looks.put(None)
    assert channel.messages.get(timeout=10) == WorkerAlive(1.0)


class Panic(BaseException):
    """As a Rust library's, which is no Exception."""


class Panicking:
    """Tools that a library lets down."""

    def do(self, task: object, context: object) -> None:
        raise Panic("of a library, with a path in it")


def test_a_library_that_panics_fails_the_task_and_the_worker_goes_on() -> None:
    channel = Sent()
    worker = Worker(cast("Channel", channel), lambda send: cast("Tools", Panicking()), 900)
    for task_id in (1, 2):
        worker.do(StartTask(task_id, "interactive", UnloadLanguageModel("lm_a")))
        assert channel.messages.get(timeout=10) == TaskBegan(task_id)
        failed = channel.messages.get(timeout=10)
        assert (failed.task_id, failed.code, failed.reason) == (task_id, "FAILED", GAVE_UP)
