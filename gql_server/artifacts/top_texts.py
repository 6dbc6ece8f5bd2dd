"""The texts on which a neuron fires most strongly, out of its index, with the stretch around the peak."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.kept_tokens import KeptTokens
from gql_server.artifacts.tokenized_texts import TextTokenizer, TokenizedText, load_tokenizer

__all__ = ["StoredTopText", "TextTokenizer", "load_tokenizer", "read_top_texts"]


@dataclass(frozen=True)
class StoredTopText:
    """A stretch of a text; ``tokens`` are all in it, special ones too, with the neuron's latent on each."""

    text: str
    score: float
    token_index: int
    """Where the neuron fires most, counted in tokens of the whole text, or piece, as it was captured."""
    peak_index: int
    """The same, counted in ``tokens``."""
    token: str
    tokens: list[tuple[str, float]]
    text_count: int | None
    """Texts or pieces of the run that have the stretch; None where an earlier version made the index."""
    row: int
    """The text's in the dataset, from 0."""
    piece: int
    """Which piece of the text it is in, from 0."""


def read_top_texts(
    tensors_path: Path,
    neuron: int,
    first: int,
    dataset: TextDataset,
    tokenizer: TextTokenizer | None,
    max_length: int,
) -> list[StoredTopText]:
    """Return a neuron's strongest texts, at most ``first``, strongest first; reads only its part of the file.

    Without a tokenizer, the texts' tokens are those that the index has kept. Raises OSError where there is no
    index, IndexError where it has no such neuron.
    """
    with safe_open(tensors_path, framework="numpy") as file:
        names = [*_NAMES, *(name for name in (_COUNTS, _PIECES) if name in file.keys())]  # noqa: SIM118
        part = {name: _slice(file, name, neuron, first) for name in names}
        entries = [
            {name: values[place] for name, values in part.items()}
            for place in range(len(part["top_rows"]))
            if part["top_rows"][place] >= 0
        ]
        if tokenizer is None:
            kept = KeptTokens(file)
            return [_top_text(entry, kept.text(dataset, *_place(entry))) for entry in entries]
    return [_top_text(entry, _tokenized(entry, dataset, tokenizer, max_length)) for entry in entries]


_COUNTS, _PIECES = "top_text_counts", "top_pieces"
"""In indexes of earlier versions there are no counts; pieces are where long texts were split."""
_NAMES = ("top_rows", "top_scores", "top_token_index", "window_start", "window_length", "window_activations")


def _slice(file: Any, name: str, neuron: int, first: int) -> Any:
    tensor = file.get_slice(name)
    n_latents, top_texts_per_neuron = tensor.get_shape()[:2]
    if not 0 <= neuron < n_latents:
        raise IndexError(f"the index has no neuron {neuron}")
    # Unlike NumPy's, this slice may not go beyond the end.
    return tensor[neuron : neuron + 1, : min(first, top_texts_per_neuron)][0]


def _place(entry: dict[str, Any]) -> tuple[int, int]:
    """Return an entry's row in the dataset, and which piece of the text it is in."""
    return int(entry["top_rows"]), int(entry.get(_PIECES, 0))


def _tokenized(
    entry: dict[str, Any], dataset: TextDataset, tokenizer: TextTokenizer, max_length: int
) -> TokenizedText:
    row, piece = _place(entry)
    (cut,) = tokenizer.cut([dataset[row]], max_length, split=_PIECES in entry)
    return cut.piece(piece)


def _top_text(entry: dict[str, Any], text: TokenizedText) -> StoredTopText:
    row, piece = _place(entry)
    start, length = int(entry["window_start"]), int(entry["window_length"])
    token_index = int(entry["top_token_index"])
    activations = [float(value) for value in entry["window_activations"][:length]]
    return StoredTopText(
        text=text.stretch(start, length),
        score=float(entry["top_scores"]),
        token_index=token_index,
        peak_index=token_index - start,
        token=text.token(token_index),
        tokens=list(zip(text.tokens(start, length), activations, strict=True)),
        text_count=int(entry[_COUNTS]) if _COUNTS in entry else None,
        row=row,
        piece=piece,
    )
