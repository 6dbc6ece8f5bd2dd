"""Whether language models are what runs and SAEs were made with, and what people accept in their place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server.artifacts.file_hashes import sha256_of
from gql_server.artifacts.provenance import LanguageModelProvenance, to_json
from gql_server.errors import Conflict
from gql_server.model_files import identity as model_identity
from gql_server.model_files.files import CONFIG_FILE, commit_in_cache, identify, identify_by_looks
from gql_server.protocol.sources import LanguageModelSource, MadeWith
from gql_server.services import artifacts, lookup
from gql_server.services.app_context import AppContext
from gql_server.services.requests import AcceptLanguageModelRequest
from models import ActivationRun, LanguageModel, Sae
from models.base import now
from models.enums import ArtifactStatus

Artifact = ActivationRun | Sae
Row = TypeVar("Row", ActivationRun, Sae)
Identify = Callable[[LanguageModelSource], LanguageModelProvenance | None]

_USABLE = (ArtifactStatus.READY, ArtifactStatus.PARTIAL)


@dataclass(frozen=True)
class LanguageModelState:
    """What is known of a language model's files as they are now."""

    described: bool
    """Whether the row's architecture and layers are theirs."""
    origin: LanguageModelProvenance | None
    """What they are; None where that was not hashed yet, or they have gone."""


def origin_of(row: Artifact) -> LanguageModelProvenance | None:
    """Return what a run or an SAE was made with; None where nobody knows."""
    return msgspec.convert(row.made_with, LanguageModelProvenance) if row.made_with else None


def made_with(artifact: Artifact, language_model: LanguageModel) -> MadeWith | None:
    """Return what a task compares a language model with before it pairs it with a run or an SAE."""
    origin = origin_of(artifact)
    if origin is None:
        return None
    what = "run" if isinstance(artifact, ActivationRun) else "SAE"
    made_at = artifact.completed_at or artifact.created_at
    before = model_identity.fingerprint(origin)
    accepted = [one["now"] for one in language_model.accepted or [] if one["made_with"] == before]
    return MadeWith(f"The {what} {artifact.name!r}", f"{made_at:%Y-%m-%d %H:%M} UTC", origin, accepted)


async def present(server: AppContext, language_model: LanguageModel) -> LanguageModelProvenance | None:
    """Say what a language model is now, which reads files that nobody has hashed as they are."""
    source = artifacts.language_model_source(server.settings, language_model)
    return await server.identities.do(source.id, lambda: server.file_threads.hash(identify, source))


async def check(server: AppContext, language_model: LanguageModel, artifact: Artifact) -> None:
    """Refuse to launch a job that pairs a language model with what was made with another state of it.

    Raises:
        Conflict: It names both.
    """
    expected = made_with(artifact, language_model)
    if expected is not None:
        _refuse(model_identity.conflict(expected, await present(server, language_model)), language_model)


async def check_by_looks(server: AppContext, language_model: LanguageModel, artifact: Artifact) -> None:
    """Do as ``check`` where it is known what the model is; a request waits for no hashing, which its worker
    does once.
    """
    expected = made_with(artifact, language_model)
    if expected is not None:
        source = artifacts.language_model_source(server.settings, language_model)
        found = await server.file_threads.look(identify_by_looks, source)
        _refuse(model_identity.conflict(expected, found), language_model)


def check_two(sae: Sae, run: ActivationRun, language_model: LanguageModel) -> None:
    """Refuse a run of another state of the language model than the SAE was made with.

    Raises:
        Conflict: It names both.
    """
    of_sae, of_run = made_with(sae, language_model), made_with(run, language_model)
    _refuse(model_identity.conflict_of_two(of_sae, of_run), language_model)


async def check_again(server: AppContext, language_model: LanguageModel, artifact: Artifact) -> None:
    """Refuse to retry a job with another state of the model; the rest of a run takes no accepted one.

    Raises:
        Conflict: It names both.
    """
    if not isinstance(artifact, ActivationRun):
        return await check(server, language_model, artifact)
    origin = origin_of(artifact)
    if origin is not None and artifact.batch_count:
        found = await present(server, language_model)
        if found is not None:
            _refuse(model_identity.conflict_with_batches(origin, found), language_model)


def _refuse(sentence: str | None, language_model: LanguageModel) -> None:
    if sentence is not None:
        raise Conflict(sentence, language_model.id)


