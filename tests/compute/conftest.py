"""What tests of the computing share: a tiny model on disk, a cache that loads it, a task context."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gql_server.compute.language_models import LanguageModels
from gql_server.compute.messages import Event, LanguageModelSource
from tests.tiny_model import make_tiny_model


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
