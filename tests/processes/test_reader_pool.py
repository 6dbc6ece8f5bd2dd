"""Reading in processes that may be ended: whatever happens there, the server's own goes on."""

import asyncio
import mmap
import os
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_process

from gql_server.errors import QueueFull
from gql_server.processes.reader_pool import STARTS, Pool, ReadingEnded

MEMORY = 2**28


class Panic(BaseException):
    """As a Rust library's, which is no Exception."""


def pid() -> int:
    return os.getpid()


def note_pid_and_sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def take_memory() -> int:
    return len(bytearray(2 * MEMORY))


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def read_what_is_cut_off() -> int:
    """Read a mapped file behind where it ends by now, as under a copy that is written over it."""
    with tempfile.TemporaryFile() as file:
        file.truncate(2 * mmap.PAGESIZE)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        file.truncate(0)
        return mapped[mmap.PAGESIZE]


def panic() -> None:
    raise Panic("of a library, with a path in it")


def refuse() -> None:
    raise ValueError("as it is")


def print_much() -> int:
    return os.write(2, b"x" * 2**20)


PROCESSES, MAX_WAITING = 2, 16


def readers(seconds: float = 60) -> Pool:
    return Pool(
        "files",
        processes=PROCESSES,
        max_waiting=MAX_WAITING,
        seconds=seconds,
        memory_bytes=MEMORY,
    )


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


def pid_in(path: Path) -> int:
    """Wait until a function has noted its process."""
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    return int(path.read_text())


async def test_a_process_is_kept_for_the_next_and_what_it_prints_is_in_nobodys_way() -> None:
    reading = readers()
    first = await reading.run(pid)
    assert await reading.run(print_much) == 2**20
    assert first == await reading.run(pid) != os.getpid()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (take_memory, "it needs more than 256 MiB of memory"),
        (crash, "the process that reads it has ended"),
        (partial(crash), "the process that reads it has ended"),
        (read_what_is_cut_off, "the process that reads it has ended"),
        (panic, r"the library that does it gives up \(Panic\)"),
    ],
)
async def test_what_takes_too_much_or_breaks_is_told_and_the_next_is_read(
    function: Callable[[], object], reason: str
) -> None:
    reading = readers()
    with pytest.raises(ReadingEnded, match=reason):
        await reading.run(function)
    assert await reading.run(pid)


async def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    await readers().run(pid)  # Starting a process takes its time, too.
    reading = readers(seconds=4)
    with pytest.raises(ReadingEnded, match="takes more than 4 seconds"):
        await reading.run(note_pid_and_sleep, str(tmp_path / "pid"))
    assert not is_there(pid_in(tmp_path / "pid"))


async def test_it_ends_when_whoever_waits_for_it_goes(tmp_path: Path) -> None:
    waiting = asyncio.ensure_future(readers().run(note_pid_and_sleep, str(tmp_path / "pid")))
    process = await asyncio.to_thread(pid_in, tmp_path / "pid")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not is_there(process)


async def test_a_mistake_of_the_function_is_raised() -> None:
    with pytest.raises(ValueError, match="as it is"):
        await readers().run(refuse)


async def test_beyond_a_number_that_waits_the_next_is_refused(tmp_path: Path) -> None:
    reading = readers()
    waiting = [
        asyncio.ensure_future(reading.run(note_pid_and_sleep, str(tmp_path / str(number))))
        for number in range(PROCESSES + MAX_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match=f"{MAX_WAITING} files wait"):
        await reading.run(pid)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await reading.run(pid)


@pytest.mark.parametrize("times", [STARTS - 1, STARTS])
async def test_a_process_that_does_not_start_is_no_fault_of_the_file(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has not started within anyio's 20 seconds is as one that has ended."""
    left = iter(range(times))
    run_sync = to_process.run_sync

    async def started(*args: Any, **options: Any) -> Any:
        if next(left, None) is not None:
            raise anyio.BrokenWorkerProcess
        return await run_sync(*args, **options)

    monkeypatch.setattr(to_process, "run_sync", started)
    if times < STARTS:
        assert await readers().run(pid) != os.getpid()
    else:
        with pytest.raises(QueueFull, match="too busy to start a process that reads files"):
            await readers().run(pid)
