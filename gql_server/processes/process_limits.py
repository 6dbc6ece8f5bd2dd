"""What a worker or a reader arranges with the operating system for itself."""

import ctypes
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1
_FIRST_TO_BE_KILLED = "500"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
_HIGHEST_BY_ITSELF = 32 * 2**20
"""Up to which glibc raises its threshold for mapped blocks as they are freed; twice that for the other."""


def die_with_parent() -> None:
    """Have the system kill this process when the API process ends, even inside a library's long call.

    Linux only; elsewhere the worker ends when it next looks at its socket.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def offer_to_the_memory_killer() -> None:
    """Where the machine's memory runs out, have this process killed before the API process (Linux only)."""
    try:
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_BE_KILLED)
    except OSError as error:
        log.debug("oom_score_adj stays as it is", reason=str(error))


def limit_memory(n_bytes: int) -> None:
    """Make allocations fail that would take this process's data over ``n_bytes``.

    Program code, shared libraries and mapped files do not count (RLIMIT_DATA).
    """
    resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed for what is asked for next, until the end (glibc only).

    By itself glibc gives large blocks back to the kernel, which clears the next one page by page: a fifth of
    the time of a training step over 16,384 latents.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _NEVER)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _HIGHEST_BY_ITSELF)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _HIGHEST_BY_ITSELF)
        libc.malloc_trim(0)
