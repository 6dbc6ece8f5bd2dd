"""The token ids of a capture's texts: each is tokenized once, in the planning or where a capture goes on."""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from gql_server.artifacts.datasets import TextDataset
from gql_server.compute.language_models.text_encoder import CutText, Ids, TextEncoder

MAX_KEPT = 2**24
"""Limit on the token ids that are kept: 64 MB, a small part of the activations stored of as many tokens."""


class TokenIds:
    """Tokenizes a dataset's texts, and keeps the ids of the first ones, up to ``max_kept`` tokens."""

    def __init__(
        self,
        encoder: TextEncoder,
        dataset: TextDataset,
        max_length: int,
        max_kept: int = MAX_KEPT,
        split: bool = False,
    ) -> None:
        """Take whether long texts are split; else they are cut."""
        self._encoder, self._dataset, self._max_length = encoder, dataset, max_length
        self._max_kept, self._split = max_kept, split
        self._first_row = 0
        self._ids, self._ends = array("i"), array("q", [0])
        self._first_pieces = array("q", [0])
        """The first piece of each row that is kept, and of the row after the last."""
        self._last: dict[int, CutText] = {}
        """The text that was tokenized last, since its pieces are mostly asked for one after the other."""

    def add(self, first_row: int, texts: Sequence[str]) -> list[CutText]:
        """Tokenize the texts of the next rows, ``first_row`` and on; return their ids, and keep them.

        Rows that do not follow those that are kept are not kept, nor is any that finds no room.
        """
        if len(self._first_pieces) == 1:
            self._first_row = first_row
        found = self._cut(texts)
        for row, cut in enumerate(found, first_row):
            n_ids = sum(map(len, cut.pieces))
            if row == self._rows_kept.stop and len(self._ids) + n_ids <= self._max_kept:
                self._keep(cut)
        return found

    def of(self, rows: Sequence[int], pieces: Sequence[int] = ()) -> list[Ids]:
        """Return the ids of rows' pieces, of the first ones if none are named.

        Texts whose ids are not kept are tokenized now. A piece that there is not has no ids.
        """
        self._tokenize(row for row in dict.fromkeys(rows) if row not in self._rows_kept)
        return [self._piece(row, piece) for row, piece in zip(rows, pieces or [0] * len(rows), strict=True)]

    def _tokenize(self, rows: Iterable[int]) -> None:
        wanted = list(rows)
        known = self._last if self._split else {}
        missing = [row for row in wanted if row not in known]
        found = dict(zip(missing, self._cut([self._dataset[row] for row in missing]), strict=True))
        self._last = {row: known[row] if row in known else found[row] for row in wanted}

    def _cut(self, texts: Sequence[str]) -> list[CutText]:
        return self._encoder.cut(texts, self._max_length, self._split) if texts else []

    def _keep(self, cut: CutText) -> None:
        for ids in cut.pieces:
            self._ids.frombytes(ids.tobytes())
            self._ends.append(len(self._ids))
        self._first_pieces.append(len(self._ends) - 1)

    @property
    def _rows_kept(self) -> range:
        return range(self._first_row, self._first_row + len(self._first_pieces) - 1)

    def _piece(self, row: int, piece: int) -> Ids:
        if row in self._last:
            pieces = self._last[row].pieces
            return pieces[piece] if piece < len(pieces) else np.zeros(0, np.int32)
        place = self._first_pieces[row - self._first_row] + piece
        return np.array(self._ids[self._ends[place] : self._ends[place + 1]], np.int32)
