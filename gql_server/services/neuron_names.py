"""What neurons' names say for a list of them: which have one, whose words match, and their order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, String, and_, cast, collate, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.database import concept_words
from gql_server.services import batches, cursors
from gql_server.services.neuron_conditions import (
    BY_CONCEPT,
    NeuronConditions,
    NeuronOrder,
    NeuronSearchField,
)
from models import Concept
from models.base import UtcDateTime


@dataclass(frozen=True)
class CursorKey:
    """Where a page ended: the figure, name or time that its last neuron goes by, and the neuron."""

    value: float | str
    """"" in an order by names for a neuron without one."""
    neuron: int


@dataclass(frozen=True)
class Named:
    """What an SAE's names say, as text: thousands of rows would keep the event loop for long."""

    with_concept: str = ""
    """Neurons with a name, joined by commas."""
    of_source: str = ""
    """Neurons with a name of the sources asked for."""
    ordered: str = ""
    """Neurons with a name in the order asked for: place and neuron, joined by spaces and commas."""
    with_words: Sequence[str] = ()
    """For each word of the search the neurons whose name or note has it; empty where none are looked for."""
    n_before: int = 0
    """How many of those ordered come up to the cursor, its own neuron included."""


async def read(
    session: AsyncSession,
    sae_ids: Sequence[str],
    order: NeuronOrder,
    conditions: NeuronConditions,
    key: CursorKey | None,
) -> dict[str, Named]:
    """Return what the names of SAEs' neurons say, by SAE, as far as it is needed; a statement for each part.

    Raises InvalidInput for a cursor without a time where the order is by times.
    """
    found = {sae_id: Named() for sae_id in sae_ids}

    async def add(part: str, value: Any, *where: ColumnElement[bool]) -> None:
        columns = select(Concept.sae_id, value).where(Concept.sae_id.in_(sae_ids), *where)
        for sae_id, joined in await session.execute(columns.group_by(Concept.sae_id)):
            found[sae_id] = replace(found[sae_id], **{part: joined})

    numbers = func.aggregate_strings(cast(Concept.neuron_index, String), ",")
    if conditions.has_concept is not None:
        await add("with_concept", numbers)
    if conditions.concept_sources is not None:
        await add("of_source", numbers, Concept.source.in_(conditions.concept_sources))
    fields = [of_field for field, of_field in _FIELDS.items() if field in conditions.searched_fields]
    if fields and conditions.search_words:
        of_words = await concept_words.neurons_with(session, sae_ids, conditions.search_words, fields)
        for sae_id, with_words in of_words.items():
            found[sae_id] = replace(found[sae_id], with_words=with_words)
    if order in BY_CONCEPT:
        await _add_order(session, found, order, key)
    return found


_FIELDS = {
    NeuronSearchField.CONCEPT: concept_words.NAME,
    NeuronSearchField.NOTE: concept_words.NOTE,
}


async def _add_order(
    session: AsyncSession, found: dict[str, Named], order: NeuronOrder, key: CursorKey | None
) -> None:
    column: Any = collate(Concept.name, "NOCASE")
    columns = (column, Concept.neuron_index)
    if order is NeuronOrder.CONCEPT_UPDATED_DESC:
        column = Concept.updated_at
        columns = (column.desc(), Concept.neuron_index)
    place = func.row_number().over(partition_by=Concept.sae_id, order_by=columns).label("place")
    of_saes = Concept.sae_id.in_(list(found))
    placed = select(Concept.sae_id, Concept.neuron_index, place).where(of_saes).subquery()
    pair = cast(placed.c.place, String) + " " + cast(placed.c.neuron_index, String)
    pairs = select(placed.c.sae_id, func.aggregate_strings(pair, ",")).group_by(placed.c.sae_id)
    for sae_id, joined in await session.execute(pairs):
        found[sae_id] = replace(found[sae_id], ordered=joined)
    if key is None or key.value == "":
        return
    value: Any = key.value
    before = column < value
    if order is NeuronOrder.CONCEPT_UPDATED_DESC:
        value = literal(cursors.time_of(str(key.value)), UtcDateTime)
        before = column > value
    up_to = or_(before, and_(column == value, Concept.neuron_index <= key.neuron))
    counts = select(Concept.sae_id, func.count()).where(of_saes, up_to).group_by(Concept.sae_id)
    for sae_id, count in await session.execute(counts):
        found[sae_id] = replace(found[sae_id], n_before=count)


async def cursor_keys(
    session: AsyncSession, sae_id: str, order: NeuronOrder, neurons: Sequence[int]
) -> list[str]:
    """Return what each of some neurons goes by in an order by names, for cursors; "" without a name."""
    concepts = await batches.concepts(session, [(sae_id, neuron) for neuron in neurons])
    keys = []
    for neuron in neurons:
        concept = concepts.get((sae_id, neuron))
        by_name = order is NeuronOrder.CONCEPT_NAME
        keys.append("" if concept is None else concept.name if by_name else concept.updated_at.isoformat())
    return keys
