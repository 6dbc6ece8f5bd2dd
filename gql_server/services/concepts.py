"""Concepts: naming neurons by hand and from files."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import delete as delete_rows, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.errors import Conflict, InvalidInput
from gql_server.files import write_whole
from gql_server.server import Server
from gql_server.services import artifacts, lookup
from gql_server.services.checks import Checks, visible
from gql_server.services.concept_files import (
    MAX_CONCEPT_NAME_LENGTH,
    ImportedConcept,
    format_of,
    parse,
)
from gql_server.services.requests import ImportConceptsRequest, SetConceptRequest
from gql_server.settings import Settings
from gql_server.text_files.problems import FileProblem
from gql_server.text_files.streams import decoded_whole
from models import Concept, Sae
from models.base import now
from models.enums import ConceptSource

MAX_NOTE_LENGTH = 10_000
MAX_FILE_SIZE = 64 * 2**20
"""Of a file of concepts, in bytes or characters: room for a million neurons."""


async def set_concept(server: Server, request: SetConceptRequest) -> Concept:
    """Name a neuron by hand, or name it anew.

    Raises:
        InvalidInput: The neuron, the name or the score cannot be right.
        NotFound: There is no such SAE.
        Conflict: The concept's version has moved on.
    """
    async with server.database.write() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
        _check(request, sae)
        concept = await _of_neuron(session, sae.id, request.neuron_index)
        _check_version(request, concept)
        if concept is None:
            concept = Concept(
                id=ids.new(ids.CONCEPT), sae_id=sae.id, neuron_index=request.neuron_index, version=0
            )
            session.add(concept)
        concept.name = request.name.strip()
        concept.score = request.score
        concept.note = request.note
        concept.source = ConceptSource.MANUAL
        concept.version += 1
        concept.updated_at = now()
        await _write_dictionary(server.settings, session, sae)
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
    good = visible(request.name) and len(request.name) <= MAX_CONCEPT_NAME_LENGTH
    checks.require(good, "name", f"A concept's name has 1 to {MAX_CONCEPT_NAME_LENGTH} characters.")
    if request.score is not None:
        checks.require(0 <= request.score <= 1, "score", "A score is a number from 0 to 1.")
    if request.note is not None:
        checks.require(len(request.note) <= MAX_NOTE_LENGTH, "note", f"{MAX_NOTE_LENGTH} characters may be.")
    checks.done()


def _check_version(request: SetConceptRequest, concept: Concept | None) -> None:
    version = concept.version if concept else None
    if request.expected_version is not None and request.expected_version != version:
        found = f"version {version}" if concept else "no concept"
        raise Conflict(
            f"The neuron has {found}, not version {request.expected_version}; read it again.",
            concept.id if concept else None,
            code="VERSION_MISMATCH",
        )


async def delete(server: Server, id: str) -> None:
    """Take a neuron's name away."""
    async with server.database.write() as session:
        concept = await lookup.get(session, Concept, id)
        sae = await session.get_one(Sae, concept.sae_id)
        await session.delete(concept)
        await _write_dictionary(server.settings, session, sae)


async def import_concepts(server: Server, request: ImportConceptsRequest) -> tuple[Sae, int, int]:
    """Take over the names in a file; returns the SAE, the neurons named, and the rows whose neuron was not.

    Raises:
        InvalidInput: The file is wrong somewhere; nothing has changed then.
    """
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
    rows = await asyncio.to_thread(_parse, request, known_latent_count(sae))
    async with server.database.write() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
        if request.mode == "REPLACE":
            imported = (Concept.sae_id == sae.id, Concept.source != ConceptSource.MANUAL)
            await session.execute(delete_rows(Concept).where(*imported))
        taken = await _take(session, sae, rows)
        await _write_dictionary(server.settings, session, sae)
    return sae, len(taken), sum(row.neuron_index not in taken for row in rows)


def _parse(request: ImportConceptsRequest, n_latents: int) -> list[ImportedConcept]:
    path = ["source", request.format or "upload"]
    content = request.content
    if len(content) > MAX_FILE_SIZE:
        raise InvalidInput.at(path, f"The file is larger than {MAX_FILE_SIZE // 2**20} MB.")
    if isinstance(content, bytes):
        try:
            content = decoded_whole(content, "The file")
        except FileProblem as problem:
            raise InvalidInput.at(path, str(problem)) from None
    return parse(content, request.format or format_of(content), path, n_latents)


async def _take(session: AsyncSession, sae: Sae, rows: Iterable[ImportedConcept]) -> set[int]:
    """Name neurons by the best of their rows; returns the neurons that got another name."""
    best: dict[int, ImportedConcept] = {}
    for row in rows:
        if row.neuron_index not in best or row.rank > best[row.neuron_index].rank:
            best[row.neuron_index] = row
    present = await session.scalars(select(Concept).where(Concept.sae_id == sae.id))
    by_neuron = {concept.neuron_index: concept for concept in present}
    taken: set[int] = set()
    for row in best.values():
        concept = by_neuron.get(row.neuron_index)
        if concept is not None and not _yields(concept, row):
            continue
        if concept is None:
            concept = Concept(
                id=ids.new(ids.CONCEPT), sae_id=sae.id, neuron_index=row.neuron_index, version=0
            )
            session.add(concept)
        concept.name, concept.score, concept.note = row.name, row.score, None
        concept.source = ConceptSource.IMPORTED
        concept.version += 1
        concept.updated_at = now()
        taken.add(row.neuron_index)
    return taken


def _yields(concept: Concept, row: ImportedConcept) -> bool:
    """Whether an import may overwrite what is there: never what a person has set."""
    if concept.source == ConceptSource.MANUAL:
        return False
    return (concept.score is None and row.score is not None) or (
        concept.score is not None and row.rank > concept.score
    )


async def _of_neuron(session: AsyncSession, sae_id: str, neuron_index: int) -> Concept | None:
    query = select(Concept).where(Concept.sae_id == sae_id, Concept.neuron_index == neuron_index)
    return await session.scalar(query)


async def _write_dictionary(settings: Settings, session: AsyncSession, sae: Sae) -> None:
    """Write the SAE's concepts as mi_crow's ConceptDictionary reads them; it needs a number as score."""
    await session.flush()
    query = select(Concept).where(Concept.sae_id == sae.id).order_by(Concept.neuron_index)
    concepts = {
        str(concept.neuron_index): {"name": concept.name, "score": concept.score or 0.0}
        for concept in await session.scalars(query)
    }
    content = {"n_size": sae.latent_count, "concepts": concepts}
    path = artifacts.sae_directory(settings, sae) / "concepts" / "concepts.json"
    await asyncio.to_thread(_write_json, path, content)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=2).encode())
