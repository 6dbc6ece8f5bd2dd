"""Datasets as the server keeps them: texts in an Arrow file, read by row without loading it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from gql_server.artifacts.files import atomic_directory
from gql_server.artifacts.python_reference import python_reference as built_in_python_reference
from gql_server.text_files.rows import SkippedRows

__all__ = ["TextDataset", "built_in_python_reference", "link_texts", "write_texts"]

FILE_NAME = "texts.arrow"
SKIPPED_FILE = "skipped.json"
"""Which rows of the dataset's source are not in it; there where any are."""
ROWS_PER_BATCH = 1024


def write_texts(directory: Path, texts: Iterable[str], skipped: SkippedRows | None = None) -> int:
    """Write texts as the dataset ``directory``, which appears whole; return how many there are.

    Takes the texts one after the other, so they need not fit into memory. ``skipped`` is noted beside them,
    as it is when all have been taken.
    """
    with atomic_directory(directory) as temporary:
        return write_into(temporary, texts, skipped)


def write_into(directory: Path, texts: Iterable[str], skipped: SkippedRows | None = None) -> int:
    """Write texts into a directory that is empty and nobody looks into yet; else as ``write_texts``.

    Raises FileExistsError where it is not empty: a file in it may be another dataset's too (``link_texts``).
    """
    import pyarrow as pa

    schema = pa.schema([pa.field("text", pa.large_string(), nullable=False)])
    rest, count = iter(texts), 0
    with (directory / FILE_NAME).open("xb") as file, pa.ipc.new_file(file, schema) as writer:
        while rows := list(islice(rest, ROWS_PER_BATCH)):
            writer.write_batch(pa.record_batch([pa.array(rows, pa.large_string())], schema=schema))
            count += len(rows)
    if skipped is not None and skipped.count:
        with (directory / SKIPPED_FILE).open("xb") as file:
            file.write(msgspec.json.encode(skipped))
    return count


def link_texts(source: Path, directory: Path) -> None:
    """Make ``directory``, which is empty, the same dataset as ``source``, whichever of them goes first.

    The files are never changed, so both can have the same ones, and take the disk's room once.

    Raises:
        FileNotFoundError: There is no such dataset.
        OSError: The file system has no hard links, or no more for these files; the directory is empty then.
    """
    try:
        os.link(source / FILE_NAME, directory / FILE_NAME)
        with suppress(FileNotFoundError):
            os.link(source / SKIPPED_FILE, directory / SKIPPED_FILE)
    except OSError:
        (directory / FILE_NAME).unlink(missing_ok=True)
        raise


class UnreadableTexts(Exception):
    """The file with a dataset's texts is damaged."""


class TextDataset:
    """The texts of a dataset, by row number from 0; the file is mapped into memory, not read."""

    def __init__(self, directory: Path) -> None:
        """Open a dataset that ``write_texts`` wrote.

        Raises FileNotFoundError where there is none, UnreadableTexts where the file is damaged.
        """
        import pyarrow as pa

        self._directory = directory
        self._file = str(directory / FILE_NAME)
        try:
            self._reader: Any = pa.ipc.open_file(pa.memory_map(self._file))
        except pa.ArrowInvalid as error:
            raise UnreadableTexts from error
        batches = self._reader.num_record_batches
        last = self._reader.get_batch(batches - 1).num_rows if batches else 0
        self._length: int = max(0, batches - 1) * ROWS_PER_BATCH + last

    @cached_property
    def skipped(self) -> SkippedRows:
        """Return which rows of the source were left out. Raises UnreadableTexts where the note is damaged."""
        try:
            return msgspec.json.decode((self._directory / SKIPPED_FILE).read_bytes(), type=SkippedRows)
        except FileNotFoundError:
            return SkippedRows()
        except msgspec.DecodeError as error:
            raise UnreadableTexts from error

    def __len__(self) -> int:
        """Return the number of texts."""
        return self._length

    def __getitem__(self, row: int) -> str:
        """Return a row's text. Raises IndexError where there is no such row."""
        if not 0 <= row < self._length:
            raise IndexError(f"row {row} of a dataset of {self._length} texts")
        batch, place = divmod(row, ROWS_PER_BATCH)
        text: str = self._reader.get_batch(batch).column(0)[place].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        """Give all texts, a batch in memory at a time."""
        return self.slice(0, self._length)

    def slice(self, start: int, stop: int) -> Iterator[str]:
        """Give the texts of the rows from ``start`` to before ``stop``, a batch in memory at a time."""
        import pyarrow as pa

        stop = min(stop, self._length)
        # Not through the mapping: what has been read there counts as this process's memory from then on.
        with pa.OSFile(self._file) as file:
            reader = pa.ipc.open_file(file)
            while start < stop:
                batch, place = divmod(start, ROWS_PER_BATCH)
                count = min(ROWS_PER_BATCH - place, stop - start)
                yield from reader.get_batch(batch).column(0).slice(place, count).to_pylist()
                start += count