def is_described(
    source: LanguageModelSource, language_model: LanguageModel, identify: Identify = identify_by_looks
) -> bool:
    """Whether the row's architecture and layers are those of the files that the next load will read.

    Of a model that has gone they are what was loaded last. Looks at files: leave it to ``FileThreads``.
    """
    if language_model.origin is None:
        return True  # Loaded by an earlier version, which did not note what.
    loaded = msgspec.convert(language_model.origin, LanguageModelProvenance)
    if source.kind == "HUGGING_FACE":
        return commit_in_cache(source) in (None, loaded.revision)
    place = Path(source.location)
    if source.kind == "DIRECTORY":
        known = [file.sha256 for file in loaded.files if file.name == CONFIG_FILE]
        try:
            return not known or sha256_of(place / CONFIG_FILE) == known[0]
        except OSError:
            return True  # It has gone, or cannot be read: neither can a load.
    found = identify(source) if place.is_file() else loaded
    return found is not None and model_identity.same(loaded, found)


async def states(server: AppContext, rows: Sequence[LanguageModel]) -> list[LanguageModelState]:
    """Look at the files of language models, in a thread, without reading weights."""

    def look(row: LanguageModel) -> LanguageModelState:
        source = artifacts.language_model_source(server.settings, row)
        return LanguageModelState(is_described(source, row), identify_by_looks(source))

    return await server.file_threads.look(lambda: [look(row) for row in rows])


async def check_described(server: AppContext, language_model: LanguageModel) -> None:
    """Refuse what needs a language model's layers where they are another model's by now.

    Raises:
        Conflict: Its files have changed since it was loaded.
    """
    source = artifacts.language_model_source(server.settings, language_model)
    if not await server.file_threads.hash(is_described, source, language_model, identify):
        raise Conflict(
            f"The files of the language model {language_model.name!r} have changed since it was loaded: call"
            " loadLanguageModel first, which reads its layers anew.",
            language_model.id,
        )


async def bind_unknown(
    session: AsyncSession, language_model_id: str, origin: LanguageModelProvenance
) -> None:
    """Bind what does not say what it was made with, as earlier versions' do, to what is loaded now."""
    for rows in (
        await session.scalars(_unknown(ActivationRun, language_model_id)),
        await session.scalars(_unknown(Sae, language_model_id)),
    ):
        for row in rows:
            row.made_with = to_json(origin)


def _unknown(table: type[Row], language_model_id: str) -> Select[Row]:
    return select(table).where(
        table.language_model_id == language_model_id, table.made_with.is_(None), table.status.in_(_USABLE)
    )


async def accept(server: AppContext, request: AcceptLanguageModelRequest) -> LanguageModel:
    """Have a language model used, as it is now, with what was made with it as it was before.

    Raises:
        NotFound: There is no such language model, SAE or run.
        Conflict: The model is not, or no longer, what the request says.
    """
    async with server.database.read() as session:
        language_model = await lookup.get(session, LanguageModel, request.language_model_id)
    found = await present(server, language_model)
    _check_seen(language_model, found, request.fingerprint)
    assert found is not None
    async with server.database.write() as session:
        row = await lookup.get(session, LanguageModel, language_model.id)
        entries = {(one["made_with"], one["now"]): one for one in row.accepted or []}
        for artifact in await _artifacts(session, row, request):
            origin = origin_of(artifact)
            if origin is not None and not model_identity.same(origin, found):
                before = model_identity.fingerprint(origin)
                entry = {"made_with": before, "now": request.fingerprint, "at": now().isoformat()}
                entries.setdefault((before, request.fingerprint), entry)
        row.accepted = list(entries.values())
    return row


def _check_seen(language_model: LanguageModel, found: LanguageModelProvenance | None, seen: str) -> None:
    is_now = None if found is None else model_identity.fingerprint(found)
    if is_now is None:
        raise Conflict(
            f"The language model {language_model.name!r} is not there: put its files back, or load it.",
            language_model.id,
        )
    if is_now != seen:
        raise Conflict(
            f"The fingerprint of the language model {language_model.name!r} is {is_now}, not {seen!r}:"
            " look at what it is now, and send that.",
            language_model.id,
        )


async def _artifacts(
    session: AsyncSession, language_model: LanguageModel, request: AcceptLanguageModelRequest
) -> list[Artifact]:
    """Return what the model is accepted for: one SAE or run, or both, or all of the model's."""
    named: list[Artifact] = []
    if request.sae_id is not None:
        named.append(await lookup.get(session, Sae, request.sae_id))
    if request.activation_run_id is not None:
        named.append(await lookup.get(session, ActivationRun, request.activation_run_id))
    for artifact in named:
        if artifact.language_model_id != language_model.id:
            raise Conflict(
                f"{artifact.name!r} belongs to the language model {artifact.language_model_id}.", artifact.id
            )
    if named:
        return named
    saes = select(Sae).where(Sae.language_model_id == language_model.id)
    runs = select(ActivationRun).where(ActivationRun.language_model_id == language_model.id)
    return [*await session.scalars(saes), *await session.scalars(runs)]
