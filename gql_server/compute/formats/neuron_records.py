"""What an index and the names say of an SAE's neurons, one neuron after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import msgspec
from safetensors import safe_open
from tokenizers import Tokenizer

from gql_server.artifacts.datasets import TextDataset, UnreadableTexts
from gql_server.artifacts.kept_tokens import keeps_tokens
from gql_server.artifacts.tokenized_texts import CutText
from gql_server.artifacts.top_texts import (
    ShownTexts,
    StoredTopText,
    TextTokenizer,
    load_tokenizer,
    top_entries,
)
from gql_server.protocol.sources import NeuronName, NeuronsSource
from gql_server.tokens.spans import text_of
from gql_server.tokens.token_texts_file import token_texts

NEURONS_AT_ONCE = 256
"""Whose statistics are in memory."""
_TEXTS_AT_ONCE = 512
"""That are tokenized together, for some neurons; one by one takes several times as long."""
_CHARACTERS_KEPT = 4_000_000
"""Of texts whose tokens are kept for the neurons that come: some 200 MB with them."""
_WHOLE_TEXTS_KEPT = 16
"""Where long texts are split, so that all of their tokens are in memory."""
_TOKENS_KEPT = 2**17
_STATISTICS = (
    "firing_count",
    "frequency",
    "max_activation",
    "mean_activation",
    "histogram_counts",
    "histogram_limit",
)
_RANKED = {
    "promoted": ("promoted_tokens", "promoted_effects"),
    "suppressed": ("suppressed_tokens", "suppressed_effects"),
    "similar": ("similar_neurons", "similar_cosines"),
    "correlated": ("correlated_neurons", "correlations"),
}
"""Tokens or neurons that an index names, -1 where there is none, and a figure for each."""

Ranked = list[tuple[int, float]]
"""Tokens or neurons, the strongest first, with a figure each."""


@dataclass(frozen=True)
class Histogram:
    """Counts in equal bins between two values."""

    counts: list[int]
    low: float
    high: float

    @property
    def centers(self) -> list[float]:
        """The middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return [self.low + (place + 0.5) * width for place in range(len(self.counts))]


@dataclass(frozen=True)
class NeuronRecord:
    """A neuron. What is None, the index does not have: an earlier version's, or without a language model."""

    neuron: int
    name: NeuronName | None
    firing_count: int
    frequency: float
    max_activation: float
    mean_activation: float
    activations: Histogram
    effects: Histogram | None
    promoted: Ranked | None
    suppressed: Ranked | None
    similar: Ranked | None
    correlated: Ranked | None
    top_texts: list[StoredTopText] | None
    """None where the run's texts are gone."""


