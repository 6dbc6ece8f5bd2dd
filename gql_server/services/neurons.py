"""Pages of an SAE's neurons, by index, by what a neuron index says of them, or by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.errors import Conflict, InvalidInput, Refusal
from gql_server.services import cursors, neuron_names, neuron_selection, neuron_tensors
from gql_server.services.neuron_conditions import BY_CONCEPT, NeuronConditions, NeuronOrder
from gql_server.services.neuron_names import CursorKey, Named
from gql_server.services.neuron_selection import Neighbors, Selected
from gql_server.services.pages import Page
from models import NeuronIndex, Sae
from models.enums import ArtifactStatus

if TYPE_CHECKING:
    from gql_server.services.app_context import AppContext


@dataclass(frozen=True)
class NeuronPage:
    """A page of neurons' indices, and how many fulfil the conditions in all."""

    page: Page[int]
    count: int


@dataclass(frozen=True)
class NeuronSelection:
    """Which neurons of an SAE, in which order."""

    order: NeuronOrder
    conditions: NeuronConditions

    @property
    def needs_index(self) -> bool:
        """Whether only a neuron index can tell."""
        by_figure = self.order is not NeuronOrder.INDEX and self.order not in BY_CONCEPT
        return by_figure or self.conditions.needs_index

    @property
    def reads_index(self) -> bool:
        """Whether a neuron index is looked into, where there is one."""
        return self.needs_index or self.conditions.searches

    @property
    def all_by_index(self) -> bool:
        """Whether it is all of them by their index, for which nothing has to be read."""
        return self.order is NeuronOrder.INDEX and self.conditions.none


@dataclass(frozen=True)
class NeuronQuery:
    """Which page of a selection is asked for: the one behind a cursor, or that from a place on."""

    first: int
    after: str | None
    selection: NeuronSelection
    offset: int | None = None


async def pages(
    server: "AppContext", saes: Sequence[Sae], indexes: Mapping[str, NeuronIndex], query: NeuronQuery
) -> dict[str, NeuronPage | Refusal]:
    """Return the page of every SAE, by its ID, or the refusal of what needs an index where none is.

    ``indexes`` are the SAEs', by their IDs, if the selection reads them.
    Raises InvalidInput for a bad ``first``, cursor, offset or condition.
    """
    cursors.check_first(query.first)
    query.selection.conditions.check()
    _check_offset(query)
    key = _decoded(query)
    if query.selection.all_by_index:
        return {sae.id: _counted_out(sae, query, key) for sae in saes}
    if query.selection.order not in BY_CONCEPT:
        async with server.database.read() as session:
            named = await _named(session, saes, query.selection, key)
        read = _Read(indexes, named)
        return {sae.id: await _page_of(server, sae, query, key, read) for sae in saes}
    # Cursors take names and times of the state that the order goes by, whoever changes them meanwhile.
    async with server.database.hold() as session:
        read = _Read(indexes, await _named(session, saes, query.selection, key))
        return {sae.id: await _page_of(server, sae, query, key, read, session) for sae in saes}


async def _page_of(
    server: "AppContext",
    sae: Sae,
    query: NeuronQuery,
    key: CursorKey | None,
    read: "_Read",
    session: AsyncSession | None = None,
) -> NeuronPage | Refusal:
    """Return an SAE's page; an order by names needs the session that has read them."""
    order = query.selection.order
    select = partial(neuron_selection.selected, order, query.selection.conditions)
    looked = _looked(server, sae, query.selection, read, select, key, query.offset or 0, query.first + 1)
    chosen: Selected | Refusal = await looked
    if isinstance(chosen, Refusal):
        return chosen
    keys: Sequence[float | str] = chosen.values
    if session is not None:
        keys = await neuron_names.cursor_keys(session, sae.id, order, chosen.indices)
    return NeuronPage(_page(chosen.indices, keys, query), chosen.count)


