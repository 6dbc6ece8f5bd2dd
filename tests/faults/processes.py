"""Which processes can be killed, and how: with SIGKILL, as the system does it where memory runs out."""

import os
import signal
import time
from enum import StrEnum
from pathlib import Path

PAUSE_SECONDS = 0.02


class Target(StrEnum):
    """What is killed."""

    JOB_WORKER = "job worker"
    INTERACTIVE_WORKER = "interactive worker"
    SERVER = "server"


_LANES = {Target.JOB_WORKER: "jobs", Target.INTERACTIVE_WORKER: "interactive"}


def children(pid: int) -> list[int]:
    """Return the processes that a process has started; none where it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def worker(server: int, target: Target) -> int | None:
    """Return a server's worker for jobs or for interactive work, or None where none runs."""
    return next((child for child in children(server) if _LANES[target] in _lanes(child)), None)


def is_gone(pid: int) -> bool:
    """Say whether a process has ended; one that nobody has waited for has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    """Wait until processes have ended, or for so long; returns those that have not."""
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if not is_gone(pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(PAUSE_SECONDS)
    return left


def kill(pid: int) -> None:
    """End a process without asking it."""
    os.kill(pid, signal.SIGKILL)


def _lanes(pid: int) -> list[str]:
    """Return the lanes on a worker's command line: -m, module, socket, lanes, options."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return words[4].split(",") if "gql_server.compute.worker.main" in words else []
