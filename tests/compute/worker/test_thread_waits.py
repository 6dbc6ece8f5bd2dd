"""How the threads of workers on the same processors wait."""

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from gql_server.compute.worker.processors import OtherProcesses, allowed_processors
from gql_server.compute.worker.thread_waits import ShortSpins, ThreadWaits
from gql_server.compute.worker.worker_board import WorkerBoard
from gql_server.protocol.wire import BOARD_PLACE_BYTES, Lane

INTERACTIVE, JOBS, MORE_JOBS = range(3)
"""Places on the board."""


@pytest.fixture
def descriptor() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.truncate(3 * BOARD_PLACE_BYTES)
        yield file.fileno()


def test_a_worker_sees_when_others_compute_and_in_which_processes(descriptor: int) -> None:
    interactive, *job_workers = (WorkerBoard(descriptor, place) for place in range(3))
    for jobs, other in (job_workers, job_workers[::-1]):
        assert not any(worker.others_compute() for worker in (interactive, *job_workers))
        jobs.say(60)
        assert (jobs.others_compute(), other.others_compute(), interactive.others_compute()) == (
            False,
            True,
            True,
        )
        jobs.say(0)
    assert interactive.other_processes() == 2 * [os.getpid()]
    assert not interactive.others_compute()


def test_who_has_not_started_is_no_process(descriptor: int) -> None:
    WorkerBoard(descriptor, JOBS)
    assert WorkerBoard(descriptor, INTERACTIVE).other_processes() == [os.getpid()]


def test_what_a_killed_worker_said_last_does_not_hold_for_long(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, other = WorkerBoard(descriptor, 0), WorkerBoard(descriptor, 1)
    killed.say(3)
    then = struct.unpack_from("=q", os.pread(descriptor, 8, 0))[0]
    monkeypatch.setattr("gql_server.compute.worker.worker_board.time.monotonic_ns", lambda: then - 1)
    assert other.others_compute()
    monkeypatch.setattr("gql_server.compute.worker.worker_board.time.monotonic_ns", lambda: then + 1)
    assert not other.others_compute()


def test_a_workers_next_process_begins_at_rest(descriptor: int) -> None:
    WorkerBoard(descriptor, JOBS).say(60)
    WorkerBoard(descriptor, JOBS)
    assert not WorkerBoard(descriptor, INTERACTIVE).others_compute()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Give a list of whether spins are to be short, a value for each adjustment."""
    found: list[bool] = []
    monkeypatch.setattr(ShortSpins, "set", lambda self, wanted: found.append(wanted))
    return found


@pytest.mark.parametrize(("place", "other"), [(JOBS, INTERACTIVE), (INTERACTIVE, JOBS), (JOBS, MORE_JOBS)])
def test_waits_follow_what_other_workers_do(
    descriptor: int, place: int, other: int, short: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OtherProcesses, "processors", lambda self, without: 0.0)
    here = ThreadWaits(WorkerBoard(descriptor, place), _lane(place))
    there = ThreadWaits(WorkerBoard(descriptor, other), _lane(other))
    for event in (here.announce, there.announce, here.announce):
        event()
        here.adjust()
    WorkerBoard(descriptor, other)  # Its next process, at rest.
    here.adjust()
    assert short == [False, True, True, False]


def _lane(place: int) -> Lane:
    return "interactive" if place == INTERACTIVE else "jobs"


def test_waits_follow_what_other_programs_do_with_one_worker_too(
    short: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = iter([0.6, 1.4, 0.2])
    monkeypatch.setattr(OtherProcesses, "processors", lambda self, without: next(busy))
    monkeypatch.setattr("gql_server.compute.worker.thread_waits._SECONDS_BETWEEN_LOOKS", 0)
    here = ThreadWaits(None, "interactive")
    for _ in range(3):
        here.announce()
        here.adjust()
        here.rest()
    assert short == [False, True, False]


SPINNING = """
import time
import torch
from gql_server.compute.worker.thread_waits import ShortSpins

spins = ShortSpins()
tensor = torch.ones(200_000)
for wanted in (False, True, True, False):
    spins.set(wanted)
    time.sleep(0.2)
    began = time.process_time()
    for _ in range(100):
        tensor.add_(1)
        time.sleep(0.002)
    print(time.process_time() - began, torch.get_num_threads())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere OpenMP is another one")
@pytest.mark.skipif(allowed_processors() < 2, reason="one thread waits for nobody")
def test_threads_that_wait_use_little_time_where_spins_are_short_and_are_as_many() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SPINNING], capture_output=True, text=True, check=True, timeout=120
    )
    (long, first, again, restored), threads = zip(
        *((float(used), n) for used, n in map(str.split, shown.stdout.splitlines())), strict=True
    )
    assert max(first, again) < min(long, restored) / 2
    assert len(set(threads)) == 1


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
