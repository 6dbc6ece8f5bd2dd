"""The texts on which a neuron fires most strongly, out of its index, with the stretch around the peak."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.kept_tokens import KeptTokens
from gql_server.artifacts.tokenized_texts import TextTokenizer, TokenizedText, load_tokenizer

__all__ = ["StoredTopText", "TextTokenizer", "load_tokenizer", "read_top_texts"]

TOKENS_AROUND = 16
"""Tokens on each side of the peak that an index stores a neuron's latents of."""


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
    text_before: str = ""
    """Of the text, or piece, where more tokens around are asked for than the index has latents of."""
    text_after: str = ""


class ShownTexts:
    """Quotes stretches of a run's texts by the rows and places that an index's open file has for them.

    Without a tokenizer, the texts' tokens are those that the index has kept.
    """

    def __init__(
        self, file: Any, dataset: TextDataset, tokenizer: TextTokenizer | None, max_length: int
    ) -> None:
        self.file, self.dataset, self._tokenizer, self._max_length = file, dataset, tokenizer, max_length
        self._kept = KeptTokens(file) if tokenizer is None else None
        self._names = frozenset(file.keys())

    def slice(self, name: str, start: int, stop: int) -> Any:
        """Return some rows of a tensor; unlike with NumPy's slices, they have to be there."""
        return self.file.get_slice(name)[start:stop]

    def has(self, name: str) -> bool:
        """Whether the index has a tensor."""
        return name in self._names

    def show(self, entry: dict[str, Any], tokens_around: int = TOKENS_AROUND) -> StoredTopText:
        """Return what is shown of an entry, no more than so many tokens on each side of the one it is for."""
        row, piece = int(entry["rows"]), int(entry.get("pieces", 0))
        if self._kept is not None:
            text = self._kept.text(self.dataset, row, piece)
        else:
            assert self._tokenizer is not None
            whole = self._tokenizer.cut([self.dataset[row]], self._max_length, split="pieces" in entry)[0]
            text = whole.piece(piece)
        return _top_text(entry, text, tokens_around)


def read_top_texts(
    tensors_path: Path,
    neuron: int,
    first: int,
    dataset: TextDataset,
    tokenizer: TextTokenizer | None,
    max_length: int,
    tokens_around: int = TOKENS_AROUND,
) -> list[StoredTopText]:
    """Return a neuron's strongest texts, at most ``first``, strongest first; reads only its part of the file.

    Without a tokenizer, the texts' tokens are those that the index has kept. Raises OSError where there is no
    index, IndexError where it has no such neuron.
    """
    with safe_open(tensors_path, framework="numpy") as file:
        shown = ShownTexts(file, dataset, tokenizer, max_length)
        return [shown.show(entry, tokens_around) for entry in top_entries(shown, neuron, first)]


def top_entries(shown: ShownTexts, neuron: int, first: int) -> list[dict[str, Any]]:
    """Return what the index has of a neuron's strongest texts."""
    names = {column: name for column, name in _NAMES.items() if shown.has(name)}
    part = {column: _slice(shown.file, name, neuron, first) for column, name in names.items()}
    return [
        {column: values[place] for column, values in part.items()}
        for place in range(len(part["rows"]))
        if part["rows"][place] >= 0
    ]


_NAMES = {
    "rows": "top_rows",
    "pieces": "top_pieces",
    "scores": "top_scores",
    "token_index": "top_token_index",
    "start": "window_start",
    "length": "window_length",
    "activations": "window_activations",
    "text_counts": "top_text_counts",
}
"""Of indexes of earlier versions there are no counts; pieces are where long texts were split."""


def _slice(file: Any, name: str, neuron: int, first: int) -> Any:
    tensor = file.get_slice(name)
    n_latents, top_texts_per_neuron = tensor.get_shape()[:2]
    if not 0 <= neuron < n_latents:
        raise IndexError(f"the index has no neuron {neuron}")
    # Unlike NumPy's, this slice may not go beyond the end.
    return tensor[neuron : neuron + 1, : min(first, top_texts_per_neuron)][0]


def _top_text(entry: dict[str, Any], text: TokenizedText, tokens_around: int) -> StoredTopText:
    token_index = int(entry["token_index"])
    all_start, all_length = int(entry["start"]), int(entry["length"])
    start = max(all_start, token_index - tokens_around)
    length = min(all_start + all_length, token_index + tokens_around + 1) - start
    activations = [float(value) for value in entry["activations"][start - all_start :][:length]]
    stop, beyond = start + length, tokens_around if tokens_around > TOKENS_AROUND else 0
    return StoredTopText(
        text=text.stretch(start, length),
        score=float(entry["scores"]),
        token_index=token_index,
        peak_index=token_index - start,
        token=text.token(token_index),
        tokens=list(zip(text.tokens(start, length), activations, strict=True)),
        text_count=int(entry["text_counts"]) if "text_counts" in entry else None,
        row=int(entry["rows"]),
        piece=int(entry.get("pieces", 0)),
        text_before=text.before(start, max(0, start - token_index + beyond)),
        text_after=text.after(stop, max(0, token_index + beyond + 1 - stop)),
    )
