"""Many concepts at once: from files, and from programs that explain neurons."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import delete as delete_rows, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.files import temporary_path
from gql_server.errors import InvalidInput
from gql_server.processes.reader_pool import refusing
from gql_server.services import concept_history, lookup, uploads
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.concept_files import (
    MAX_FILE_SIZE,
    ROWS_AT_ONCE,
    ImportedConcept,
    take,
    taken_concepts,
)
from gql_server.services.concepts import check_content, known_latent_count, write_dictionary
from gql_server.services.requests import ImportConceptsRequest, SetConceptsRequest
from models import Concept, Sae
from models.base import now
from models.enums import ConceptSource

MAX_CONCEPTS_AT_ONCE = 500
"""Of setConcepts: with all they can have, they are half of the values that a request's variables may have."""


async def import_concepts(server: AppContext, request: ImportConceptsRequest) -> tuple[Sae, int, int]:
    """Take over the names in a file; returns the SAE, the neurons named, and the rows whose neuron was not.

    Raises:
        InvalidInput: The file is wrong somewhere; nothing has changed then.
    """
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
    async with _taken(server, request, known_latent_count(sae)) as taken:
        parts = taken_concepts(taken)
        return await _take_all(
            server, sae.id, request.mode, ConceptSource.IMPORTED, parts, by_score=request.mode == "MERGE"
        )


async def set_concepts(server: AppContext, request: SetConceptsRequest) -> tuple[Sae, int, int]:
    """Name many neurons for a program, whatever their scores; returns as ``import_concepts`` does.

    Raises:
        InvalidInput: It names each row that cannot be right; nothing has changed then.
        NotFound: There is no such SAE.
    """
    async with server.database.read() as session:
        sae = await lookup.get(session, Sae, request.sae_id)
    _check_all(request, known_latent_count(sae))
    rows = [
        ImportedConcept(row.neuron_index, row.name.strip(), row.score, note=row.note)
        for row in sorted(request.concepts, key=lambda row: row.neuron_index)
    ]
    return await _take_all(server, sae.id, request.mode, request.source, iter([rows]), by_score=False)


def _check_all(request: SetConceptsRequest, n_latents: int) -> None:
    checks = Checks()
    generated = request.source == ConceptSource.GENERATED
    message = "A person's names are set by setConcept: give GENERATED or IMPORTED."
    checks.require(request.source != ConceptSource.MANUAL, "source", message)
    n_rows = len(request.concepts)
    limits = (
        f"Give 1 to {MAX_CONCEPTS_AT_ONCE:,} concepts at once, not {n_rows:,}; importConcepts takes more."
    )
    checks.require(1 <= n_rows <= MAX_CONCEPTS_AT_ONCE, "concepts", limits)
    checks.done()
    seen = set[int]()
    for place, row in enumerate(request.concepts):
        path, neuron = ["concepts", str(place)], row.neuron_index
        checks.whole_number([*path, "neuronIndex"], neuron, 0, n_latents - 1)
        message = f"Neuron {neuron} is named twice; name it once."
        checks.require(neuron not in seen, [*path, "neuronIndex"], message)
        seen.add(neuron)
        check_content(checks, path, row.name, row.score, row.note, is_bounded=generated)
    checks.done()


async def _take_all(
    server: AppContext,
    sae_id: str,
    mode: Literal["MERGE", "REPLACE"],
    source: ConceptSource,
    parts: Iterator[list[ImportedConcept]],
    *,
    by_score: bool,
) -> tuple[Sae, int, int]:
    """Take over parts of rows, sorted by neuron, in one transaction."""
    async with server.database.write() as session:
        sae = await lookup.get(session, Sae, sae_id)
        named = set[int]()
        n_taken, n_left = 0, 0
        while part := await asyncio.to_thread(next, parts, None):
            left = await _take(session, sae, part, source, by_score=by_score)
            named.update(row.neuron_index for row in part)
            n_taken, n_left = n_taken + len(part) - len(left), n_left + sum(row.row_count for row in left)
        if mode == "REPLACE":
            await _remove_others(session, sae, named, source)
        await write_dictionary(server.settings, session, sae)
    return sae, n_taken, n_left


async def _remove_others(session: AsyncSession, sae: Sae, named: Set[int], source: ConceptSource) -> None:
    """Remove all concepts that no person has set, but for those of the neurons that were named."""
    not_set = (Concept.sae_id == sae.id, Concept.source != ConceptSource.MANUAL)
    versions = dict[int, int]()
    found = await session.stream(select(Concept.neuron_index, Concept.version).where(*not_set))
    async for part in found.partitions(ROWS_AT_ONCE):
        versions.update({row[0]: row[1] for row in part if row[0] not in named})
    neurons = list(versions)
    for start in range(0, len(neurons), ROWS_AT_ONCE):
        others = Concept.neuron_index.in_(neurons[start : start + ROWS_AT_ONCE])
        await concept_history.keep(session, Concept.sae_id == sae.id, others)
        await session.execute(delete_rows(Concept).where(Concept.sae_id == sae.id, others))
    await concept_history.note_deleted(session, sae.id, versions, source)


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


async def _take(
    session: AsyncSession,
    sae: Sae,
    rows: Sequence[ImportedConcept],
    concept_source: ConceptSource,
    *,
    by_score: bool,
) -> list[ImportedConcept]:
    """Name neurons by rows that are sorted by them; returns those whose neuron keeps another concept.

    A concept that a person has set stays, and ``by_score`` so does one of the same or a higher score. One
    that is just so already gets no new version.
    """
    low, high = rows[0].neuron_index, rows[-1].neuron_index
    content = (Concept.name, Concept.score, Concept.note, Concept.source)
    neurons = [row.neuron_index for row in rows]
    query = select(Concept.id, Concept.neuron_index, Concept.version, *content)
    found = await session.execute(query.where(Concept.sae_id == sae.id, Concept.neuron_index.in_(neurons)))
    by_neuron = {row.neuron_index: row for row in found}
    last = await concept_history.last_versions(session, sae.id, low, high)
    new, changed, left = list[dict[str, Any]](), list[dict[str, Any]](), list[ImportedConcept]()
    versions, at = dict[int, int](), now()
    for row in rows:
        concept, neuron = by_neuron.get(row.neuron_index), row.neuron_index
        values = {"name": row.name, "score": row.score, "note": row.note, "source": concept_source}
        if concept is None:
            versions[neuron] = last.get(neuron, 0) + 1
            own = {"id": ids.new(ids.CONCEPT), "sae_id": sae.id, "neuron_index": neuron}
            new.append(values | own | {"version": versions[neuron], "updated_at": at})
        elif all(getattr(concept, name) == value for name, value in values.items()):
            continue
        elif _yields(concept.source, concept.score, row, by_score):
            versions[neuron] = concept.version + 1
            changed.append(values | {"id": concept.id, "version": versions[neuron], "updated_at": at})
        else:
            left.append(row)
    if new:
        await session.execute(insert(Concept), new)
    if changed:
        await concept_history.keep(session, Concept.id.in_([one["id"] for one in changed]))
        await session.execute(update(Concept), changed)
    await concept_history.forget_oldest(session, sae.id, versions)
    return left


def _yields(source: ConceptSource, score: float | None, row: ImportedConcept, by_score: bool) -> bool:
    """Whether an import may overwrite what is there: never what a person has set."""
    if source == ConceptSource.MANUAL:
        return False
    return (
        not by_score or (score is None and row.score is not None) or (score is not None and row.rank > score)
    )
