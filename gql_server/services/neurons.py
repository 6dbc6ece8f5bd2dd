"""Pages of an SAE's neurons, by index or by what a neuron index says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, cast, func, select

from gql_server.errors import Conflict, InvalidInput, Refusal
from gql_server.services import batches, cursors, neuron_tensors
from gql_server.services.pages import Page
from models import Concept, NeuronIndex, Sae
from models.enums import ArtifactStatus

if TYPE_CHECKING:
    import numpy as np

    from gql_server.services.app_context import AppContext


class NeuronOrder(StrEnum):
    """What neurons are ordered by; ties go by index."""

    INDEX = "INDEX"
    FREQUENCY_DESC = "FREQUENCY_DESC"
    FREQUENCY_ASC = "FREQUENCY_ASC"
    MAX_ACTIVATION_DESC = "MAX_ACTIVATION_DESC"
    MEAN_ACTIVATION_DESC = "MEAN_ACTIVATION_DESC"


_ORDER_TENSORS = {
    NeuronOrder.FREQUENCY_DESC: "frequency",
    NeuronOrder.FREQUENCY_ASC: "frequency",
    NeuronOrder.MAX_ACTIVATION_DESC: "max_activation",
    NeuronOrder.MEAN_ACTIVATION_DESC: "mean_activation",
}


@dataclass(frozen=True)
class NeuronConditions:
    """What neurons must fulfil; None asks nothing."""

    dead: bool | None = None
    has_concept: bool | None = None
    min_frequency: float | None = None
    max_frequency: float | None = None

    @property
    def needs_index(self) -> bool:
        """Whether only a neuron index can tell."""
        return not (self.dead is None and self.min_frequency is None and self.max_frequency is None)

    @property
    def none(self) -> bool:
        """Whether nothing is asked for."""
        return self == NeuronConditions()


@dataclass(frozen=True)
class NeuronPage:
    """A page of neurons' indices, and how many fulfil the conditions in all."""

    page: Page[int]
    count: int


@dataclass(frozen=True)
class NeuronQuery:
    """Which neurons of an SAE are asked for."""

    first: int
    after: str | None
    order: NeuronOrder
    conditions: NeuronConditions

    @property
    def needs_index(self) -> bool:
        """Whether only a neuron index can tell."""
        return self.order is not NeuronOrder.INDEX or self.conditions.needs_index


async def pages(
    server: "AppContext", saes: Sequence[Sae], query: NeuronQuery
) -> dict[str, NeuronPage | Refusal]:
    """Return the page of every SAE, by its ID, or the refusal of what needs an index where none is.

    Raises InvalidInput for a bad ``first`` or cursor.
    """
    cursors.check_first(query.first)
    key = cursors.decode(query.after, str(query.order), float, int) if query.after is not None else None
    if query.order is NeuronOrder.INDEX and query.conditions.none:
        return {sae.id: _counted_out(sae, query, key) for sae in saes}
    indexes, named = await _read(server, [sae.id for sae in saes], query)
    found: dict[str, NeuronPage | Refusal] = {}
    for sae in saes:
        index = indexes.get(sae.id)
        if query.needs_index and (index is None or index.status is not ArtifactStatus.READY):
            found[sae.id] = _not_indexed(sae, index, query)
            continue
        select_page = partial(_selected, sae.latent_count or 0, named[sae.id], query, key)
        try:
            found[sae.id] = await neuron_tensors.look(server, index.id if index else None, select_page)
        except Conflict as gone:
            found[sae.id] = gone
    return found


def _counted_out(sae: Sae, query: NeuronQuery, key: list[Any] | None) -> NeuronPage:
    """Return a page of all of an SAE's neurons, for which nothing has to be read."""
    n_latents = sae.latent_count or 0
    start = 0 if key is None else min(max(key[1] + 1, 0), n_latents)
    indices = list(range(start, min(start + query.first + 1, n_latents)))
    return NeuronPage(_page(indices, [0.0] * len(indices), query), n_latents)


def _not_indexed(sae: Sae, index: NeuronIndex | None, query: NeuronQuery) -> InvalidInput:
    under_way = index is not None and index.status in (ArtifactStatus.PENDING, ArtifactStatus.BUILDING)
    state, advice = (
        ("are still being indexed", "wait for its INDEX_NEURONS job")
        if under_way
        else ("have not been indexed", "run indexNeurons first")
    )
    return InvalidInput.at(
        "filter" if query.order is NeuronOrder.INDEX else "orderBy",
        f"The neurons of {sae.name!r} {state}, so only orderBy INDEX and filter.hasConcept can be told;"
        f" {advice}.",
    )


