"""One server owns an artifact directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyOwned(Exception):
    """Another server works on the artifact directory."""


@contextmanager
def artifact_lock(artifact_dir: Path) -> Iterator[None]:
    """Hold the directory's lock while the block runs; the system frees it however this process ends.

    It is on the directory itself, which stays where somebody deletes files in it, and on a file that says who
    has it, which is all that earlier versions look at.

    Raises:
        AlreadyOwned: Another process holds it.
    """
    artifact_dir.mkdir(parents=True, exist_ok=True)
    with _opened(artifact_dir) as directory, (artifact_dir / ".lock").open("a+") as file:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise AlreadyOwned(
                f"Another server (process {file.read().strip() or 'unknown'}) uses {artifact_dir}; "
                "stop it, or choose another directory with --artifacts or GQL_SERVER_ARTIFACT_DIR."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
