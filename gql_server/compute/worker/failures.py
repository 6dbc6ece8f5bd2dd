"""What an error in a task means for people: memory, the disk, the request, or a mistake of ours."""

import errno
import traceback

import structlog

from gql_server.artifacts.disk import FULL, causes, problem_of
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.wire import TaskFailed

log = structlog.get_logger(__name__)

OUT_OF_MEMORY = "There was not enough memory: use a smaller batch, fewer neurons or a smaller model."
INTERNAL = "The task failed because of a mistake in the server; the server's log says more."

GAVE_UP = "A library gave up over the language model's files, such as its tokenizer: they are damaged."

_MEMORY_WORDS = ("can't allocate memory", "bad_alloc", "bad allocation", "CUDA out of memory")
"""What torch's allocators and the C++ library say in a plain RuntimeError."""


def failure_of(task_id: int, error: BaseException) -> TaskFailed:
    """Return the last word on a task that raised ``error``."""
    stack = "".join(traceback.format_exception(error))
    if not isinstance(error, Exception):
        log.error("library gave up", traceback=stack)
        return TaskFailed(task_id, "FAILED", GAVE_UP, [], stack)
    if any(_is_about_memory(one) for one in causes(error)):
        return TaskFailed(task_id, "OUT_OF_MEMORY", OUT_OF_MEMORY, [], stack)
    problem = problem_of(error)
    # What the task says of a file names it; but that the disk is full is the better reason.
    if isinstance(error, TaskError) and problem != FULL:
        return TaskFailed(task_id, error.code, error.reason, error.path, "")
    if problem is not None:
        return TaskFailed(task_id, "FAILED", problem, [], stack)
    if isinstance(error, OSError) and error.errno is not None:
        return TaskFailed(task_id, "FAILED", f"A file could not be used: {error.strerror}.", [], stack)
    log.error("task failed", traceback=stack)
    return TaskFailed(task_id, "INTERNAL", INTERNAL, [], stack)


def _is_about_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_WORDS)
