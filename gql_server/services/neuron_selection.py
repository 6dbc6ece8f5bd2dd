"""Which neurons fulfil conditions, in an order: what a reader finds out of an index and of names."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gql_server.artifacts.search_words import SEARCH_FILE, neurons_with
from gql_server.errors import InvalidInput
from gql_server.services import neuron_tensors
from gql_server.services.neuron_conditions import (
    BY_CONCEPT,
    OF_INDEX,
    NeuronConditions,
    NeuronOrder,
)
from gql_server.services.neuron_names import CursorKey, Named

if TYPE_CHECKING:
    import numpy as np

NO_WORDS = (
    "The neuron index has no words to search, since an earlier version made it; run indexNeurons again, or"
    " search in CONCEPT and NOTE."
)
_ORDER_TENSORS = {
    NeuronOrder.FREQUENCY_DESC: "frequency",
    NeuronOrder.FREQUENCY_ASC: "frequency",
    NeuronOrder.MAX_ACTIVATION_DESC: "max_activation",
    NeuronOrder.MAX_ACTIVATION_ASC: "max_activation",
    NeuronOrder.MEAN_ACTIVATION_DESC: "mean_activation",
}
_ASCENDING = (NeuronOrder.INDEX, NeuronOrder.FREQUENCY_ASC, NeuronOrder.MAX_ACTIVATION_ASC, *BY_CONCEPT)


@dataclass(frozen=True)
class Selected:
    """Neurons in order, with the figures that they go by, and how many fulfil the conditions in all."""

    indices: list[int]
    values: list[float]
    count: int


@dataclass(frozen=True)
class Neighbors:
    """What comes before and after a neuron; None at an end."""

    previous: int | None
    next: int | None


def selected(
    order: NeuronOrder,
    conditions: NeuronConditions,
    n_latents: int,
    named: Named,
    key: CursorKey | None,
    offset: int,
    count: int,
    path: Path | None,
) -> Selected:
    """Return ``count`` neurons from a place behind a key on; those before it stay in the reader.

    Raises InvalidInput where an index without words is to be searched, Conflict where it is gone or damaged.
    """
    import numpy as np

    chosen = np.flatnonzero(_fulfilling(n_latents, path, named, conditions))
    values = _values(n_latents, path, named, order)
    sign = 1.0 if order in _ASCENDING else -1.0
    ranks = sign * values[chosen]
    total = len(chosen)
    if key is not None:
        beyond = _beyond(order, key, named, ranks, chosen, sign, n_latents)
        chosen, ranks = chosen[beyond], ranks[beyond]
    shown = chosen[_in_order(ranks, offset, count)]
    return Selected(shown.tolist(), values[shown].tolist(), total)


def neighbors(
    order: NeuronOrder,
    conditions: NeuronConditions,
    neurons: Sequence[int],
    n_latents: int,
    named: Named,
    path: Path | None,
) -> list[Neighbors]:
    """Return what comes before and after each of some neurons; errors as above."""
    import numpy as np

    sign = 1.0 if order in _ASCENDING else -1.0
    # Sorted stably, so that ties go by index.
    ordered = np.argsort(sign * _values(n_latents, path, named, order), kind="stable")
    fulfilling = _fulfilling(n_latents, path, named, conditions)
    places = np.empty(n_latents, np.int64)
    places[ordered] = np.arange(n_latents)
    chosen = np.flatnonzero(fulfilling[ordered])
    found = []
    for place in places[list(neurons)].tolist():
        before, after = np.searchsorted(chosen, place, "left"), np.searchsorted(chosen, place, "right")
        found.append(
            Neighbors(
                int(ordered[chosen[before - 1]]) if before > 0 else None,
                int(ordered[chosen[after]]) if after < len(chosen) else None,
            )
        )
    return found


def _values(n_latents: int, path: Path | None, named: Named, order: NeuronOrder) -> "np.ndarray[Any, Any]":
    """Return what neurons are ordered by, float64 [n_latents]."""
    import numpy as np

    if path and order in _ORDER_TENSORS:
        values = neuron_tensors.whole(path, _ORDER_TENSORS[order]).astype(np.float64)
        return np.nan_to_num(values, nan=-1.0, posinf=float(np.finfo(np.float64).max))
    values = np.zeros(n_latents)
    if order in BY_CONCEPT:
        # Those without a name come last.
        values[:] = n_latents
        places = np.array([pair.split(" ") for pair in named.ordered.split(",") if pair], dtype=np.int64)
        for_all = places.reshape(-1, 2)
        values[for_all[:, 1]] = for_all[:, 0] - 1
    return values


def _beyond(
    order: NeuronOrder,
    key: CursorKey,
    named: Named,
    ranks: "np.ndarray[Any, Any]",
    chosen: "np.ndarray[Any, Any]",
    sign: float,
    n_latents: int,
) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Say which neurons come behind a key."""
    if order in BY_CONCEPT:
        at = float(n_latents) if key.value == "" else named.n_before - 0.5
    else:
        at = sign * float(key.value)
    beyond: np.ndarray[Any, np.dtype[np.bool_]] = (ranks > at) | ((ranks == at) & (chosen > key.neuron))
    return beyond


