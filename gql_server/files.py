"""Files that appear whole, and paths that stay inside the directories they may be in."""

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside ``path``; what is written there takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        yield temporary
        _fsync_file(temporary)
        temporary.replace(path)
        _fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Give an empty directory beside ``path`` that takes its place when the block ends without an error.

    What stood at ``path`` before is removed then. After an error nothing at ``path`` has changed. Killed at
    any moment, there is the old directory or the new one or, for the moment between two renames, none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    replaced = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _fsync_file(file)
        for directory in (temporary, *(inner for inner in temporary.rglob("*") if inner.is_dir())):
            _fsync_directory(directory)
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
