"""Texts with their tokens, as a run's capture has made them."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Protocol

from tokenizers import Tokenizer

from gql_server.tokens.edges import TextEdges, edges_of
from gql_server.tokens.spans import pieces

Offset = tuple[int, int]


class TokenizedText:
    """A text with its tokens as captured: special ones among them, cut at a length, not padded."""

    def __init__(
        self, text: str, ids: list[int], offsets: list[tuple[int, int]], names: Mapping[int, str]
    ) -> None:
        """Take each token's id and place in the text; ``names`` are of those that stand around it."""
        self.ids, self.offsets, self.names = ids, offsets, names
        self._text = text
        self._pieces: list[str] = []

    def stretch(self, start: int, length: int) -> str:
        """Return the text that ``length`` tokens from ``start`` on stand for."""
        return "".join(self._shown(start, length))

    def before(self, start: int, length: int) -> str:
        """Return the text of ``length`` tokens before a stretch, without what the stretch itself shows."""
        first = max(0, start - length)
        found = "".join(self._shown(first, start - first))
        is_inside = start < len(self.ids) and not self._pieces_up_to(start + 1)[start]
        return found.removesuffix(self.token(start)) if is_inside else found

    def after(self, stop: int, length: int) -> str:
        """Return the text of ``length`` tokens behind a stretch, without what the stretch itself shows."""
        return "".join(self._pieces_up_to(stop + length)[stop : stop + length])

    def tokens(self, start: int, length: int) -> list[str]:
        """Return those tokens' own texts, as in ``pieces``; what stands around the text has its name."""
        places = range(start, min(start + length, len(self.ids)))
        shown = zip(places, self._shown(start, length), strict=True)
        return [self.names.get(place, piece) for place, piece in shown]

    def _shown(self, start: int, length: int) -> list[str]:
        """Return tokens' pieces; where they begin inside a character, the first has the whole of it."""
        pieces = self._pieces_up_to(start + length)[start : start + length]
        return [self.token(start), *pieces[1:]] if pieces else []

    def token(self, index: int) -> str:
        """Return a token's own text; of a character split over several tokens each is the whole character."""
        begin, end = self.offsets[index]
        return self._pieces_up_to(index + 1)[index] or self._text[begin:end]

    def _pieces_up_to(self, stop: int) -> list[str]:
        """Return at least the first ``stop`` tokens' pieces; a text is mostly quoted in part."""
        if len(self._pieces) < min(stop, len(self.offsets)):
            self._pieces = pieces(self._text, self.offsets[:stop])
        return self._pieces


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


class TokenSource(Protocol):
    """What tokenizes texts by themselves."""

    edges: TextEdges
    """What stands around them."""

    def encode(self, texts: Sequence[str], limit: int | None) -> list[tuple[list[int], list[Offset]]]:
        """Return each text's ids and their places in it, at most ``limit``."""

    def name(self, token_id: int) -> str:
        """Return a token's name in the vocabulary."""


class _SharedTokenizer:
    """A tokenizer that threads may share: one at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.edges = edges_of(tokenizer)
        self._tokenizer = tokenizer
        self._tokenizing = Lock()

    def encode(self, texts: Sequence[str], limit: int | None) -> list[tuple[list[int], list[Offset]]]:
        """Tokenize texts on all processors."""
        tokenizer = self._tokenizer
        with self._tokenizing:
            tokenizer.no_padding()
            if limit is None:
                tokenizer.no_truncation()
            else:
                tokenizer.enable_truncation(limit)
            encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [(encoding.ids, encoding.offsets) for encoding in encodings]

    def name(self, token_id: int) -> str:
        """Return a token's name in the vocabulary."""
        return self._tokenizer.id_to_token(token_id) or ""


class TextTokenizer:
    """Tokenizes texts as the capture of a run did."""

    def __init__(self, source: TokenSource, begin: Sequence[int] | None) -> None:
        """Take what the run wrote before its texts; None: what the tokenizer writes, even a second time."""
        self._shared = source
        own = source.edges
        self._edges = TextEdges(own.begin if begin is None else begin, own.end)
        self._writes_twice = begin is None

    def tokenize(self, texts: Sequence[str], max_length: int) -> list[TokenizedText]:
        """Tokenize texts as a capture does that cuts them at a length; on all processors."""
        return [text.piece(0) for text in self.cut(texts, max_length)]

    def cut(self, texts: Sequence[str], max_length: int, split: bool = False) -> list["CutText"]:
        """Tokenize texts as a capture does: their beginnings, or in all their pieces if ``split``."""
        limit = None if split else max(1, max_length - len(self._edges.end))
        return [
            CutText(text, ids, offsets, partial(self._enclosed, max_length=max_length))
            for text, (ids, offsets) in zip(texts, self._shared.encode(texts, limit), strict=True)
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
        names = {place: self._shared.name(ids[place]) for place in places}
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
