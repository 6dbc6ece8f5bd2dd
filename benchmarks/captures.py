"""Captures of SmolLM2-135M over the Python reference, as the benchmarks make them."""

from pathlib import Path

from gql_server.artifacts.datasets import built_in_python_reference, write_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import ActivationStore
from gql_server.protocol.events import Event
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations
from gql_server.tour.steps import model_file

RUN = "run"


class Silent:
    """A task context that nobody listens to."""

    def emit(self, event: Event) -> None:
        """Pass over the event."""

    def check(self) -> None:
        """Go on."""


def smollm2(directory: Path, dtype: str = "FLOAT32") -> LanguageModelSource:
    """Name the language model; a directory holds its converted copy, which the first load makes."""
    copy = str(directory / f"smollm2-{dtype}")
    return LanguageModelSource("lm_smollm2", "GGUF", str(model_file()), None, dtype, copy)


def block(number: int) -> str:
    """Name a block's layer of SmolLM2."""
    return f"llamaforcausallm_model_layers_{number}"


def capture_of(source: LanguageModelSource, layer: str, directory: Path) -> CaptureActivations:
    """Return a capture of the dataset ``directory / "texts"``, stored in the precision of the model."""
    return CaptureActivations(
        run_id=RUN,
        language_model=source,
        layers=[layer],
        dataset_dir=str(directory / "texts"),
        hub_dataset=None,
        dataset_kind="BUILT_IN",
        dataset_description="PYTHON_REFERENCE",
        sample_offset=0,
        sample_limit=None,
        batch_size=16,
        max_length=128,
        dtype=source.dtype,
        store_dir=str(directory / "store"),
        max_texts=10_000_000,
    )


def capture_reference(directory: Path, n_texts: int) -> ActivationStore:
    """Capture block 9 over the Python reference's first texts as the store's run RUN, in float32."""
    write_texts(directory / "texts", built_in_python_reference()[:n_texts])
    task = capture_of(smollm2(directory), block(9), directory)
    capture_activations(task, Silent(), LanguageModels(device="cpu"))
    return ActivationStore(Path(task.store_dir))
