"""Disk space: checked before writing, and the messages of errors about it."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = "There is no room left on the disk: free some, and retry the job."
FORBIDDEN = "The server may not use a file that it needs: give it the permission, and retry the job."

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NUMBER_IN_WORDS = re.compile(r"(?:os error|errno:?) (\d+)", re.IGNORECASE)
_FULL_WORDS = ("database or disk is full", "inline_container.cc")
_FORBIDDEN_WORDS = ("attempt to write a readonly database",)


def check_free(directory: Path, bytes_needed: int, min_free_bytes: int) -> None:
    """Raise OSError (ENOSPC) where writing so much would leave less than ``min_free_bytes`` on the disk.

    Args:
        directory: Where it is to be written; it exists.
        bytes_needed: How much.
        min_free_bytes: What must stay free.
    """
    if shutil.disk_usage(directory).free < bytes_needed + min_free_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def used_bytes(directory: Path) -> int:
    """Return the size of all files under a directory; those that go meanwhile do not count.

    A file of several names, such as a stored dataset's that runs have too, counts once.
    """
    sizes = FileSizes()
    return sum(sizes.of(Path(parent) / name) for parent, _, files in os.walk(directory) for name in files)


class FileSizes:
    """Sizes of files, of which one of several names counts once."""

    def __init__(self) -> None:
        self._linked = set[tuple[int, int]]()

    def of(self, file: Path) -> int:
        """Return a file's size in bytes: 0 where it is gone, or was counted by another name."""
        try:
            found = file.lstat()
        except FileNotFoundError:
            return 0
        if found.st_nlink > 1:
            if (found.st_dev, found.st_ino) in self._linked:
                return 0
            self._linked.add((found.st_dev, found.st_ino))
        return found.st_size


def problem_of(error: BaseException) -> str | None:
    """Return the sentence for an error that is about the disk, or None for another.

    Libraries wrap the system's error in one of their own; some keep only its number in their words
    (safetensors), or not even that (SQLite, torch).
    """
    for one in causes(error):
        number = _number(one)
        if number in _FULL or any(words in str(one) for words in _FULL_WORDS):
            return FULL
        if number in _FORBIDDEN or any(words in str(one) for words in _FORBIDDEN_WORDS):
            return FORBIDDEN
    return None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER_IN_WORDS.search(str(error))
    return int(found[1]) if found else None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error, what caused it, what caused that, and so on."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__
