"""What an index has of a neuron beside its strongest texts: examples of its whole range, and silent texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from gql_server.artifacts.top_texts import ShownTexts, StoredTopText, top_entries

N_RANGES = 8
"""Ranges from 0 to the limit of a neuron's histogram; its maximum is in one of the last four."""
PER_RANGE = 5
"""Examples that an index keeps of each range, at most."""


@dataclass(frozen=True)
class StoredExampleGroup:
    """A range of a neuron's activations, with texts that are a uniform sample of its firings there."""

    begin: float
    end: float
    share: float
    """Of all its firings; exact."""
    texts: list[StoredTopText]
    """The strongest first; each one's score is the latent on the token that was drawn."""


@dataclass(frozen=True)
class StoredNearText:
    """A text on which a neuron does not fire, though one that is similar does."""

    neuron: int
    text: StoredTopText
    """With the similar neuron's latents."""


def example_groups(
    shown: ShownTexts, neuron: int, bins: int, per_bin: int
) -> list[StoredExampleGroup] | None:
    """Return a neuron's range from 0 to its maximum in at most ``bins`` groups, ascending.

    Groups are of whole ranges of the index, so that shares are exact: multiples of an eighth of the
    histogram's limit. None where an earlier version made the index.
    """
    if not shown.has("example_ends"):
        return None
    counts, limit, maximum = (
        shown.slice(name, neuron, neuron + 1)[0]
        for name in ("histogram_counts", "histogram_limit", "max_activation")
    )
    total = int(counts.sum())
    if not total:
        return []
    by_range = counts.reshape(N_RANGES, -1).sum(axis=1)
    used = int(by_range.nonzero()[0][-1]) + 1
    entries = list(_examples(shown, neuron))
    n_groups = min(bins, used)
    edges = [round(used * place / n_groups) for place in range(n_groups + 1)]
    groups = []
    for begin, end in pairwise(edges):
        # The lowest draws of some ranges are a sample of them together.
        mine = sorted((one for one in entries if begin <= one["ranges"] < end), key=lambda one: one["draws"])
        drawn = sorted(mine[:per_bin], key=lambda one: -one["scores"])
        groups.append(
            StoredExampleGroup(
                begin=float(limit) * begin / N_RANGES,
                end=float(maximum) if end == used else float(limit) * end / N_RANGES,
                share=int(by_range[begin:end].sum()) / total,
                texts=[shown.show(entry) for entry in drawn],
            )
        )
    return groups


def _examples(shown: ShownTexts, neuron: int) -> Iterator[dict[str, Any]]:
    ends = shown.slice("example_ends", max(0, neuron - 1), neuron + 1).tolist()
    start, stop = (ends[0], ends[1]) if neuron else (0, ends[0])
    columns = ("ranges", "draws", "rows", "pieces", "scores", "token_index", "start", "length", "activations")
    part = {
        column: shown.slice(f"example_{column}", start, stop)
        for column in columns
        if shown.has(f"example_{column}")
    }
    for place in range(stop - start):
        yield {column: values[place] for column, values in part.items()}


def silent_texts(shown: ShownTexts, neuron: int, first: int) -> list[StoredTopText] | None:
    """Return texts drawn from the run on which a neuron does not fire; None where there are none stored."""
    if not shown.has("drawn_fired"):
        return None
    fired = shown.slice("drawn_fired", neuron, neuron + 1)[0]
    columns = ("rows", "pieces", "token_index", "start", "length")
    drawn = {
        column: shown.file.get_tensor(f"drawn_{column}") for column in columns if shown.has(f"drawn_{column}")
    }
    n_texts = len(drawn["rows"])
    # Each neuron begins at another text, so that not all show the same.
    places = [(neuron + place) % n_texts for place in range(n_texts)]
    silent = [place for place in places if not fired[place // 8] >> place % 8 & 1][:first]
    return [
        shown.show(
            {column: values[place] for column, values in drawn.items()}
            | {"scores": 0.0, "activations": [0.0] * int(drawn["length"][place])}
        )
        for place in silent
    ]


def near_texts(shown: ShownTexts, neuron: int, first: int) -> list[StoredNearText] | None:
    """Return similar neurons' texts on which a neuron does not fire; None where there are none stored."""
    if not shown.has("near_text_neurons"):
        return None
    neurons, places = (
        shown.slice(name, neuron, neuron + 1)[0].tolist()
        for name in ("near_text_neurons", "near_text_places")
    )
    found = [(near, place) for near, place in zip(neurons, places, strict=True) if near >= 0]
    return [
        StoredNearText(near, shown.show(top_entries(shown, near, place + 1)[place]))
        for near, place in found[:first]
    ]
