"""The tokens of an index's top texts, kept in it where nothing but the language model's tokenizer makes them.

Most tokenizers have a tokenizer.json, with which texts are tokenized again when they are shown. Of the
others, which are Python of transformers, an index keeps the tokens of each text, or piece, that it shows.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.tokenized_texts import TokenizedText

ROWS, PIECES = "text_rows", "text_pieces"
"""[n_texts], ordered: the text's row in the dataset, and which piece of it, from 0."""
ENDS = "text_ends"
"""[n_texts]: where the text's tokens end among all of them."""
IDS, OFFSETS = "text_token_ids", "text_offsets"
"""[n_tokens], and [n_tokens, 2]: where in the text each begins and ends."""
IS_NAMED = "text_is_named"
"""[n_tokens]: 1 for tokens that stand around a text and are shown by their names."""
NAMES = "text_token_names"
"""The names by id, as JSON: uint8."""


def keeps_tokens(tensors_path: Path) -> bool:
    """Whether an index has kept its top texts' tokens. Raises OSError where there is no index."""
    with safe_open(tensors_path, framework="numpy") as file:
        return ROWS in file.keys()  # noqa: SIM118


class KeptTokens:
    """Reads them out of an index's file."""

    def __init__(self, file: Any) -> None:
        """Take the open file; KeyError where it keeps none."""
        self._file = file
        self._places = _key(file.get_tensor(ROWS), file.get_tensor(PIECES))
        self._ends = file.get_tensor(ENDS)
        self._names = {int(id): name for id, name in json.loads(file.get_tensor(NAMES).tobytes()).items()}

    def text(self, dataset: TextDataset, row: int, piece: int) -> TokenizedText:
        """Return a text that the index shows, or the piece of it."""
        place = int(np.searchsorted(self._places, _key(np.array([row]), np.array([piece]))[0]))
        start, stop = int(self._ends[place - 1]) if place else 0, int(self._ends[place])
        ids, offsets, is_named = (
            self._file.get_slice(name)[start:stop].tolist() for name in (IDS, OFFSETS, IS_NAMED)
        )
        names = {place: self._names[ids[place]] for place, named in enumerate(is_named) if named}
        return TokenizedText(dataset[row], ids, [(begin, end) for begin, end in offsets], names)


def _key(rows: NDArray[Any], pieces: NDArray[Any]) -> NDArray[np.int64]:
    return rows.astype(np.int64) << 32 | pieces.astype(np.int64)
