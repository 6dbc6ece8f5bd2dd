"""The threads of two workers on the same processors."""

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest
import torch

from gql_server.compute.lane_board import LaneBoard
from gql_server.compute.messages.wire import LANE_BOARD_BYTES, Lane
from gql_server.compute.processors import OtherProcesses
from gql_server.compute.thread_share import ThreadShare, share


@pytest.fixture
def descriptor() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.truncate(LANE_BOARD_BYTES)
        yield file.fileno()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("most", "other_computes", "taken", "jobs", "interactive"),
    [
        (2, False, 0, 2, 2),
        (2, True, 0, 1, 1),
        (2, False, 2, 1, 1),
        (1, True, 0, 1, 1),
        (3, True, 0, 1, 2),
        (16, True, 0, 8, 8),
        (16, False, 6, 10, 10),
        (16, True, 6, 5, 5),
        (16, True, 40, 1, 1),
    ],
)
def test_both_lanes_together_use_what_others_leave(
    most: int, other_computes: bool, taken: int, jobs: int, interactive: int
) -> None:
    assert share(most, "jobs", other_computes, taken) == jobs
    assert share(most, "interactive", other_computes, taken) == interactive


def test_a_lane_sees_when_the_other_computes_and_in_which_process(descriptor: int) -> None:
    jobs, interactive = LaneBoard(descriptor, "jobs"), LaneBoard(descriptor, "interactive")
    assert (jobs.other_computes(), interactive.other_computes()) == (False, False)
    jobs.say(60)
    assert (jobs.other_computes(), interactive.other_computes()) == (False, True)
    assert interactive.other_process() == os.getpid()
    jobs.say(0)
    assert not interactive.other_computes()


def test_what_a_killed_worker_said_last_does_not_hold_for_long(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, other = LaneBoard(descriptor, "jobs"), LaneBoard(descriptor, "interactive")
    killed.say(3)
    then = struct.unpack_from("=q", os.pread(descriptor, LANE_BOARD_BYTES, 0))[0]
    monkeypatch.setattr("gql_server.compute.lane_board.time.monotonic_ns", lambda: then - 1)
    assert other.other_computes()
    monkeypatch.setattr("gql_server.compute.lane_board.time.monotonic_ns", lambda: then + 1)
    assert not other.other_computes()


def test_a_lanes_next_process_begins_at_rest(descriptor: int) -> None:
    LaneBoard(descriptor, "jobs").say(60)
    LaneBoard(descriptor, "jobs")
    assert not LaneBoard(descriptor, "interactive").other_computes()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("lane", "other"), [("jobs", "interactive"), ("interactive", "jobs")])
def test_threads_follow_what_the_other_lane_does(
    descriptor: int, lane: Lane, other: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OtherProcesses, "processors", lambda self, without: 0.0)
    here = ThreadShare(LaneBoard(descriptor, lane), lane)
    there = ThreadShare(LaneBoard(descriptor, other), other)
    threads = []
    for event in (here.sign, there.sign, here.sign):
        event()
        here.adjust()
        threads.append(torch.get_num_threads())
    LaneBoard(descriptor, other)  # Its next process, at rest.
    here.adjust()
    assert [*threads, torch.get_num_threads()] == [2, 1, 1, 2]


@pytest.mark.usefixtures("two_threads")
def test_busy_processes_of_others_leave_one_thread(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([0.6, 1.4, 0.2])
    monkeypatch.setattr(OtherProcesses, "processors", lambda self, without: next(busy))
    monkeypatch.setattr("gql_server.compute.thread_share._SECONDS_BETWEEN_LOOKS", 0)
    here = ThreadShare(LaneBoard(descriptor, "jobs"), "jobs")
    threads = []
    for _ in range(3):
        here.adjust()
        threads.append(torch.get_num_threads())
    assert threads == [2, 1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts processors' time in /proc")
def test_other_processes_time_is_counted_and_that_of_workers_is_not() -> None:
    every, others = OtherProcesses(), OtherProcesses()
    spin = "import time\nprint(flush=True)\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        assert (every.processors([]), others.processors([child.pid])) == (0, 0)
        child.stdout.readline()
        counted, without_child = every.processors([]), others.processors([child.pid])
        child.stdin.close()
    assert 0 <= without_child < counted <= len(os.sched_getaffinity(0)) + 0.1


def test_a_process_that_is_gone_takes_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    others = OtherProcesses()
    others.processors([gone.pid])
    assert others.processors([gone.pid]) >= 0