async def neighbors(
    server: "AppContext",
    sae: Sae,
    index: NeuronIndex | None,
    selection: NeuronSelection,
    neurons: Sequence[int],
) -> list[Neighbors] | Refusal:
    """Return what comes before and after each of some neurons in a selection, whether it is in it or not.

    ``index`` is the SAE's, if the selection reads it.
    A refusal says that an index is needed. Raises InvalidInput for a bad condition.
    """
    selection.conditions.check()
    if selection.all_by_index:
        last = (sae.latent_count or 0) - 1
        return [
            Neighbors(neuron - 1 if neuron > 0 else None, neuron + 1 if neuron < last else None)
            for neuron in neurons
        ]
    find = partial(neuron_selection.neighbors, selection.order, selection.conditions, list(neurons))
    async with server.database.read() as session:
        read = _Read({sae.id: index} if index else {}, await _named(session, [sae], selection, None))
    found: list[Neighbors] | Refusal = await _looked(server, sae, selection, read, find)
    return found


def _check_offset(query: NeuronQuery) -> None:
    if query.offset is None:
        return
    if query.after is not None:
        raise InvalidInput.at("offset", "A page begins behind a cursor or at an offset; give one of them.")
    if query.offset < 0:
        raise InvalidInput.at("offset", f"offset must be 0 or more; it is {query.offset}.")


def _decoded(query: NeuronQuery) -> CursorKey | None:
    if query.after is None:
        return None
    order = query.selection.order
    key = cursors.decode(query.after, str(order), str if order in BY_CONCEPT else float, int)
    return CursorKey(key[0], key[1])


def _counted_out(sae: Sae, query: NeuronQuery, key: CursorKey | None) -> NeuronPage:
    """Return a page of all of an SAE's neurons, for which nothing has to be read."""
    n_latents = sae.latent_count or 0
    start = min(query.offset or 0, n_latents) if key is None else min(max(key.neuron + 1, 0), n_latents)
    indices = list(range(start, min(start + query.first + 1, n_latents)))
    return NeuronPage(_page(indices, [0.0] * len(indices), query), n_latents)


@dataclass(frozen=True)
class _Read:
    """What the database says, by SAE."""

    indexes: Mapping[str, NeuronIndex]
    named: Mapping[str, Named]


async def _named(
    session: AsyncSession, saes: Sequence[Sae], selection: NeuronSelection, key: CursorKey | None
) -> dict[str, Named]:
    return await neuron_names.read(
        session, [sae.id for sae in saes], selection.order, selection.conditions, key
    )


async def _looked(
    server: "AppContext", sae: Sae, selection: NeuronSelection, read: _Read, look: Any, *args: Any
) -> Any:
    """Return what a function of neuron_selection makes of an SAE in a reader, or a refusal."""
    index = read.indexes.get(sae.id)
    ready = index is not None and index.status is ArtifactStatus.READY
    if selection.needs_index and not ready:
        return _not_indexed(sae, index, selection.order)
    of_sae = partial(look, sae.latent_count or 0, read.named.get(sae.id, Named()), *args)
    try:
        return await neuron_tensors.look(server, index.id if index and ready else None, of_sae)
    except (Conflict, InvalidInput) as refusal:
        return refusal


def _not_indexed(sae: Sae, index: NeuronIndex | None, order: NeuronOrder) -> InvalidInput:
    under_way = index is not None and index.status in (ArtifactStatus.PENDING, ArtifactStatus.BUILDING)
    state, advice = (
        ("are still being indexed", "wait for its INDEX_NEURONS job")
        if under_way
        else ("have not been indexed", "run indexNeurons first")
    )
    return InvalidInput.at(
        "filter" if order is NeuronOrder.INDEX else "orderBy",
        f"The neurons of {sae.name!r} {state}, so only indices and names can be told: {advice}.",
    )


def _page(indices: list[int], keys: Sequence[float | str], query: NeuronQuery) -> Page[int]:
    shown, order = indices[: query.first], str(query.selection.order)
    return Page(
        items=shown,
        cursors=[cursors.encode(order, key, index) for key, index in zip(keys, shown, strict=False)],
        has_next=len(indices) > query.first,
        has_previous=query.after is not None or bool(query.offset),
    )
