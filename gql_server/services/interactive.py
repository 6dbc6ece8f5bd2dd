"""What top-neuron queries and generations share: checks of their prompts, and errors of their tasks."""

import asyncio
from collections.abc import Sequence

from gql_server.errors import Conflict, InvalidInput, QueueFull
from gql_server.jobs.executor import TaskCanceled, TaskFailure, TaskRun, WorkerLost
from gql_server.processes.reader_pool import refusing
from gql_server.protocol.results import Result
from gql_server.protocol.tasks import Task
from gql_server.protocol.wire import WorkerReady
from gql_server.services import artifacts
from gql_server.services.app_context import AppContext
from gql_server.services.checks import Checks
from gql_server.services.tokenizing import TokenizerFiles, token_counts
from gql_server.settings import Settings
from models import LanguageModel
from models.enums import LanguageModelStatus


class TaskBroken(Exception):
    """A mistake in the server, found in the worker; the message is the worker's stack."""


def check_prompts(
    checks: Checks, settings: Settings, prompts: Sequence[str], argument: str = "prompts", together: str = ""
) -> None:
    """Note prompts that are empty, too long or too many; ``argument`` is what they come in.

    ``together`` is added to the message where the limit is for more than these prompts.
    """
    checks.require(len(prompts) > 0, argument, "Give at least one prompt.")
    limit = settings.max_prompts
    message = f"There are {len(prompts):,} prompts; the limit is {limit:,}{together}."
    checks.require(len(prompts) <= limit, argument, message)
    for place, prompt in enumerate(prompts[:limit]):
        length = len(prompt)
        checks.require(bool(prompt.strip()), [argument, place], "A prompt must not be empty.")
        checks.require(
            length <= settings.max_text_characters,
            [argument, place],
            f"The prompt has {length:,} characters; the limit is {settings.max_text_characters:,}.",
        )


async def check_prompt_tokens(
    server: AppContext,
    language_model: LanguageModel,
    prompts: Sequence[str],
    argument: str = "prompts",
    chats: Sequence[str] | None = None,
) -> list[int]:
    """Return each prompt's number of tokens; an empty list where the model was never loaded.

    ``chats`` is what a chat template has made of the prompts.

    Raises:
        InvalidInput: A prompt is longer than the model can take.
    """
    directory = artifacts.copy_directory(server.settings, language_model.id)
    files = TokenizerFiles.of(directory, language_model)
    with refusing(argument, "The prompts cannot be tokenized"):
        counts = await server.readers.prompts.run(
            token_counts, files, list(prompts if chats is None else chats), chats is not None
        )
    if counts is None:
        return []
    limit = language_model.context_length
    checks = Checks()
    for place, count in enumerate(counts):
        message = f"The prompt has {count} tokens; the language model takes {limit}."
        checks.require(limit is None or count <= limit, [argument, place], message)
    checks.done()
    return counts


def check_request_tokens(
    settings: Settings, prompt_tokens: int, new_tokens: int, argument: str = "prompts"
) -> None:
    """Refuse a request with too many tokens in all.

    Args:
        settings: The server's.
        prompt_tokens: Of all its prompts; as far as they can be told.
        new_tokens: That it may generate.
        argument: What the prompts come in.

    Raises:
        InvalidInput: There are more than ``max_request_tokens``.
    """
    limit, total = settings.max_request_tokens, prompt_tokens + new_tokens
    if total > limit:
        of_which = f", {new_tokens:,} of them to be generated" if new_tokens else ""
        remedy = "Send fewer or shorter prompts" + (", or ask for fewer new tokens." if new_tokens else ".")
        message = f"The request has {total:,} tokens{of_which}; the limit is {limit:,}. {remedy}"
        raise InvalidInput.at(argument, message)


async def describe(server: AppContext) -> WorkerReady:
    """Return what the workers offer.

    Raises:
        QueueFull: The worker did not start; the next call tries again.
    """
    try:
        return await server.executor.describe()
    except WorkerLost as lost:
        raise QueueFull(f"A worker did not start. {lost}", retry_after_seconds=5, code="BUSY") from lost


async def start(server: AppContext, task: Task) -> TaskRun:
    """Hand an interactive task to its worker; the request is counted as in use already.

    Raises:
        QueueFull: Too many requests run or wait.
    """
    limit = server.settings.max_interactive_requests
    if server.in_use.requests > limit:
        raise QueueFull(f"{limit} requests run or wait already; try again in a moment.", 2, code="BUSY")
    try:
        return await server.executor.start("interactive", task)
    except WorkerLost as lost:
        raise QueueFull(str(lost), retry_after_seconds=5, code="BUSY") from lost


async def check_is_here(server: AppContext, language_model: LanguageModel) -> None:
    """Refuse a language model of the Hub that has to be downloaded first, which may take as long as it likes.

    Raises:
        Conflict: loadLanguageModel gets it.
    """
    source = artifacts.language_model_source(server.settings, language_model)
    is_loaded = language_model.status == LanguageModelStatus.LOADED
    if not is_loaded and not await server.downloads.is_here(source):
        raise Conflict(
            f"The language model {language_model.name!r} is not in this server's cache of the Hub: call "
            "loadLanguageModel first, which downloads it.",
            language_model.id,
        )


async def finish(server: AppContext, run: TaskRun) -> Result:
    """Return a task's result, or raise the refusal that its end means for the client.

    The task ends where nobody waits for it any more.
    """
    try:
        return await run.result()
    except asyncio.CancelledError:
        await server.executor.cancel(run)
        raise
    except TaskFailure as failure:
        failed = failure.failed
        if failed.code == "INVALID":
            raise InvalidInput.at(failed.path, failed.reason) from failure
        if failed.code == "INTERNAL":
            raise TaskBroken(failed.traceback) from failure
        raise Conflict(failed.reason) from failure
    except (WorkerLost, TaskCanceled) as lost:
        message = "The worker ended while it had this request, and starts again; try again in a moment."
        raise QueueFull(message, retry_after_seconds=5, code="BUSY") from lost
