"""Earlier names of neurons: what a concept was before each change, the newest ones of each neuron."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    LargeBinary,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession

from models import Concept, ConceptRevision
from models.base import now
from models.enums import ConceptSource

MAX_REVISIONS = 20
"""Versions of a neuron's concept that are kept, the present one among them."""
MAX_BYTES = 64 * 2**10
"""Of the names and notes of a neuron's earlier versions: more than one version can have."""
_ALWAYS_SHORT = 2
"""Versions of which one is earlier, which has not MAX_BYTES."""
_ROWS_AT_ONCE = 1000


async def keep(session: AsyncSession, *conditions: ColumnElement[bool]) -> None:
    """Keep concepts as they are, before they are changed or deleted, without reading them."""
    await session.flush()
    columns = ("sae_id", "neuron_index", "version", "name", "score", "source", "note")
    present = select(*(getattr(Concept, name) for name in columns), Concept.updated_at).where(*conditions)
    await session.execute(insert(ConceptRevision).from_select([*columns, "at"], present))


async def last_versions(session: AsyncSession, sae_id: str, low: int, high: int) -> dict[int, int]:
    """Return the newest version that is kept of each neuron from ``low`` to ``high``, where there is one."""
    query = (
        select(ConceptRevision.neuron_index, func.max(ConceptRevision.version))
        .where(ConceptRevision.sae_id == sae_id, ConceptRevision.neuron_index.between(low, high))
        .group_by(ConceptRevision.neuron_index)
    )
    return {row[0]: row[1] for row in await session.execute(query)}


async def note_deleted(
    session: AsyncSession, sae_id: str, versions: Mapping[int, int], source: ConceptSource
) -> None:
    """Note that concepts are deleted; their last versions are given by neuron, and kept already."""
    at = now()
    deleted = [
        {
            "sae_id": sae_id,
            "neuron_index": neuron,
            "version": version + 1,
            "name": None,
            "score": None,
            "source": source,
            "note": None,
            "at": at,
        }
        for neuron, version in versions.items()
    ]
    for start in range(0, len(deleted), _ROWS_AT_ONCE):
        await session.execute(insert(ConceptRevision), deleted[start : start + _ROWS_AT_ONCE])
    await forget_oldest(session, sae_id, {neuron: version + 1 for neuron, version in versions.items()})


async def forget_oldest(session: AsyncSession, sae_id: str, versions: Mapping[int, int]) -> None:
    """Forget what is too old, or too long with all that is newer, given the present version by neuron."""
    oldest = [
        {"of_neuron": neuron, "oldest": version - MAX_REVISIONS}
        for neuron, version in versions.items()
        if version > MAX_REVISIONS
    ]
    if oldest:
        too_old = delete(ConceptRevision).where(
            ConceptRevision.sae_id == sae_id,
            ConceptRevision.neuron_index == bindparam("of_neuron"),
            ConceptRevision.version <= bindparam("oldest"),
        )
        await (await session.connection()).execute(too_old, oldest)
    # One earlier version alone is not too long.
    neurons = [{"of_neuron": neuron} for neuron, version in versions.items() if version > _ALWAYS_SHORT]
    if neurons:
        await (await session.connection()).execute(_too_long(sae_id), neurons)


def _too_long(sae_id: str) -> Delete:
    """Return the statement that forgets what is beyond MAX_BYTES of the neuron ``of_neuron``."""
    of_neuron = (
        ConceptRevision.sae_id == sae_id,
        ConceptRevision.neuron_index == bindparam("of_neuron"),
    )
    n_bytes = sum(
        func.coalesce(func.length(cast(text, LargeBinary)), 0)
        for text in (ConceptRevision.name, ConceptRevision.note)
    )
    with_newer = func.sum(n_bytes).over(order_by=ConceptRevision.version.desc()).label("with_newer")
    summed = select(ConceptRevision.version, with_newer).where(*of_neuron).subquery()
    too_long = select(summed.c.version).where(summed.c.with_newer > MAX_BYTES)
    return delete(ConceptRevision).where(*of_neuron, ConceptRevision.version.in_(too_long))


async def revisions(
    session: AsyncSession, neurons: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[ConceptRevision]]:
    """Return the earlier versions of neurons' concepts, each newest first, by SAE's ID and index."""
    found: dict[tuple[str, int], list[ConceptRevision]] = {neuron: [] for neuron in neurons}
    of_neurons = tuple_(ConceptRevision.sae_id, ConceptRevision.neuron_index).in_(neurons)
    query: Any = select(ConceptRevision).where(of_neurons).order_by(ConceptRevision.version.desc())
    for row in await session.scalars(query):
        found[row.sae_id, row.neuron_index].append(row)
    return found
