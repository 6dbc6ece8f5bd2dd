"""Concepts: naming neurons by hand, and their dictionary on the disk."""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.files import atomic_write
from gql_server.errors import Conflict, InvalidInput
from gql_server.services import artifacts, concept_history, lookup
from gql_server.services.app_context import AppContext
from gql_server.services.checks import NOT_PLAIN, Checks, visible
from gql_server.services.concept_files import (
    MAX_CONCEPT_NAME_LENGTH,
    ROWS_AT_ONCE,
)
from gql_server.services.requests import (
    RestoreConceptRequest,
    SetConceptRequest,
)
from gql_server.settings import Settings
from gql_server.telemetry.plain_text import is_plain
from models import Concept, ConceptRevision, Sae
from models.base import now
from models.enums import ConceptSource

MAX_NOTE_LENGTH = 10_000


async def set_concept(server: AppContext, request: SetConceptRequest) -> Concept:
    """Name a neuron by hand, or name it anew; a concept that is just so already stays as it is.

    Raises:
        InvalidInput: The neuron, the name or the score cannot be right.
        NotFound: There is no such SAE.
        Conflict: The concept's version has moved on.
    """
    async with server.database.write() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
        _check(request, sae)
        concept = await _of_neuron(session, sae.id, request.neuron_index)
        _check_version(request.expected_version, concept)
        content = (request.name.strip(), request.score, request.note, ConceptSource.MANUAL)
        return await _changed(server.settings, session, sae, request.neuron_index, concept, content)


async def restore(server: AppContext, request: RestoreConceptRequest) -> Concept:
    """Name a neuron as it was named at an earlier version, with its score, source and note, as a new version.

    A concept that is just so already stays as it is.

    Raises:
        InvalidInput: There is no such neuron or version, or the concept was deleted with it.
        NotFound: There is no such SAE.
        Conflict: The concept's version has moved on.
    """
    index = request.neuron_index
    async with server.database.write() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
        checks = Checks()
        checks.whole_number("neuronIndex", index, 0, known_latent_count(sae) - 1)
        checks.done()
        concept = await _of_neuron(session, sae.id, index)
        _check_version(request.expected_version, concept)
        if concept is not None and concept.version == request.version:
            return concept
        wanted = await session.get(ConceptRevision, (sae.id, index, request.version))
        if wanted is None:
            raise InvalidInput.at("version", "The neuron's conceptHistory has no such version.")
        if wanted.name is None:
            message = "With that version the concept was deleted; deleteConcept does that."
            raise InvalidInput.at("version", message)
        content = (wanted.name, wanted.score, wanted.note, wanted.source)
        return await _changed(server.settings, session, sae, index, concept, content)


async def _changed(
    settings: Settings,
    session: AsyncSession,
    sae: Sae,
    neuron_index: int,
    concept: Concept | None,
    content: tuple[str, float | None, str | None, ConceptSource],
) -> Concept:
    """Return a neuron's concept with this content, as a new version unless it has it already."""
    if concept is not None and (concept.name, concept.score, concept.note, concept.source) == content:
        return concept
    concept = await _next_version(session, sae, neuron_index, concept)
    concept.name, concept.score, concept.note, concept.source = content
    await write_dictionary(settings, session, sae)
    return concept


async def _next_version(
    session: AsyncSession, sae: Sae, neuron_index: int, concept: Concept | None
) -> Concept:
    """Return a neuron's concept, a new one if need be, to be changed: what it was is kept."""
    if concept is None:
        last = await concept_history.last_versions(session, sae.id, neuron_index, neuron_index)
        version = last.get(neuron_index, 0)
        concept = Concept(id=ids.new(ids.CONCEPT), sae_id=sae.id, neuron_index=neuron_index, version=version)
        session.add(concept)
    else:
        await concept_history.keep(session, Concept.id == concept.id)
    concept.version += 1
    concept.updated_at = now()
    await concept_history.forget_oldest(session, sae.id, {neuron_index: concept.version})
    return concept


