"""Concepts: naming neurons by hand and from files."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import delete as delete_rows, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.files import atomic_write, temporary_path
from gql_server.errors import Conflict, InvalidInput
from gql_server.processes.reader_pool import refusing
from gql_server.services import artifacts, lookup, uploads
from gql_server.services.app_context import AppContext
from gql_server.services.checks import NOT_PLAIN, Checks, visible
from gql_server.services.concept_files import (
    MAX_CONCEPT_NAME_LENGTH,
    ROWS_AT_ONCE,
    ImportedConcept,
    take,
    taken_concepts,
)
from gql_server.services.requests import ImportConceptsRequest, SetConceptRequest
from gql_server.settings import Settings
from gql_server.telemetry.plain_text import is_plain
from models import Concept, Sae
from models.base import now
from models.enums import ConceptSource

MAX_NOTE_LENGTH = 10_000
MAX_FILE_SIZE = 64 * 2**20
"""Of a file of concepts, in bytes or characters: room for a million neurons."""


async def set_concept(server: AppContext, request: SetConceptRequest) -> Concept:
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
    checks.require(is_plain(request.name), "name", NOT_PLAIN)
    if request.score is not None:
        checks.require(0 <= request.score <= 1, "score", "A score is a number from 0 to 1.")
    if request.note is not None:
        checks.require(
            len(request.note) <= MAX_NOTE_LENGTH,
            "note",
            f"The note has {len(request.note):,} characters; the limit is {MAX_NOTE_LENGTH:,}.",
        )
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


async def delete(server: AppContext, id: str) -> None:
    """Take a neuron's name away."""
    async with server.database.write() as session:
        concept = await lookup.get(session, Concept, id)
        sae = await session.get_one(Sae, concept.sae_id)
        await session.delete(concept)
        await _write_dictionary(server.settings, session, sae)


async def import_concepts(server: AppContext, request: ImportConceptsRequest) -> tuple[Sae, int, int]:
    """Take over the names in a file; returns the SAE, the neurons named, and the rows whose neuron was not.

    Raises:
        InvalidInput: The file is wrong somewhere; nothing has changed then.
    """
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
    async with _taken(server, request, known_latent_count(sae)) as taken, server.database.write() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
        if request.mode == "REPLACE":
            imported = (Concept.sae_id == sae.id, Concept.source != ConceptSource.MANUAL)
            await session.execute(delete_rows(Concept).where(*imported))
        n_taken, n_left = 0, 0
        parts = taken_concepts(taken)
        while part := await asyncio.to_thread(next, parts, None):
            left = await _take(session, sae, part)
            n_taken, n_left = n_taken + len(part) - len(left), n_left + sum(row.row_count for row in left)
        await _write_dictionary(server.settings, session, sae)
    return sae, n_taken, n_left


@asynccontextmanager
async def _taken(server: AppContext, request: ImportConceptsRequest, n_latents: int) -> AsyncIterator[Path]:
    """Give a file with the best row of each neuron."""
    settings, path = server.settings, ["source", request.format or "upload"]
    taken = temporary_path(settings.artifact_dir.resolve())
    try:
        async with AsyncExitStack() as open_files:
            content: str | Path
            if isinstance(request.content, str):
                size, content = len(request.content), request.content
            else:
                content = await open_files.enter_async_context(uploads.on_disk(settings, request.content))
                size = (await asyncio.to_thread(content.stat)).st_size
            if size > MAX_FILE_SIZE:
                raise InvalidInput.at(path, f"The file is larger than {MAX_FILE_SIZE // 2**20} MB.")
            with refusing(path, "The file cannot be read"):
                problems = await server.readers.files.run(
                    take, content, request.format, path, n_latents, taken
                )
        if problems:
            raise InvalidInput(problems)
        yield taken
    finally:
        taken.unlink(missing_ok=True)


async def _take(session: AsyncSession, sae: Sae, rows: Sequence[ImportedConcept]) -> list[ImportedConcept]:
    """Name neurons by rows that are sorted by them; returns those whose neuron keeps what it has."""
    there = (Concept.id, Concept.neuron_index, Concept.source, Concept.score, Concept.version)
    between = Concept.neuron_index.between(rows[0].neuron_index, rows[-1].neuron_index)
    found = await session.execute(select(*there).where(Concept.sae_id == sae.id, between))
    by_neuron = {row.neuron_index: row for row in found}
    new, changed, left = list[dict[str, Any]](), list[dict[str, Any]](), list[ImportedConcept]()
    for row in rows:
        concept = by_neuron.get(row.neuron_index)
        values = {
            "name": row.name,
            "score": row.score,
            "note": None,
            "source": ConceptSource.IMPORTED,
            "updated_at": now(),
        }
        if concept is None:
            own = {"id": ids.new(ids.CONCEPT), "sae_id": sae.id, "neuron_index": row.neuron_index}
            new.append(values | own | {"version": 1})
        elif _yields(concept.source, concept.score, row):
            changed.append(values | {"id": concept.id, "version": concept.version + 1})
        else:
            left.append(row)
    if new:
        await session.execute(insert(Concept), new)
    if changed:
        await session.execute(update(Concept), changed)
    return left


def _yields(source: ConceptSource, score: float | None, row: ImportedConcept) -> bool:
    """Whether an import may overwrite what is there: never what a person has set."""
    if source == ConceptSource.MANUAL:
        return False
    return (score is None and row.score is not None) or (score is not None and row.rank > score)


async def _of_neuron(session: AsyncSession, sae_id: str, neuron_index: int) -> Concept | None:
    query = select(Concept).where(Concept.sae_id == sae_id, Concept.neuron_index == neuron_index)
    return await session.scalar(query)


async def _write_dictionary(settings: Settings, session: AsyncSession, sae: Sae) -> None:
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
    atomic_write(path, json.dumps(content, ensure_ascii=False, indent=2).encode())
