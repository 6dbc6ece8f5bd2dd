"""Files that torch.save wrote, without torch: what they describe, and the bytes of one tensor at a time."""

import io
import math
import struct
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gql_server.compute.formats.checkpoint_pickles import StoredTensor, read_pickle
from gql_server.compute.worker.context import TaskError

MAX_PICKLE_BYTES = 1024 * 1024
MAX_ENTRIES = 100
_MOST_AT_ONCE = 1024 * 1024
_UNREADABLE = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    OSError,
)
"""Errors of zipfile for files that are no ZIP files, damaged, or encrypted."""


class CheckpointFile:
    """A file that torch.save wrote."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """Look at everything but the tensors. Raises TaskError with what is wrong."""
        self._archive = archive
        self._entries = _entries(archive)
        self.root = self._find_root()
        """The name that it was saved under."""
        self.content: Any = read_pickle(archive.read(self._entries[f"{self.root}/data.pkl"]))
        """Dictionaries of StoredTensors and plain values."""
        self._check_byte_order()
        if (damaged := archive.testzip()) is not None:
            raise TaskError(f"The checkpoint is damaged, in {damaged[:100]!a}.")

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor of float32."""
        entry = self._entries.get(f"{self.root}/data/{stored.record}")
        if entry is None or entry.file_size != 4 * stored.n_stored:
            raise TaskError("The checkpoint is damaged: a tensor's data is not as long as it is said to be.")
        before, wanted = 4 * stored.offset, 4 * math.prod(stored.shape)
        values = bytearray(wanted)
        with self._archive.open(entry) as file:
            for start in range(0, before, _MOST_AT_ONCE):
                file.read(min(_MOST_AT_ONCE, before - start))
            for start in range(0, wanted, _MOST_AT_ONCE):
                piece = file.read(min(_MOST_AT_ONCE, wanted - start))
                values[start : start + len(piece)] = piece
        return torch.frombuffer(values, dtype=torch.float32).reshape(stored.shape)

    def _find_root(self) -> str:
        pickles = [name for name in self._entries if name.endswith(".pkl")]
        if len(pickles) != 1 or not pickles[0].endswith("/data.pkl"):
            raise TaskError("The checkpoint is no file of tensors, as torch.save writes it.")
        if self._entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise TaskError("The checkpoint describes more than the few tensors of an SAE.")
        return pickles[0].removesuffix("/data.pkl")

    def _check_byte_order(self) -> None:
        entry = self._entries.get(f"{self.root}/byteorder")  # Files of before torch 2.1 have none.
        if entry is None:
            return
        if entry.file_size > 6 or self._archive.read(entry) != sys.byteorder.encode():
            raise TaskError(
                f"The checkpoint's numbers are not in this machine's byte order, {sys.byteorder}."
            )


@contextmanager
def opened(path: Path) -> Iterator[CheckpointFile]:
    """Open a file that torch.save wrote. Raises TaskError where it is none, or damaged."""
    with ExitStack() as stack:
        try:
            archive = zipfile.ZipFile(stack.enter_context(_Pieces(path)))
            file = CheckpointFile(stack.enter_context(archive))
        except _UNREADABLE as error:
            raise TaskError("It is no checkpoint as PyTorch has written it since version 1.6.") from error
        yield file


class _Pieces(io.FileIO):
    """A file of which no large piece is read at once: zipfile reads a list of entries whole, however long."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece; BadZipFile where a larger one than any checkpoint has is asked for."""
        if size is not None and size > _MOST_AT_ONCE:
            raise zipfile.BadZipFile("a list of entries that is too long")
        return super().read(_MOST_AT_ONCE if size is None or size < 0 else size)


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    by_name = {entry.filename: entry for entry in entries}
    odd = any(
        entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size
        for entry in entries
    )
    assert archive.fp is not None
    n_bytes = archive.fp.seek(0, io.SEEK_END)
    # Entries that overlap would be read again and again.
    overlapping = sum(entry.file_size for entry in entries) > n_bytes
    if len(entries) > MAX_ENTRIES or len(by_name) != len(entries) or odd or overlapping:
        raise TaskError("The checkpoint is packed in a way in which torch.save does not.")
    return by_name