async def _read(
    server: "AppContext", sae_ids: Sequence[str], query: NeuronQuery
) -> tuple[dict[str, NeuronIndex], dict[str, list[int]]]:
    """Return the indexes and which neurons have a concept, by SAE, as far as that is needed."""
    indexes: dict[str, NeuronIndex] = {}
    named: dict[str, list[int]] = {sae_id: [] for sae_id in sae_ids}
    async with server.database.read() as session:
        if query.needs_index:
            indexes = await batches.neuron_indexes(session, sae_ids)
        if query.conditions.has_concept is not None:
            # One row for each SAE: thousands of rows would keep the event loop for tens of milliseconds.
            numbers = func.aggregate_strings(cast(Concept.neuron_index, String), ",")
            columns = select(Concept.sae_id, numbers).where(Concept.sae_id.in_(sae_ids))
            for sae_id, joined in await session.execute(columns.group_by(Concept.sae_id)):
                named[sae_id] = [int(number) for number in joined.split(",")]
    return indexes, named


def _selected(
    n_latents: int,
    named: list[int],
    query: NeuronQuery,
    key: list[Any] | None,
    tensors_path: Path | None,
) -> NeuronPage:
    """Return the page behind a key, from what the index and the concepts say."""
    import numpy as np

    order = query.order
    selected = np.flatnonzero(_fulfilling(n_latents, tensors_path, named, query.conditions))
    values = np.zeros(n_latents)
    if tensors_path and order is not NeuronOrder.INDEX:
        values = neuron_tensors.whole(tensors_path, _ORDER_TENSORS[order]).astype(np.float64)
        values = np.nan_to_num(values, nan=-1.0, posinf=float(np.finfo(np.float64).max))
    # The smallest come first, so descending orders are negated.
    sign = 1.0 if order in (NeuronOrder.INDEX, NeuronOrder.FREQUENCY_ASC) else -1.0
    ranks = sign * values[selected]
    total = len(selected)
    if key is not None:
        beyond = (ranks > sign * key[0]) | ((ranks == sign * key[0]) & (selected > key[1]))
        selected, ranks = selected[beyond], ranks[beyond]
    shown = selected[_smallest(ranks, query.first + 1)]
    return NeuronPage(_page(shown.tolist(), values[shown].tolist(), query), total)


def _smallest(ranks: "np.ndarray[Any, Any]", count: int) -> "np.ndarray[Any, Any]":
    """Return the places of the smallest ranks, in order, without sorting all; of equal ones the first."""
    import numpy as np

    if len(ranks) > count:
        bound = np.partition(ranks, count - 1)[count - 1]
        below = np.flatnonzero(ranks < bound)
        candidates = np.concatenate([below, np.flatnonzero(ranks == bound)[: count - len(below)]])
    else:
        candidates = np.arange(len(ranks))
    ordered: np.ndarray[Any, Any] = candidates[np.argsort(ranks[candidates], kind="stable")]
    return ordered


def _fulfilling(
    n_latents: int, tensors_path: Path | None, named: list[int], conditions: NeuronConditions
) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    import numpy as np

    mask = np.ones(n_latents, dtype=np.bool_)
    if conditions.has_concept is not None:
        mask[:] = not conditions.has_concept
        mask[named] = conditions.has_concept
    if tensors_path and conditions.dead is not None:
        mask &= (neuron_tensors.whole(tensors_path, "firing_count") == 0) == conditions.dead
    if tensors_path and (conditions.min_frequency is not None or conditions.max_frequency is not None):
        frequency = neuron_tensors.whole(tensors_path, "frequency")
        if conditions.min_frequency is not None:
            mask &= frequency >= conditions.min_frequency
        if conditions.max_frequency is not None:
            mask &= frequency <= conditions.max_frequency
    return mask


def _page(indices: list[int], values: list[float], query: NeuronQuery) -> Page[int]:
    shown, order = indices[: query.first], str(query.order)
    return Page(
        items=shown,
        cursors=[cursors.encode(order, value, index) for value, index in zip(values, shown, strict=False)],
        has_next=len(indices) > query.first,
        has_previous=query.after is not None,
    )
