"""Numbers of a run's texts, or of their pieces where they are split: in the order of the dataset."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gql_server.artifacts.manifest import ManifestBatch

_PIECES = 2**31


class TextNumbers:
    """Numbers by which an index knows texts: their rows, unless texts are split."""

    def __init__(self, batches: Sequence[ManifestBatch]) -> None:
        """Number the pieces of a run's batches."""
        self._split = any(batch.pieces for batch in batches)
        self._keys = (
            np.unique(np.concatenate([_keys(batch.rows, batch.pieces) for batch in batches]))
            if self._split
            else np.zeros(0, np.int64)
        )

    def of(self, rows: Sequence[int], pieces: Sequence[int]) -> list[int]:
        """Return the numbers of some rows' pieces."""
        if not self._split:
            return list(rows)
        numbers: list[int] = np.searchsorted(self._keys, _keys(rows, pieces)).tolist()
        return numbers

    def tensors(self, numbers: Tensor, of: str) -> dict[str, Tensor]:
        """Return what is stored of numbers, -1 for none: rows, and pieces where texts are split."""
        if not self._split:
            return {f"{of}_rows": numbers}
        there = numbers >= 0
        keys = torch.from_numpy(self._keys)[numbers.clamp(min=0).long()]
        rows = torch.where(there, keys // _PIECES, -1)
        return {f"{of}_rows": rows.int(), f"{of}_pieces": (keys % _PIECES * there).int()}


def _keys(rows: Sequence[int], pieces: Sequence[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64) * _PIECES + np.array(pieces, np.int64)
