"""The token ids of a capture's texts: each is tokenised once, in the planning or where a capture goes on."""

from array import array
from collections.abc import Sequence

import numpy as np

from gql_server.compute.language_models.text_encoder import Ids, TextEncoder
from gql_server.datasets import TextDataset

MAX_KEPT = 2**24
"""Tokens whose ids are kept: 64 MB, a small part of what is stored of so many."""


class TokenIds:
    """Tokenises a dataset's texts, and keeps the ids of the first ones, up to ``max_kept`` tokens."""

    def __init__(
        self, encoder: TextEncoder, dataset: TextDataset, max_length: int, max_kept: int = MAX_KEPT
    ) -> None:
        self._encoder, self._dataset, self._max_length = encoder, dataset, max_length
        self._max_kept = max_kept
        self._first_row = 0
        self._ids, self._ends = array("i"), array("q", [0])

    def add(self, first_row: int, texts: Sequence[str]) -> list[Ids]:
        """Tokenise the texts of the next rows, ``first_row`` and on; return their ids, and keep them.

        Rows that do not follow those that are kept are not kept, nor is any that finds no room.
        """
        if len(self._ends) == 1:
            self._first_row = first_row
        found = self._encoder.encode(texts, self._max_length)
        for row, ids in enumerate(found, first_row):
            if row == self._rows_kept.stop and len(self._ids) + len(ids) <= self._max_kept:
                self._ids.frombytes(ids.tobytes())
                self._ends.append(len(self._ids))
        return found

    def of(self, rows: Sequence[int]) -> list[Ids]:
        """Return the rows' ids; texts whose ids are not kept are tokenised now."""
        others = [row for row in rows if row not in self._rows_kept]
        texts = [self._dataset[row] for row in others]
        found = iter(self._encoder.encode(texts, self._max_length) if texts else ())
        return [self._kept(row) if row in self._rows_kept else next(found) for row in rows]

    @property
    def _rows_kept(self) -> range:
        return range(self._first_row, self._first_row + len(self._ends) - 1)

    def _kept(self, row: int) -> Ids:
        place = row - self._first_row
        return np.array(self._ids[self._ends[place] : self._ends[place + 1]], np.int32)
