"""Files of somebody else: copied before they are read, so that what is read is what the hash is of."""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gql_server.compute.context import TaskError

CHUNK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class TakenFile:
    """A copy of a file, and what it is a copy of."""

    name: str
    path: Path
    byte_size: int
    sha256: str


def size_of(name: str, path: Path, most_bytes: int) -> int:
    """Return a file's size; TaskError where it is none that can be read, or larger than it may be."""
    try:
        status = path.lstat()
    except OSError as error:
        raise TaskError(f"{name} is not there any more.") from error
    if not stat.S_ISREG(status.st_mode):
        raise TaskError(f"{name} is not a plain file any more.")
    if status.st_size > most_bytes:
        raise TaskError(f"{name} has {status.st_size:,} bytes; it can have {most_bytes:,} at the most.")
    return status.st_size


def take(name: str, path: Path, copy: Path, size: int, on_bytes: Callable[[int], None]) -> TakenFile:
    """Copy a file of the given size.

    Args:
        name: For sentences.
        path: The file; where a link has taken its place, it is not followed.
        copy: Where to.
        size: How many bytes it has.
        on_bytes: Called after each piece with its length.

    Raises:
        TaskError: It has changed meanwhile.
    """
    digest, taken = hashlib.sha256(), 0
    with _opened(name, path) as source, copy.open("xb") as target:
        while piece := source.read(min(CHUNK_BYTES, size + 1 - taken)):
            taken += len(piece)
            if taken > size:
                break
            digest.update(piece)
            target.write(piece)
            on_bytes(len(piece))
    if taken != size:
        raise TaskError(f"{name} changed while it was read; import it again.")
    return TakenFile(name, copy, size, digest.hexdigest())


def _opened(name: str, path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TaskError(f"{name} cannot be read: {error.strerror}.") from error
    return os.fdopen(descriptor, "rb")
