"""The token ids of a capture's texts: each is tokenised once, in the planning or where a capture goes on."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gql_server.datasets import TextDataset

PADDING_SIDE = "right"
Ids = NDArray[np.int32]


def tokenizer_options(max_length: int) -> dict[str, Any]:
    """Return how a capture calls the tokenizer, whatever others have set on it meanwhile.

    Token types are left out: some tokenizers give them unasked, and GPT-2 adds an embedding for them.
    """
    return {"max_length": max_length, "padding_side": PADDING_SIDE, "return_token_type_ids": False}


def tokenise(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[Ids]:
    """Return the texts' token ids, special ones among them, at most ``max_length`` each."""
    encoded = tokenizer(list(texts), truncation=True, **tokenizer_options(max_length))["input_ids"]
    return [np.array(ids, np.int32) for ids in encoded]


class TokenIds:
    """Tokenises a dataset's texts, and keeps the ids in a file without a name, so that they take no memory.

    Memory grows by eight bytes for each text that was added.
    """

    def __init__(self, tokenizer: Any, dataset: TextDataset, max_length: int, directory: Path) -> None:
        """Begin without any; the file is in ``directory``, which is made if need be."""
        self._tokenizer, self._dataset, self._max_length = tokenizer, dataset, max_length
        directory.mkdir(parents=True, exist_ok=True)
        self._file = TemporaryFile(dir=directory)  # noqa: SIM115  (closed by __exit__)
        self._first_row = 0
        self._ends = array("q", [0])

    def __enter__(self) -> "TokenIds":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, first_row: int, texts: Sequence[str]) -> list[Ids]:
        """Tokenise the texts of the next rows, ``first_row`` and on; return their ids, and keep them.

        Raises ValueError where the rows are not those after the rows added last.
        """
        if len(self._ends) == 1:
            self._first_row = first_row
        if first_row != self._first_row + len(self._ends) - 1:
            raise ValueError(f"row {first_row} does not follow the rows that were added")
        found = tokenise(self._tokenizer, texts, self._max_length)
        for ids in found:
            self._file.write(ids.tobytes())
            self._ends.append(self._ends[-1] + len(ids))
        return found

    def of(self, rows: Sequence[int]) -> list[Ids]:
        """Return the rows' ids: those that were added out of the file, else the texts are tokenised now."""
        there = range(self._first_row, self._first_row + len(self._ends) - 1)
        if any(row not in there for row in rows):
            return tokenise(self._tokenizer, [self._dataset[row] for row in rows], self._max_length)
        return [self._read(row - self._first_row) for row in rows]

    def _read(self, place: int) -> Ids:
        start, end = self._ends[place], self._ends[place + 1]
        item = np.dtype(np.int32).itemsize
        self._file.seek(start * item)
        return np.frombuffer(self._file.read((end - start) * item), np.int32)
