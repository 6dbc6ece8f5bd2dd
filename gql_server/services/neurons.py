"""Pages of an SAE's neurons, by index or by what a neuron index says of them."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from gql_server.errors import InvalidInput
from gql_server.services import batches, cursors, neuron_tensors
from gql_server.services.pages import Page
from models import Concept, Sae
from models.enums import ArtifactStatus

if TYPE_CHECKING:
    import numpy as np

    from gql_server.server import Server


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
    def need_index(self) -> bool:
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


async def page(
    server: "Server",
    sae: Sae,
    first: int,
    after: str | None,
    order: NeuronOrder,
    conditions: NeuronConditions,
) -> NeuronPage:
    """Return a page of an SAE's neurons.

    Raises InvalidInput for a bad ``first`` or cursor, and for an order or condition that needs an index where
    there is none.
    """
    cursors.check_first(first)
    key = cursors.decode(after, str(order), float, int) if after is not None else None
    n_latents = sae.latent_count or 0
    if order is NeuronOrder.INDEX and conditions.none:
        start = 0 if key is None else min(max(key[1] + 1, 0), n_latents)
        indices = list(range(start, min(start + first + 1, n_latents)))
        return NeuronPage(_page(indices, [0.0] * len(indices), first, after, order), n_latents)
    tensors_path, named = await _read(server, sae, order, conditions)
    selection = await asyncio.to_thread(
        _select, n_latents, tensors_path, named, order, conditions, key, first
    )
    return NeuronPage(_page(*selection[:2], first, after, order), selection[2])


async def _read(
    server: "Server", sae: Sae, order: NeuronOrder, conditions: NeuronConditions
) -> tuple[Path | None, list[int]]:
    """Return where the index's tensors are and which neurons have a concept, as far as that is needed."""
    async with server.database.read() as session:
        path = None
        if order is not NeuronOrder.INDEX or conditions.need_index:
            index = (await batches.neuron_indexes(session, [sae.id])).get(sae.id)
            if index is None or index.status is not ArtifactStatus.READY:
                raise InvalidInput.at(
                    "filter" if order is NeuronOrder.INDEX else "orderBy",
                    f"The neurons of {sae.name!r} have not been indexed, so only orderBy INDEX and"
                    " filter.hasConcept can be told; run indexNeurons first.",
                )
            path = neuron_tensors.path_of(server.settings, index.id)
        named: list[int] = []
        if conditions.has_concept is not None:
            named = list(await session.scalars(select(Concept.neuron_index).where(Concept.sae_id == sae.id)))
        return path, named


def _select(
    n_latents: int,
    tensors_path: Path | None,
    named: list[int],
    order: NeuronOrder,
    conditions: NeuronConditions,
    key: list[Any] | None,
    first: int,
) -> tuple[list[int], list[float], int]:
    """Return the next ``first + 1`` indices, what they are ordered by, and how many fulfil the conditions."""
    import numpy as np

    selected = np.flatnonzero(_fulfilling(n_latents, tensors_path, named, conditions))
    values = np.zeros(n_latents)
    if tensors_path and order is not NeuronOrder.INDEX:
        values = neuron_tensors.whole(tensors_path, _ORDER_TENSORS[order]).astype(np.float64)
        values = np.nan_to_num(values, nan=-1.0, posinf=float(np.finfo(np.float64).max))
    # lexsort goes by the last key first; ascending it is, so descending orders are negated.
    sign = 1.0 if order in (NeuronOrder.INDEX, NeuronOrder.FREQUENCY_ASC) else -1.0
    ranks = sign * values[selected]
    total = len(selected)
    if key is not None:
        beyond = (ranks > sign * key[0]) | ((ranks == sign * key[0]) & (selected > key[1]))
        selected, ranks = selected[beyond], ranks[beyond]
    shown = selected[np.lexsort((selected, ranks))[: first + 1]]
    return shown.tolist(), values[shown].tolist(), total


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


def _page(
    indices: list[int], values: list[float], first: int, after: str | None, order: NeuronOrder
) -> Page[int]:
    shown = indices[:first]
    return Page(
        items=shown,
        cursors=[
            cursors.encode(str(order), value, index) for value, index in zip(values, shown, strict=False)
        ],
        has_next=len(indices) > first,
        has_previous=after is not None,
    )
