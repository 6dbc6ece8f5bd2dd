"""Language models: adding, loading, letting go, deleting."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from gql_server import ids
from gql_server.artifacts.files import leads_out, open_plain, resolve_inside
from gql_server.artifacts.provenance import to_json
from gql_server.database.database import Database
from gql_server.errors import Conflict
from gql_server.jobs.descriptions import JobDescription, Subjects
from gql_server.jobs.executor import TaskRun, WorkerLost
from gql_server.jobs.handler import JobHandler
from gql_server.model_files import identity as model_identity
from gql_server.model_files.directories import link_leads_out, problem_of_directory
from gql_server.model_files.hub_names import is_repository, is_revision
from gql_server.processes.reader_pool import refusing
from gql_server.protocol.results import LanguageModelDescription
from gql_server.protocol.tasks import LoadLanguageModel, UnloadLanguageModel
from gql_server.protocol.wire import LanguageModelChanged, LanguageModelFound
from gql_server.services import artifacts, launching, lookup
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.model_identity import bind_unknown
from gql_server.services.removals import remove_after_commit
from gql_server.services.requests import (
    UNCHANGED,
    AddLanguageModelRequest,
    Launched,
    LoadLanguageModelRequest,
    UpdateLanguageModelRequest,
)
from gql_server.tokens.options import TokenizerFacts, facts_of
from models import ActivationRun, Job, LanguageModel, Sae
from models.enums import (
    JobKind,
    JobStatus,
    LanguageModelSourceKind,
    LanguageModelStatus,
    ProgressUnit,
)

_GGUF_MAGIC = b"GGUF"
MAX_TOKEN_COUNTS = 1000
"""Tokens of which people may decide whether they count."""


async def add(server: AppContext, request: AddLanguageModelRequest) -> LanguageModel:
    """Add a language model; it is loaded later.

    Raises:
        InvalidInput: The name, the repository or the path cannot be right.
        Conflict: The name is in use.
    """
    checks = Checks()
    checks.name("name", request.name)
    kind, location = await _check_source(server, request, checks)
    checks.done()
    row = LanguageModel(
        id=ids.new(ids.LANGUAGE_MODEL),
        name=request.name,
        source_kind=kind,
        source=location,
        revision=request.revision,
        dtype=request.dtype,
    )
    try:
        async with server.database.write() as session:
            session.add(row)
    except IntegrityError as error:
        raise Conflict(
            f"There is a language model with the name {request.name!r}; choose another."
        ) from error
    return row


async def _check_source(
    server: AppContext, request: AddLanguageModelRequest, checks: Checks
) -> tuple[LanguageModelSourceKind, str]:
    settings = server.settings
    if request.kind == LanguageModelSourceKind.HUGGING_FACE:
        path = ["source", "huggingFace"]
        checks.require(settings.hub_enabled, path, "This server takes no models from the Hugging Face Hub.")
        checks.require(
            is_repository(request.location),
            [*path, "repository"],
            "A repository is named owner/name, such as gpt2 or HuggingFaceTB/SmolLM2-135M.",
        )
        checks.require(
            request.revision is None or is_revision(request.revision),
            [*path, "revision"],
            "A revision is a branch, a tag or a commit's hash.",
        )
        return LanguageModelSourceKind.HUGGING_FACE, request.location
    with refusing(["source", "path"], "The files cannot be read"):
        found = await server.readers.files.run(_look_at, request.location, settings.model_dirs)
    if found.problem:
        checks.problem(["source", "path"], found.problem)
    return found.kind, found.location


class _Found(NamedTuple):
    kind: LanguageModelSourceKind
    location: str
    problem: str | None


def _look_at(location: str, model_dirs: Sequence[Path]) -> _Found:
    found = resolve_inside(location, model_dirs)
    if found is None:
        problem: str | None = (
            "There is no such directory or file under one of this server's model directories."
        )
        return _Found(LanguageModelSourceKind.DIRECTORY, location, problem)
    if found.is_dir():
        problem = _problem_of_directory(found, model_dirs)
        return _Found(LanguageModelSourceKind.DIRECTORY, str(found), problem)
    return _Found(LanguageModelSourceKind.GGUF, str(found), _problem_of_gguf(found))


def _problem_of_directory(path: Path, model_dirs: Sequence[Path]) -> str | None:
    link = leads_out(path, model_dirs)
    problem = problem_of_directory(path) if link is None else link_leads_out(link)
    return f"The directory is no whole language model. {problem}" if problem else None


def _problem_of_gguf(path: Path) -> str | None:
    try:
        with open_plain(path) as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError:
        magic = b""
    if path.suffix != ".gguf" or magic != _GGUF_MAGIC:
        return "The file is not a GGUF file: name one that ends in .gguf, or a directory."
    return None


async def update_options(server: AppContext, request: UpdateLanguageModelRequest) -> LanguageModel:
    """Change a model's options; what begins afterwards is done with them.

    Raises:
        InvalidInput: A token that is none, or a BOS where there is none.
        NotFound: There is no such model.
        Conflict: It was never loaded, or its options have moved on.
    """
    async with server.database.write() as session:
        row = await lookup.get(session, LanguageModel, request.id)
        version = row.options_version or 0
        if request.expected_version not in (None, version):
            raise Conflict(
                f"The options have version {version}, not {request.expected_version}; read them again.",
                row.id,
            )
        facts = facts_of(row.tokenizer)
        if facts is None:
            raise Conflict(
                f"Nothing is known of the tokenizer of {row.name!r} yet: call loadLanguageModel first.",
                row.id,
            )
        _check_options(request, row, facts)
        if request.add_bos is not UNCHANGED:
            row.add_bos = request.add_bos
        if request.token_counts is not UNCHANGED:
            row.token_counts = _differing(request.token_counts, facts)
        row.options_version = version + 1
    return row


def _check_options(request: UpdateLanguageModelRequest, row: LanguageModel, facts: TokenizerFacts) -> None:
    checks = Checks()
    message = "The tokenizer has no BOS token that could be written before texts; give null or false."
    checks.require(request.add_bos is not True or facts.can_begin, "addBos", message)
    counts = () if request.token_counts is UNCHANGED else request.token_counts
    message = f"There are {len(counts):,} tokens; the limit is {MAX_TOKEN_COUNTS:,}."
    checks.require(len(counts) <= MAX_TOKEN_COUNTS, "specialTokens", message)
    known = max([row.vocabulary_size or 0, *(token.token_id + 1 for token in facts.special_tokens)])
    seen = set[int]()
    for place, (token_id, _) in enumerate(counts[:MAX_TOKEN_COUNTS]):
        path: list[str | int] = ["specialTokens", place, "tokenId"]
        checks.whole_number(path, token_id, 0, known - 1)
        checks.require(token_id not in seen, path, f"The token {token_id} is named twice.")
        seen.add(token_id)
    checks.done()


def _differing(counts: Sequence[tuple[int, bool]], facts: TokenizerFacts) -> dict[str, bool] | None:
    """Return what differs from what the tokenizer says, as a row keeps it."""
    marked = facts.special_ids({})
    found = {str(token_id): counted for token_id, counted in counts if counted is (token_id in marked)}
    return found or None


async def load(server: AppContext, request: LoadLanguageModelRequest) -> Launched:
    """Queue a job that loads a language model into the interactive worker.

    Raises:
        InvalidInput, NotFound, Conflict, QueueFull: Nothing has been written then.
    """
    launch = await launching.begin(server, LoadHandler, request)
    if launch.earlier:
        return launch.earlier
    checks = Checks()
    checks.idempotency_key(request.idempotency_key)
    checks.done()
    id = request.language_model_id
    async with server.database.read() as session:
        await lookup.get(session, LanguageModel, id)

    async def check(session: AsyncSession) -> None:
        await lookup.get(session, LanguageModel, id)

    return await launch.queue(request={"language_model_id": id}, works_on=id, check=check)


async def unload(server: AppContext, id: str) -> LanguageModel:
    """Let go of a language model in the interactive worker.

    Raises:
        Conflict: A job or a generation uses it.
    """
    async with server.database.read() as session:
        await lookup.get(session, LanguageModel, id)
        await _check_unused(server, session, id)
    run = await _start_unloading(server, id)
    if run is not None:
        await run.ended()
    await set_status(server.database, LanguageModelChanged(id, "UNLOADED"))
    async with server.database.read() as session:
        return await lookup.get(session, LanguageModel, id)


async def delete(server: AppContext, id: str) -> None:
    """Delete a language model and the server's copy of it; what it was made from stays.

    Raises:
        Conflict: A job, a generation, an activation run or an SAE uses it.
    """
    async with server.database.write() as session:
        row = await lookup.get(session, LanguageModel, id)
        await _check_unused(server, session, id)
        await _check_no_artifacts(session, id)
        await session.delete(row)
        await remove_after_commit(session, server.settings, [artifacts.copy_directory(server.settings, id)])
    await _start_unloading(server, id)


async def _start_unloading(server: AppContext, id: str) -> TaskRun | None:
    try:
        return await server.executor.start("interactive", UnloadLanguageModel(id))
    except WorkerLost:
        return None  # With the worker the model is gone too.


async def _check_no_artifacts(session: AsyncSession, id: str) -> None:
    run = await session.scalar(select(ActivationRun).where(ActivationRun.language_model_id == id).limit(1))
    sae = await session.scalar(select(Sae).where(Sae.language_model_id == id).limit(1))
    for user in (run, sae):
        if user is not None:
            what = lookup.NAMES[type(user)]
            raise Conflict(
                f"The {what} {user.name!r} ({user.id}) uses this language model; delete it first.", user.id
            )


async def _check_unused(server: AppContext, session: AsyncSession, id: str) -> None:
    job = await launching.unfinished_user(session, "language_model_id", id)
    if job is not None:
        raise Conflict(f"The job {job.id} uses this language model; wait for its end or cancel it.", job.id)
    if server.in_use.count(id):
        raise Conflict("A generation or a top-neuron query uses this language model; try again soon.", id)


async def set_status(database: Database, changed: LanguageModelChanged) -> None:
    """Keep what the interactive worker tells of a model."""
    async with database.write() as session:
        row = await session.get(LanguageModel, changed.language_model_id)
        if row is not None:
            row.status = LanguageModelStatus(changed.status)
            row.status_message = changed.message


async def keep_found(database: Database, found: LanguageModelFound) -> None:
    """Keep what a load in any worker has found a model to be."""
    async with database.write() as session:
        row = await session.get(LanguageModel, found.language_model_id)
        if row is not None:
            await _keep_description(session, row, found.description)


async def _keep_description(
    session: AsyncSession, row: LanguageModel, found: LanguageModelDescription
) -> None:
    row.architecture = found.architecture
    row.parameter_count = found.parameter_count
    row.hidden_size = found.hidden_size
    row.vocabulary_size = found.vocabulary_size
    row.context_length = found.context_length
    row.tokenizer = to_json(found.tokenizer)
    names = ("name", "kind", "depth", "module_class", "width")
    row.layers = [{name: getattr(layer, name) for name in names} for layer in found.layers]
    row.origin = to_json(found.origin)
    if found.origin is not None and model_identity.fingerprint(found.origin) is not None:
        await bind_unknown(session, row.id, found.origin)


async def reset_statuses(session: AsyncSession) -> None:
    """At the server's start no model is loaded, nor has one failed to."""
    await session.execute(
        update(LanguageModel).values(status=LanguageModelStatus.UNLOADED, status_message=None)
    )