def known_latent_count(sae: Sae) -> int:
    """Return the SAE's number of neurons.

    Raises:
        Conflict: An import has not read it yet.
    """
    if sae.latent_count is None:
        raise Conflict("The SAE has not been read yet; wait for its job to end.", sae.id)
    return sae.latent_count


def _check(request: SetConceptRequest, sae: Sae) -> None:
    checks = Checks()
    checks.whole_number("neuronIndex", request.neuron_index, 0, known_latent_count(sae) - 1)
    check_content(checks, [], request.name, request.score, request.note)
    checks.done()


def check_content(
    checks: Checks,
    path: Sequence[str],
    name: str,
    score: float | None,
    note: str | None,
    is_bounded: bool = True,
) -> None:
    """Note what is wrong with a concept at a path; a score that is bounded lies from 0 to 1."""
    good = visible(name) and len(name) <= MAX_CONCEPT_NAME_LENGTH
    message = f"A concept's name has 1 to {MAX_CONCEPT_NAME_LENGTH} characters."
    checks.require(good, [*path, "name"], message)
    checks.require(is_plain(name), [*path, "name"], NOT_PLAIN)
    if score is not None and is_bounded:
        checks.require(0 <= score <= 1, [*path, "score"], "A score is a number from 0 to 1.")
    elif score is not None:
        checks.require(math.isfinite(score), [*path, "score"], "A score is a finite number.")
    if note is not None:
        checks.require(
            len(note) <= MAX_NOTE_LENGTH,
            [*path, "note"],
            f"The note has {len(note):,} characters; the limit is {MAX_NOTE_LENGTH:,}.",
        )


def _check_version(expected: int | None, concept: Concept | None) -> None:
    version = concept.version if concept else None
    if expected is not None and expected != version:
        found = f"version {version}" if concept else "no concept"
        raise Conflict(
            f"The neuron has {found}, not version {expected}; read it again.",
            concept.id if concept else None,
            code="VERSION_MISMATCH",
        )


async def delete(server: AppContext, id: str) -> None:
    """Take a neuron's name away; its history stays."""
    async with server.database.write() as session:
        concept = await lookup.get(session, Concept, id)
        sae = await session.get_one(Sae, concept.sae_id)
        await concept_history.keep(session, Concept.id == id)
        await session.delete(concept)
        last = {concept.neuron_index: concept.version}
        await concept_history.note_deleted(session, sae.id, last, ConceptSource.MANUAL)
        await write_dictionary(server.settings, session, sae)


async def _of_neuron(session: AsyncSession, sae_id: str, neuron_index: int) -> Concept | None:
    query = select(Concept).where(Concept.sae_id == sae_id, Concept.neuron_index == neuron_index)
    return await session.scalar(query)


async def write_dictionary(settings: Settings, session: AsyncSession, sae: Sae) -> None:
    """Write the SAE's concepts as mi_crow's ConceptDictionary reads them; it needs a number as score."""
    await session.flush()
    query = select(Concept.neuron_index, Concept.name, Concept.score).where(Concept.sae_id == sae.id)
    rows = list[tuple[int, str, float | None]]()
    # Some at a time, so that others' requests get on in between.
    async for part in (await session.stream(query.order_by(Concept.neuron_index))).partitions(ROWS_AT_ONCE):
        rows += [(row[0], row[1], row[2]) for row in part]
    path = artifacts.sae_directory(settings, sae) / "concepts" / "concepts.json"
    await asyncio.to_thread(_write, path, sae.latent_count, rows)


def _write(path: Path, n_latents: int | None, rows: Sequence[tuple[int, str, float | None]]) -> None:
    concepts = {str(index): {"name": name, "score": score or 0.0} for index, name, score in rows}
    content = {"n_size": n_latents, "concepts": concepts}
    # The same bytes as of json.dumps, which is written in Python where it indents.
    atomic_write(path, msgspec.json.format(msgspec.json.encode(content), indent=2))
