"""The worker's loop, without a process or a socket."""

import queue
import threading
import time
from typing import Any, cast

import pytest

from gql_server.compute.channel import Channel
from gql_server.compute.messages.wire import WorkerAlive
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
