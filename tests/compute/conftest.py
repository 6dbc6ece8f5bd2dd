"""What tests of the computing share: a tiny model on disk, a cache that loads it, a task context."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gql_server.artifacts.datasets import write_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import CancelRequested
from gql_server.protocol.events import Event, Progress
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations
from tests.support.tiny_model import make_tiny_model
from tests.support.training import StoredRun, write_run

from mi_crow.store.local_store import LocalStore


@dataclass
class RecordingContext:
    """A task context that keeps its events; ``on_check`` runs inside each check()."""

    events: list[Event] = field(default_factory=list)
    checks: int = 0

    def emit(self, event: Event) -> None:
        """Remember the event."""
        self.events.append(event)

    def check(self) -> None:
        """Count the call."""
        self.checks += 1
        self.on_check()

    def on_check(self) -> None:
        """Nothing here; a test may put something in its place."""


class CanceledContext(RecordingContext):
    """A context whose task is canceled once so much progress is told of."""

    def __init__(self, n_events: int) -> None:
        super().__init__()
        self._n_events = n_events

    def on_check(self) -> None:
        """Stop the task."""
        if len([event for event in self.events if isinstance(event, Progress)]) >= self._n_events:
            raise CancelRequested

    def emit(self, event: Event) -> None:
        """Remember the event, and stop the task."""
        super().emit(event)
        self.on_check()


def capture_task(
    source: LanguageModelSource, directory: Path, texts: list[str], **more: Any
) -> CaptureActivations:
    """Keep texts as a dataset under a directory, and return a task that captures them as run_a."""
    write_texts(directory / "datasets" / "run_a", texts)
    task = CaptureActivations(
        run_id="run_a",
        language_model=source,
        layers=["llamaforcausallm_model_layers_0"],
        dataset_dir=str(directory / "datasets" / "run_a"),
        hub_dataset=None,
        dataset_kind="INLINE",
        dataset_description=f"{len(texts)} texts",
        sample_offset=0,
        sample_limit=None,
        batch_size=3,
        max_length=24,
        dtype="FLOAT32",
        store_dir=str(directory / "store"),
        max_texts=100,
    )
    return msgspec.structs.replace(task, **more)


def interrupted_capture(task: CaptureActivations, language_models: LanguageModels, n_batches: int) -> Path:
    """Run a capture until so many batches are told of, and leave these; returns the run's directory.

    Batches that were computed by then are stored as well, and taken away here.
    """
    with pytest.raises(CancelRequested):
        capture_activations(task, CanceledContext(n_batches), language_models)
    store = ActivationStore(Path(task.store_dir))
    stored = store.list_run_batches(task.run_id)
    assert stored == list(range(len(stored))) and len(stored) >= n_batches
    for index in stored[n_batches:]:
        shutil.rmtree(store.batch_directory(task.run_id, index))
    return store.run_directory(task.run_id)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the directory of a tiny Llama with its tokenizer."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def recording_context() -> RecordingContext:
    """Give a context that is never canceled."""
    return RecordingContext()


@pytest.fixture(scope="session")
def tiny_source(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModelSource:
    """Give the tiny model as a task names it."""
    return LanguageModelSource(
        id="lm_tiny",
        kind="DIRECTORY",
        location=str(tiny_model_dir),
        revision=None,
        dtype="FLOAT32",
        copy_dir=str(tmp_path_factory.mktemp("tiny-copy")),
    )


@pytest.fixture
def language_models() -> LanguageModels:
    """Give an empty cache on the CPU."""
    return LanguageModels(device="cpu")


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    """Give a run in a LocalStore."""
    return write_run(LocalStore(tmp_path / "store"))