class NeuronRecords:
    """Reads an index's file a part at a time; memory does not grow with the number of neurons.

    Names are all in memory: some megabytes.
    """

    def __init__(self, source: NeuronsSource) -> None:
        """Open the index. OSError where it is not there."""
        self._source = source
        self._file = _opened(source.index_path)
        self._has = frozenset(self._file.keys())
        self._names = {one.neuron: one for one in read_names(Path(source.names_path))}
        self._tokenizer: _Remembering | None = None
        self._texts = self._shown_texts()
        self.token_text = token_namer(Path(source.tokenizer_dir))
        self.count: int = self._file.get_slice("firing_count").get_shape()[0]

    @property
    def has_texts(self) -> bool:
        """Whether the run's texts, and what tokenizes them, are there."""
        return self._texts is not None

    def __iter__(self) -> Iterator[NeuronRecord]:
        for start in range(0, self.count, NEURONS_AT_ONCE):
            yield from self._part(start, min(start + NEURONS_AT_ONCE, self.count))

    def _part(self, start: int, stop: int) -> Iterator[NeuronRecord]:
        columns = {name: self._rows(name, start, stop) for name in _STATISTICS}
        ranked = {
            key: [self._rows(name, start, stop) for name in names]
            for key, names in _RANKED.items()
            if self._has.issuperset(names)
        }
        effects = None
        if self._has.issuperset(("effect_counts", "effect_limits")):
            effects = [self._rows(name, start, stop) for name in ("effect_counts", "effect_limits")]
        together = max(1, _TEXTS_AT_ONCE // self._source.top_texts_per_neuron)
        for place in range(stop - start):
            neuron = start + place
            if place % together == 0:
                top_texts = self._top_texts(range(neuron, min(neuron + together, stop)))
            row = {name: column[place] for name, column in columns.items()}
            counts, limit = row.pop("histogram_counts"), row.pop("histogram_limit")
            yield NeuronRecord(
                neuron=neuron,
                name=self._names.get(neuron),
                activations=Histogram(counts, 0.0, limit),
                effects=None if effects is None else Histogram(effects[0][place], *effects[1][place]),
                top_texts=None if top_texts is None else top_texts[place % together],
                **row,
                promoted=_pairs(ranked, "promoted", place),
                suppressed=_pairs(ranked, "suppressed", place),
                similar=_pairs(ranked, "similar", place),
                correlated=_pairs(ranked, "correlated", place),
            )

    def _rows(self, name: str, start: int, stop: int) -> list[Any]:
        rows: list[Any] = self._file.get_slice(name)[start:stop].tolist()
        return rows

    def _top_texts(self, neurons: range) -> list[list[StoredTopText]] | None:
        """Return each neuron's top texts; None where they are gone."""
        texts = self._texts
        if texts is None:
            return None
        first = self._source.top_texts_per_neuron
        entries = [top_entries(texts, neuron, first) for neuron in neurons]
        if self._tokenizer is not None and not texts.has("top_pieces"):
            rows = {int(entry["rows"]) for of_neuron in entries for entry in of_neuron}
            unique = dict.fromkeys(texts.dataset[row] for row in sorted(rows))
            self._tokenizer.prepare(list(unique), self._source.max_length)
        return [[texts.show(entry) for entry in of_neuron] for of_neuron in entries]

    def _shown_texts(self) -> ShownTexts | None:
        source = self._source
        if source.dataset_dir is None:
            return None
        try:
            dataset = TextDataset(Path(source.dataset_dir))
            if not keeps_tokens(Path(source.index_path)):
                tokenizer = load_tokenizer(Path(source.tokenizer_dir), source.begin_token_ids)
                self._tokenizer = _Remembering(tokenizer)
        except (FileNotFoundError, UnreadableTexts):
            return None
        return ShownTexts(self._file, dataset, self._tokenizer, source.max_length)


def _opened(path: str) -> Any:
    return safe_open(path, framework="numpy")


class _Remembering(TextTokenizer):
    """Another tokenizer, that tokenizes many texts at once, and each once for the neurons that fire on it."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        def cut(text: str, max_length: int, split: bool) -> CutText:
            return tokenizer.cut([text], max_length, split)[0]

        self._tokenizer, self._cut = tokenizer, lru_cache(maxsize=_WHOLE_TEXTS_KEPT)(cut)
        self._prepared: dict[str, CutText] = {}
        """The one that was needed longest ago first."""
        self._n_characters = 0

    def prepare(self, texts: Sequence[str], max_length: int) -> None:
        """Tokenize texts that are not there yet, cut at a length; forget those needed longest ago."""
        there = self._prepared
        for text in texts:
            if text in there:
                there[text] = there.pop(text)
        new = [text for text in texts if text not in there]
        there.update(zip(new, self._tokenizer.cut(new, max_length), strict=True))
        self._n_characters += sum(map(len, new))
        while self._n_characters > _CHARACTERS_KEPT and len(there) > len(texts):
            oldest = next(iter(there))
            del there[oldest]
            self._n_characters -= len(oldest)

    def cut(self, texts: Sequence[str], max_length: int, split: bool = False) -> list[CutText]:
        """Return what the other one has made of the texts."""
        if not split and all(text in self._prepared for text in texts):
            return [self._prepared[text] for text in texts]
        return [self._cut(text, max_length, split) for text in texts]


def _pairs(ranked: dict[str, list[list[Any]]], key: str, place: int) -> Ranked | None:
    if key not in ranked:
        return None
    indices, values = (column[place] for column in ranked[key])
    return [(index, value) for index, value in zip(indices, values, strict=True) if index >= 0]


def read_names(path: Path) -> Iterator[NeuronName]:
    """Give the names that the server has written, a line each; nothing where there is no file."""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                yield msgspec.json.decode(line, type=NeuronName)


def token_namer(directory: Path) -> Callable[[int], str]:
    """Return what tells the text of a token of a language model's copy; nothing where that cannot be told."""
    path = directory / "tokenizer.json"
    if path.exists():
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
        return lru_cache(maxsize=_TOKENS_KEPT)(partial(text_of, tokenizer))
    return lambda token_id: token_texts(directory, [token_id])[0] or ""
