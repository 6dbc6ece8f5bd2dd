"""Atomic writes of files and directories, and paths that stay inside allowed directories."""

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY_PREFIX = ".partial-"


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(directory: Path) -> None:
    """Flush a directory and all its files to the disk."""
    for file in directory.rglob("*"):
        if file.is_file():
            _fsync_file(file)
    for one in (directory, *(inner for inner in directory.rglob("*") if inner.is_dir())):
        _fsync_directory(one)


def temporary_path(directory: Path) -> Path:
    """Return an unused temporary path in a directory; leftovers are removed at the next start."""
    return directory / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a path beside ``path``; what is written there takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path.parent)
    try:
        yield temporary
        _fsync_file(temporary)
        temporary.replace(path)
        _fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_changed(path: Path, content: bytes) -> None:
    """Write a file as ``atomic_write``, unless it has that content."""
    if not path.exists() or path.read_bytes() != content:
        atomic_write(path, content)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give an empty directory beside ``path`` that takes its place when the block ends without an error.

    What stood at ``path`` before is removed then. After an error nothing at ``path`` has changed. Killed at
    any moment, there is the old directory or the new one or, for the moment between two renames, none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, replaced = temporary_path(path.parent), temporary_path(path.parent)
    temporary.mkdir()
    try:
        yield temporary
        fsync_tree(temporary)
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
        _fsync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def resolve_inside(path: str, roots: Sequence[Path]) -> Path | None:
    """Return the real path that ``path`` names if it lies under one of ``roots``, else None.

    A relative path is looked for under each root in turn. Links and ``..`` are followed before the check.
    """
    if not path or "\0" in path:
        return None
    given = Path(path)
    real_roots = [root.resolve() for root in roots]
    for candidate in [given] if given.is_absolute() else [root / given for root in real_roots]:
        try:
            real = candidate.resolve()
            if any(real == root or root in real.parents for root in real_roots) and real.exists():
                return real
        except (OSError, RuntimeError, ValueError):
            continue  # Too long a name, a link to itself, or no name at all: there is no such file.
    return None


def leads_out(directory: Path, roots: Sequence[Path]) -> str | None:
    """Return the place of a link in a directory that leads to something outside of ``roots``, or None.

    What it leads to need not be there.
    """
    real_roots = [root.resolve() for root in roots]
    for above, directories, files in os.walk(directory):
        for path in (Path(above, name) for name in sorted((*directories, *files))):
            if path.is_symlink():
                real = Path(os.path.realpath(path))
                if not any(real == root or root in real.parents for root in real_roots):
                    return str(path.relative_to(directory))
    return None


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file to read it; a pipe, which would be waited for, is none.

    Raises:
        OSError: It is not there, no plain file, or cannot be read.
    """
    return _plain(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path)


def _plain(descriptor: int, path: Path) -> BinaryIO:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


def open_inside(path: Path, roots: Sequence[Path]) -> BinaryIO:
    """Open a plain file under one of ``roots`` to read it, following no link below that one.

    What ``resolve_inside`` has found may have changed since: a directory on the way may be a link to another
    place by now. So each is opened in the one above it, and none by a path.

    Args:
        path: A real path, without links and ``..``.
        roots: Real paths of directories.

    Raises:
        OSError: It is not there, no plain file, behind a link, or under none of them; or cannot be read.
    """
    above = [root for root in roots if root in path.parents]
    if not above or ".." in path.parts:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    # The outermost: what lies above another one can have been exchanged by whoever writes to this one.
    root = min(above, key=lambda root: len(root.parts))
    *directories, name = path.relative_to(root).parts
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for directory in directories:
        descriptor = _open_in(descriptor, directory, os.O_DIRECTORY)
    # Without O_NONBLOCK a pipe would be waited for.
    return _plain(_open_in(descriptor, name, os.O_NONBLOCK), path)


def _open_in(directory: int, name: str, flags: int) -> int:
    """Open what a directory has, and close the directory."""
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)
    finally:
        os.close(directory)