def _in_order(ranks: "np.ndarray[Any, Any]", offset: int, count: int) -> "np.ndarray[Any, Any]":
    """Return the places of ``count`` ranks from the ``offset``-th on, ascending; equal ones as they stand.

    Only those that may be among them are sorted.
    """
    import numpy as np

    last = min(offset + count, len(ranks)) - 1
    if offset > last:
        return np.zeros(0, np.int64)
    parted = np.partition(ranks, (offset, last))
    low, high = parted[offset], parted[last]
    candidates = np.flatnonzero((ranks >= low) & (ranks <= high))
    n_before = int(np.count_nonzero(ranks < low))
    ordered: np.ndarray[Any, Any] = candidates[np.argsort(ranks[candidates], kind="stable")]
    return ordered[offset - n_before :][: last + 1 - offset]


def _fulfilling(
    n_latents: int, path: Path | None, named: Named, conditions: NeuronConditions
) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Say which neurons fulfil the conditions, bool [n_latents]."""
    import numpy as np

    mask = np.ones(n_latents, dtype=np.bool_)
    if conditions.has_concept is not None:
        mask &= _mask(n_latents, _numbers(named.with_concept)) == conditions.has_concept
    if conditions.concept_sources is not None:
        mask &= _mask(n_latents, _numbers(named.of_source))
    if conditions.indices is not None:
        mask &= _mask(n_latents, [index for index in conditions.indices if 0 <= index < n_latents])
    if path and conditions.dead is not None:
        mask &= (neuron_tensors.whole(path, "firing_count") == 0) == conditions.dead
    for name, low, high in (
        ("frequency", conditions.min_frequency, conditions.max_frequency),
        ("max_activation", conditions.min_max_activation, conditions.max_max_activation),
    ):
        if path and not (low is None and high is None):
            values = neuron_tensors.whole(path, name)
            mask &= (values >= (-np.inf if low is None else low)) & (
                values <= (np.inf if high is None else high)
            )
    if conditions.searches:
        mask &= _with_words(n_latents, path, named, conditions)
    return mask


def _with_words(
    n_latents: int, path: Path | None, named: Named, conditions: NeuronConditions
) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Say which neurons have all words of a search, each in any of the fields; none where it has no word."""
    import numpy as np

    wanted = conditions.search_words
    mask = np.full(n_latents, bool(wanted))
    tables = [field.value.lower() for field in OF_INDEX if field in conditions.searched_fields]
    for place, word in enumerate(wanted):
        if not mask.any():
            break
        found = _mask(n_latents, _numbers(named.with_words[place]) if named.with_words else [])
        if path:
            for table in tables:
                found[_of_index(path, table, word, required=conditions.needs_words)] = True
        mask &= found
    return mask


def _of_index(path: Path, table: str, word: str, *, required: bool) -> "np.ndarray[Any, Any]":
    """Return the neurons that a table of the index's words has for a word."""
    import numpy as np

    try:
        return neurons_with(path.parent / SEARCH_FILE, table, word)
    except FileNotFoundError:
        with neuron_tensors.opened(path):  # A Conflict where the index is gone as a whole.
            if required:
                raise InvalidInput.at(("filter", "searchIn"), NO_WORDS) from None
        return np.zeros(0, np.int64)
    except sqlite3.Error:
        raise neuron_tensors.damaged() from None


def _mask(n_latents: int, neurons: Sequence[int]) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    import numpy as np

    mask = np.zeros(n_latents, dtype=np.bool_)
    mask[list(neurons)] = True
    return mask


def _numbers(joined: str) -> list[int]:
    return [int(number) for number in joined.split(",")] if joined else []
