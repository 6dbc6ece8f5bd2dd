"""The texts on which a neuron fires most strongly, out of its index, with the stretch around the peak."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from safetensors import safe_open
from tokenizers import Tokenizer

from gql_server.datasets import TextDataset
from gql_server.text_edges import TextEdges, edges_of
from gql_server.tokens import pieces


@dataclass(frozen=True)
class TopText:
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


class TokenizedText:
    """A text with its tokens as captured: special ones among them, cut at a length, not padded."""

    def __init__(
        self, text: str, ids: list[int], offsets: list[tuple[int, int]], names: Mapping[int, str]
    ) -> None:
        """Take each token's id and place in the text; ``names`` are of those that stand around it."""
        self.ids = ids
        self._text, self._offsets, self._names = text, offsets, names
        self._pieces = pieces(text, offsets)

    def stretch(self, start: int, length: int) -> str:
        """Return the text that ``length`` tokens from ``start`` on stand for."""
        return "".join(self._shown(start, length))

    def tokens(self, start: int, length: int) -> list[str]:
        """Return those tokens' own texts, as in ``pieces``; what stands around the text has its name."""
        places = range(start, min(start + length, len(self.ids)))
        shown = zip(places, self._shown(start, length), strict=True)
        return [self._names.get(place, piece) for place, piece in shown]

    def _shown(self, start: int, length: int) -> list[str]:
        """Return tokens' pieces; where they begin inside a character, the first has the whole of it."""
        pieces = self._pieces[start : start + length]
        return [self.token(start), *pieces[1:]] if pieces else []

    def token(self, index: int) -> str:
        """Return a token's own text; of a character split over several tokens each is the whole character."""
        begin, end = self._offsets[index]
        return self._pieces[index] or self._text[begin:end]


class CutText:
    """A text whose pieces are made when they are asked for."""

    def __init__(
        self,
        text: str,
        ids: list[int],
        offsets: list[tuple[int, int]],
        enclosed: Callable[[str, list[int], list[tuple[int, int]], int], TokenizedText],
    ) -> None:
        """Take all of the text's tokens, and what makes a piece of them by its number."""
        self._text, self._ids, self._offsets, self._enclosed = text, ids, offsets, enclosed
        self._pieces: dict[int, TokenizedText] = {}

    def piece(self, number: int) -> TokenizedText:
        """Return a piece, from 0."""
        if number not in self._pieces:
            self._pieces[number] = self._enclosed(self._text, self._ids, self._offsets, number)
        return self._pieces[number]


class _SharedTokenizer:
    """A tokenizer that threads may share: one at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.edges = edges_of(tokenizer)
        self.tokenizing = Lock()


class TextTokenizer:
    """Tokenises texts as the capture of a run did."""

    def __init__(self, shared: _SharedTokenizer, begin: Sequence[int] | None) -> None:
        """Take what the run wrote before its texts; None: what the tokenizer writes, even a second time."""
        self._shared = shared
        own = shared.edges
        self._edges = TextEdges(own.begin if begin is None else begin, own.end)
        self._writes_twice = begin is None

    def tokenize(self, texts: Sequence[str], max_length: int) -> list[TokenizedText]:
        """Tokenise texts as a capture does that cuts them at a length; on all processors."""
        return [text.piece(0) for text in self.cut(texts, max_length)]

    def cut(self, texts: Sequence[str], max_length: int, split: bool = False) -> list["CutText"]:
        """Tokenise texts as a capture does: their beginnings, or in all their pieces if ``split``."""
        tokenizer = self._shared.tokenizer
        with self._shared.tokenizing:
            tokenizer.no_padding()
            if split:
                tokenizer.no_truncation()
            else:
                tokenizer.enable_truncation(max(1, max_length - len(self._edges.end)))
            encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            CutText(text, encoding.ids, encoding.offsets, partial(self._enclosed, max_length=max_length))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _enclosed(
        self, text: str, ids: list[int], offsets: list[tuple[int, int]], number: int, max_length: int
    ) -> TokenizedText:
        """Return a text's piece with what stands around it; one that there is not has nothing in it."""
        before = self._edges.begin if self._writes_twice else self._edges.before(ids)
        end = self._edges.end
        start, stop = 0, max(0, max_length - len(before) - len(end))
        if number:
            spans = self._edges.spans(ids, max_length)
            start, stop = next(islice(spans, number, None), (len(ids), len(ids)))
            before = self._edges.before(ids[start : start + len(self._edges.begin)])
        ids, offsets = [*before, *ids[start:stop], *end], [_NOWHERE] * len(before) + offsets[start:stop]
        places = [*range(len(before)), *range(len(offsets), len(ids))]
        names = {place: self._shared.tokenizer.id_to_token(ids[place]) or "" for place in places}
        return TokenizedText(text, ids, offsets + [_NOWHERE] * len(end), names)


_NOWHERE = (0, 0)


def load_tokenizer(directory: Path, begin: Sequence[int] | None = None) -> TextTokenizer:
    """Return a language model's tokenizer, loaded once; FileNotFoundError where it has no tokenizer.json.

    ``begin`` is what the run wrote before its texts, as its manifest says.
    """
    path = directory / "tokenizer.json"
    return TextTokenizer(_load_tokenizer(path, path.stat().st_mtime_ns), begin)


@lru_cache(maxsize=4)
def _load_tokenizer(path: Path, _written_at: int) -> _SharedTokenizer:
    """Read a tokenizer once for each time that it was written: that takes up to a second."""
    return _SharedTokenizer(Tokenizer.from_buffer(path.read_bytes()))


def read_top_texts(
    tensors_path: Path,
    neuron: int,
    first: int,
    dataset: TextDataset,
    tokenizer: TextTokenizer,
    max_length: int,
) -> list[TopText]:
    """Return a neuron's strongest texts, at most ``first``, strongest first; reads only its part of the file.

    Raises OSError where there is no index, IndexError where it has no such neuron.
    """
    with safe_open(tensors_path, framework="numpy") as file:
        names = [*_NAMES, *(name for name in (_COUNTS, _PIECES) if name in file.keys())]  # noqa: SIM118
        part = {name: _slice(file, name, neuron, first) for name in names}
    return [
        _top_text({name: values[place] for name, values in part.items()}, dataset, tokenizer, max_length)
        for place in range(len(part["top_rows"]))
        if part["top_rows"][place] >= 0
    ]


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


def _top_text(
    entry: dict[str, Any], dataset: TextDataset, tokenizer: TextTokenizer, max_length: int
) -> TopText:
    row, piece = int(entry["top_rows"]), int(entry.get(_PIECES, 0))
    (cut,) = tokenizer.cut([dataset[row]], max_length, split=_PIECES in entry)
    text = cut.piece(piece)
    start, length = int(entry["window_start"]), int(entry["window_length"])
    token_index = int(entry["top_token_index"])
    activations = [float(value) for value in entry["window_activations"][:length]]
    return TopText(
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
