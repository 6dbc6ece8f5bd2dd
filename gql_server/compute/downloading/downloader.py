"""What a worker for downloads does: it gets one thing from the Hub, and gives up where nothing comes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from gql_server.artifacts.disk import problem_of
from gql_server.compute.downloading.downloaded_saes import discard
from gql_server.compute.downloading.hub_models import (
    Received,
    download_files,
    downloaded_bytes,
    remove_partial_files,
)
from gql_server.compute.downloading.hub_saes import SaeDownload
from gql_server.compute.downloading.hub_texts import download_texts
from gql_server.compute.downloading.silence import Silence
from gql_server.compute.worker.context import CancelRequested, TaskContext, TaskError
from gql_server.formats.sae_sources.refusing import NotRepresentable
from gql_server.model_files.files import name_of, whole_snapshot_in_cache
from gql_server.protocol.events import Log, Stage
from gql_server.protocol.results import Done, Result
from gql_server.protocol.tasks import DownloadLanguageModel, DownloadSae, DownloadTexts, Task
from gql_server.protocol.wire import FromWorker, WorkerReady

_NOT_THERE = (RepositoryNotFoundError, RevisionNotFoundError)
"""What another attempt does not change; a repository that is gated is one that is not found."""
LOOK_SECONDS = 0.25
"""Interval at which the downloaded bytes and a cancelation are looked for."""
LAST_SECONDS = 1.0
"""Time for the clean-up of a download that is given up."""


class Downloader:
    """Does downloads."""

    def __init__(self, send: Callable[[FromWorker], None]) -> None:
        """Take what sends a message beside those of a task, of which there is none."""

    def describe(self) -> WorkerReady:
        """Return that this worker computes nothing."""
        return WorkerReady(devices=[], sae_classes=[])

    def rest(self, idle_seconds: float) -> None:
        """Nothing is kept."""

    def do(self, task: Task, context: TaskContext) -> Result:
        """Do a download. Raises TaskError with a sentence, or CancelRequested."""
        match task:
            case DownloadLanguageModel():
                _get_model(task, context)
            case DownloadTexts():
                _get_texts(task, context)
            case DownloadSae():
                _get_sae(task, context)
            case _:
                raise TypeError(f"no download: {task!r}")
        return Done()


def _get_model(task: DownloadLanguageModel, context: TaskContext) -> None:
    source, received = task.language_model, Received()
    try:
        patiently(
            lambda give_up: download_files(source, received),
            lambda: (downloaded_bytes(source), received.n_bytes),
            "downloading the language model",
            task.patience_seconds,
            context,
        )
    except (MemoryError, CancelRequested):
        raise
    except Exception as error:
        why = _silent(task) if isinstance(error, Silence) else _sentences_of(error)
        if whole_snapshot_in_cache(source) is None:
            reason = f"The language model {name_of(source)} could not be loaded: {why}"
            raise TaskError(reason, "CONFLICT") from error
        context.emit(Log(f"The language model is taken as it was got before: {why}"))
    finally:
        remove_partial_files()


def _sentences_of(error: Exception) -> str:
    # It imports transformers, whose seconds a download that goes well does not wait for.
    from gql_server.compute.language_models.load_failures import sentences_of

    return sentences_of(error)


def _get_texts(task: DownloadTexts, context: TaskContext) -> None:
    context.emit(Log(f"Getting texts from {task.dataset.repository}."))
    n_rows = 0

    def get(give_up: threading.Event) -> None:
        def tell(number: int) -> None:
            nonlocal n_rows
            n_rows = number
            if give_up.is_set():
                raise Silence

        download_texts(task.dataset, Path(task.directory), task.wanted, task.limit, tell)

    try:
        patiently(get, lambda: (n_rows, 0), "getting texts", task.patience_seconds, context)
    except Silence:
        reason = f"The dataset {task.dataset.repository} could not be had from the Hub: {_silent(task)}"
        raise TaskError(reason, "CONFLICT") from None


def _get_sae(task: DownloadSae, context: TaskContext) -> None:
    download = SaeDownload(task)
    context.emit(Log(f"Getting the SAE {task.source.place} from the Hub."))
    try:
        patiently(
            download.get,
            download.count,
            "downloading the SAE",
            task.patience_seconds,
            context,
            download.total,
        )
    except (MemoryError, CancelRequested, TaskError):
        raise
    except NotRepresentable as error:
        discard(Path(task.directory))
        raise TaskError(error.reason, "INVALID", ("source", "huggingFace")) from error
    except Exception as error:
        if problem_of(error):
            raise
        if isinstance(error, _NOT_THERE):
            discard(Path(task.directory))
        why = _silent(task) if isinstance(error, Silence) else _sentences_of(error)
        reason = f"The SAE {task.source.place} could not be had from the Hub: {why}"
        raise TaskError(reason, "CONFLICT") from error


def _silent(task: DownloadLanguageModel | DownloadTexts | DownloadSae) -> str:
    return f"nothing has come for {task.patience_seconds:g} seconds. Try again later."


def patiently(
    get: Callable[[threading.Event], None],
    count: Callable[[], tuple[int, int]],
    stage: str,
    patience_seconds: float,
    context: TaskContext,
    total: Callable[[], int | None] = lambda: None,
) -> None:
    """Have something got in a thread, and tell how much has come.

    Args:
        get: Gets it; it is given what is set where that is given up.
        count: Says how much there is, which is told, and how much else has come.
        stage: What that is called.
        patience_seconds: How long nothing may come.
        context: The task's.
        total: Says how much there will be, where that is known.

    Raises:
        Silence: Nothing has come for so long.
        CancelRequested: The task was canceled. Like the former it leaves a thread behind that hangs in a
            library; it goes with the process.
        BaseException: What ``get`` raises.
    """
    ends: list[BaseException | None] = []
    give_up = threading.Event()

    def work() -> None:
        try:
            get(give_up)
            ends.append(None)
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        _watch(thread, count, stage, patience_seconds, context, total)
    except BaseException:
        give_up.set()
        thread.join(LAST_SECONDS)
        raise
    if ends[0] is not None:
        raise ends[0]


def _watch(
    thread: threading.Thread,
    count: Callable[[], tuple[int, int]],
    stage: str,
    patience_seconds: float,
    context: TaskContext,
    total: Callable[[], int | None],
) -> None:
    n_before, since = count(), time.monotonic()
    context.emit(Stage(stage, n_before[0], total()))
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        context.check()
        n_now = count()
        if n_now != n_before:
            n_before, since = n_now, time.monotonic()
            context.emit(Stage(stage, n_now[0], total()))
        elif time.monotonic() - since > patience_seconds:
            raise Silence