async def set_all_unloaded(session: AsyncSession) -> None:
    """The interactive worker is gone: it holds no model any more."""
    held = [LanguageModelStatus.LOADED, LanguageModelStatus.LOADING]
    for row in await session.scalars(select(LanguageModel).where(LanguageModel.status.in_(held))):
        row.status = LanguageModelStatus.UNLOADED


class LoadHandler(JobHandler[LoadLanguageModel, LanguageModelDescription]):
    """LOAD_LANGUAGE_MODEL jobs."""

    kind = JobKind.LOAD_LANGUAGE_MODEL
    description = "Loads a language model into the worker for interactive work."
    lane = "interactive"
    unit = ProgressUnit.STEPS
    task = LoadLanguageModel
    result = LanguageModelDescription

    @classmethod
    def describe(cls, job: Job, about: Subjects) -> JobDescription:
        """Name the language model."""
        return JobDescription(f"Load {about.language_model_name}")

    async def begin(self, session: AsyncSession, job: Job) -> LoadLanguageModel:
        """Return the task."""
        row = await session.get_one(LanguageModel, job.artifact_id)
        return LoadLanguageModel(artifacts.language_model_source(self._settings, row))

    async def keep(self, session: AsyncSession, job: Job, result: LanguageModelDescription) -> None:
        """Keep what the load found out."""
        row = await session.get_one(LanguageModel, job.artifact_id)
        await _keep_description(session, row, result)

    async def fail(self, session: AsyncSession, job: Job, status: JobStatus) -> None:
        """Say of the model that it could not be loaded, unless the worker has it all the same."""
        row = await session.get(LanguageModel, job.artifact_id)
        if row is not None and status == JobStatus.FAILED and row.status != LanguageModelStatus.LOADED:
            row.status, row.status_message = LanguageModelStatus.FAILED, job.error

    async def requeue(self, session: AsyncSession, job: Job) -> None:
        """Nothing to reset; a model that has been deleted cannot be loaded again."""
        await lookup.get(session, LanguageModel, job.artifact_id)


def writes_bos(language_model: LanguageModel) -> bool | None:
    """Whether anything stands before a model's texts; None where it was not loaded since that is noted."""
    facts = facts_of(language_model.tokenizer)
    return None if facts is None else bool(facts.edges(language_model.add_bos).begin)


def check_loaded_once(language_model: LanguageModel) -> None:
    """Refuse what needs the model's layers or tokenizer before they are known.

    Raises:
        Conflict: It has never been loaded.
    """
    if language_model.layers is None:
        raise Conflict(
            f"The language model {language_model.name!r} was never loaded: call loadLanguageModel first.",
            language_model.id,
        )
