"""Other people's files, copied before they are read: the hash is that of what is read."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gql_server.artifacts.files import open_inside
from gql_server.compute.worker.context import TaskError

CHUNK_BYTES = 8 * 1024 * 1024
_NOT_PLAIN = {errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO}
"""Error numbers of opening a link, a directory or a pipe as a file."""


@dataclass(frozen=True)
class Source:
    """An open file of somebody else."""

    name: str
    """The name that messages use."""
    path: Path
    file: BinaryIO
    byte_size: int


@dataclass(frozen=True)
class TakenFile:
    """A file to which nobody else writes, mostly a copy, and what was copied."""

    name: str
    path: Path
    byte_size: int
    sha256: str


@contextmanager
def opened(name: str, path: Path, roots: Sequence[Path]) -> Iterator[Source]:
    """Open a file under one of ``roots``, with no link on the way.

    Raises TaskError where there is none that can be read.
    """
    try:
        file = open_inside(path, roots)
    except FileNotFoundError as error:
        raise TaskError(f"{name} is not there any more.") from error
    except OSError as error:
        if error.errno in _NOT_PLAIN:
            raise TaskError(
                f"{name} is not a plain file any more, or a directory above it has become a link."
            ) from error
        raise TaskError(f"{name} cannot be read: {error.strerror}.") from error
    with file:
        yield Source(name, path, file, os.fstat(file.fileno()).st_size)


def check_size(source: Source, most_bytes: int) -> None:
    """Raise TaskError where a file is larger than it may be."""
    if source.byte_size > most_bytes:
        raise TaskError(f"{source.name} has {source.byte_size:,} bytes; the limit is {most_bytes:,}.")


def take(source: Source, copy: Path | None, on_bytes: Callable[[int], None]) -> TakenFile:
    """Copy a file, and hash it.

    Args:
        source: The file.
        copy: Where to; None for a file to which nobody else writes, which stays where it is.
        on_bytes: Called after each piece with its length.

    Raises:
        TaskError: It has changed since it was opened.
    """
    name, size = source.name, source.byte_size
    source.file.seek(0)
    digest, taken = hashlib.sha256(), 0
    with nullcontext() if copy is None else copy.open("xb") as target:
        while piece := source.file.read(min(CHUNK_BYTES, size + 1 - taken)):
            taken += len(piece)
            if taken > size:
                break
            digest.update(piece)
            if target is not None:
                target.write(piece)
            on_bytes(len(piece))
    if taken != size:
        raise TaskError(f"{name} changed while it was read; import it again.")
    return TakenFile(name, copy or source.path, size, digest.hexdigest())
