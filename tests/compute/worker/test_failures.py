"""What people are told of an error in a task."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gql_server.artifacts.disk import FORBIDDEN, FULL, check_free, problem_of, used_bytes
from gql_server.compute.worker.context import TaskError
from gql_server.compute.worker.failures import INTERNAL, OUT_OF_MEMORY, failure_of


def raised(cause: BaseException, error: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        raised(MemoryError(), TaskError("The language model could not be loaded.", "CONFLICT")),
    ],
)
def test_want_of_memory_is_told_as_such(error: Exception) -> None:
    failed = failure_of(1, error)
    assert (failed.code, failed.reason) == ("OUT_OF_MEMORY", OUT_OF_MEMORY)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), FULL),
        (raised(OSError(errno.EDQUOT, "x"), OSError("Failed to save tensor")), FULL),
        (raised(OSError(errno.ENOSPC, "x"), TaskError("Something else.")), FULL),
        (RuntimeError("database or disk is full"), FULL),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), FULL),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), FORBIDDEN),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), FORBIDDEN),
        (OSError(errno.EISDIR, "Is a directory"), "A file could not be used: Is a directory."),
        (ZeroDivisionError(), INTERNAL),
    ],
)
def test_the_disk_is_named_where_it_is_the_cause(error: Exception, reason: str) -> None:
    assert failure_of(1, error).reason == reason


def test_a_sentence_of_the_task_stays_with_its_code_and_path() -> None:
    failed = failure_of(7, TaskError("No such layer.", "INVALID", ("layers", "0")))
    assert (failed.task_id, failed.code, failed.reason, failed.path) == (
        7,
        "INVALID",
        "No such layer.",
        ["layers", "0"],
    )


def test_what_libraries_say_of_a_file_that_may_not_grow_is_understood(tmp_path: Path) -> None:
    """A real error out of safetensors, whose own class has no errno: here the file's size is limited."""
    script = f"""
import resource, signal, torch
from safetensors.torch import save_file
from gql_server.artifacts.disk import problem_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    save_file({{"x": torch.zeros(10000)}}, {str(tmp_path / "x.safetensors")!r})
except Exception as error:
    print(type(error).__name__, problem_of(error))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(FULL), done.stdout + done.stderr


def test_a_limit_of_memory_makes_an_allocation_fail_that_is_then_told(tmp_path: Path) -> None:
    script = """
import torch
from gql_server.compute.worker.failures import failure_of
from gql_server.processes.process_limits import limit_memory
limit_memory(1_000_000_000)
torch.zeros(10_000_000).fill_(1)
try:
    torch.zeros(1_000_000_000).fill_(1)
except Exception as error:
    print(failure_of(1, error).code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "OUT_OF_MEMORY", done.stdout + done.stderr


def test_room_on_the_disk_is_asked_for_before_writing(tmp_path: Path) -> None:
    check_free(tmp_path, 1, 0)
    with pytest.raises(OSError, match="No space left") as error:
        check_free(tmp_path, 2**60, 0)
    assert problem_of(error.value) == FULL


def test_the_size_of_a_directory_is_that_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "x").write_bytes(b"123")
    (tmp_path / "a" / "b" / "y").write_bytes(b"12345")
    assert used_bytes(tmp_path) == 8
