"""SmolLM2's activations on the Python reference, captured in this process: what benchmarks work on."""

from dataclasses import dataclass
from pathlib import Path

from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.messages.events import Event
from gql_server.compute.messages.sources import LanguageModelSource
from gql_server.compute.messages.tasks import CaptureActivations
from gql_server.compute.stored.store import ActivationStore
from gql_server.datasets import built_in_python_reference, write_texts
from gql_server.tour.steps import model_file

LAYER = "llamaforcausallm_model_layers_9"
WIDTH = 576
RUN = "run_a"


class Silent:
    """A task context that nobody listens to."""

    def emit(self, event: Event) -> None:
        """Pass over the event."""

    def check(self) -> None:
        """Go on."""


@dataclass(frozen=True)
class Captured:
    """A run ``RUN`` in a store, and where it came from."""

    store_dir: Path
    dataset_dir: Path
    source: LanguageModelSource
    token_count: int

    @property
    def store(self) -> ActivationStore:
        return ActivationStore(self.store_dir)


def capture(directory: Path, n_texts: int, max_length: int = 128) -> Captured:
    """Capture block 9 over the first texts into ``directory``, in float32."""
    source = LanguageModelSource(
        "lm_a", "GGUF", str(model_file()), None, "FLOAT32", str(directory / "models" / "lm_a")
    )
    dataset_dir, store_dir = directory / "datasets" / RUN, directory / "store"
    write_texts(dataset_dir, built_in_python_reference()[:n_texts])
    task = CaptureActivations(
        run_id=RUN,
        language_model=source,
        layers=[LAYER],
        dataset_dir=str(dataset_dir),
        hub_dataset=None,
        dataset_kind="BUILT_IN",
        dataset_description="PYTHON_REFERENCE",
        sample_offset=0,
        sample_limit=None,
        batch_size=16,
        max_length=max_length,
        dtype="FLOAT32",
        store_dir=str(store_dir),
        max_texts=n_texts,
    )
    result = capture_activations(task, Silent(), LanguageModels(device="cpu"))
    return Captured(store_dir, dataset_dir, source, result.token_count)
