"""One tiny model as a worker sees it and as transformers alone does, and the tasks that it goes through."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gql_server.artifacts.datasets import write_texts
from gql_server.artifacts.manifest import read_manifest
from gql_server.compute.storage.store import MASKS, ActivationStore
from gql_server.compute.worker.task_runner import TaskRunner
from gql_server.protocol.events import Event, OutputFinished, TrainingPointMessage
from gql_server.protocol.results import LanguageModelDescription
from gql_server.protocol.sources import Edit, LanguageModelSource, SaeSource
from gql_server.protocol.tasks import (
    CaptureActivations,
    EvaluateSae,
    FindTopNeurons,
    IndexNeurons,
    LoadLanguageModel,
    Task,
    TrainSae,
)
from tests.architectures.bare import Bare
from tests.architectures.making import MAX_NEW_TOKENS, Made
from tests.architectures.numpy_saes import NumpySaes, of_checkpoint
from tests.support.generation_tasks import generation_task

Array = NDArray[np.float64]
SomeEvent = TypeVar("SomeEvent", bound=Event)

TEXTS = [
    "The for statement is used to iterate over the elements of a sequence.",
    "Strings",
    "naïve 😀 if the value is None",
    "True and False are the items of a list, and 0 is not empty",
    "a",
    "while x in range: the loop goes on, and the else clause is executed at its end.",
]
MAX_LENGTH = 24
N_LATENTS = 48
K = 4
RTOL = 1e-4
ATOL = 1e-5


class Context:
    """A task's context that keeps its events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def check(self) -> None:
        """Nothing ends a task here."""

    def of(self, kind: type[SomeEvent]) -> list[SomeEvent]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Bench:
    """What the steps share; each leaves here what the later ones need."""

    made: Made
    directory: Path
    sae_class: str = "TopKSae"
    description: LanguageModelDescription | None = None
    layer: str = ""
    """That the SAE is trained on: a block, not the last one."""
    captured: list[str] = field(default_factory=list)
    width: int = 0

    def __post_init__(self) -> None:
        self.task_runner = TaskRunner(lambda change: None, "cpu")
        self.bare = Bare(self.made.directory)
        self.source = LanguageModelSource(
            id="lm_tiny",
            kind="DIRECTORY",
            location=str(self.made.directory),
            revision=None,
            dtype="FLOAT32",
            copy_dir=str(self.directory / "copy"),
        )
        self.store = ActivationStore(self.directory / "store")
        write_texts(self.directory / "texts", TEXTS)

    def do(self, task: Task) -> tuple[Any, Context]:
        """Have the worker's task_runner do a task; return its result and what it told."""
        context = Context()
        return self.task_runner.do(task, context), context

    # ------------------------------------------------------------------------------- tasks

    def load(self) -> LanguageModelDescription:
        result, _ = self.do(LoadLanguageModel(self.source))
        assert isinstance(result, LanguageModelDescription)
        return result

    def capture(self, layers: list[str]) -> None:
        self.do(
            CaptureActivations(
                run_id="run_a",
                language_model=self.source,
                layers=layers,
                dataset_dir=str(self.directory / "texts"),
                hub_dataset=None,
                dataset_kind="INLINE",
                dataset_description="a few texts",
                sample_offset=0,
                sample_limit=None,
                batch_size=4,
                max_length=MAX_LENGTH,
                dtype="FLOAT32",
                store_dir=str(self.store.base_path),
                max_texts=100,
            )
        )

    def train(self, sae_id: str, **changes: Any) -> list[TrainingPointMessage]:
        options: dict[str, Any] = {"batch_size": 16, "epochs": 8, "learning_rate": None} | changes
        options.setdefault("sae_class", self.sae_class)
        task = TrainSae(
            sae_id=sae_id,
            name="tiny",
            language_model_id="lm_tiny",
            run_id="run_a",
            store_dir=str(self.store.base_path),
            layer=self.layer,
            n_latents=N_LATENTS,
            k=K,
            l1_lambda=None,
            seed=5,
            device="cpu",
            sae_dir=str(self.directory / sae_id),
            shuffle_buffer_bytes=2**20,
            **options,
        )
        _, context = self.do(task)
        return context.of(TrainingPointMessage)

    def index(self) -> None:
        self.do(
            IndexNeurons(
                index_id="idx_a",
                sae=self.sae_source,
                run_id="run_a",
                store_dir=str(self.store.base_path),
                dataset_dir=str(self.directory / "texts"),
                tokenizer_dir=self.source.copy_dir,
                top_texts_per_neuron=3,
                top_texts_path=str(self.directory / "top_texts.json"),
                language_model=self.source,
            )
        )

    def top_neurons(self, prompts: list[str]) -> Any:
        task = FindTopNeurons(self.source, self.sae_source, prompts, first=N_LATENTS, per_token=True)
        return self.do(task)[0].prompts

    def generate(self, prompts: list[str], edits: list[Edit] | None, mode: Any) -> list[OutputFinished]:
        task = generation_task(
            self.source,
            prompts,
            MAX_NEW_TOKENS,
            sae=None if edits is None else self.sae_source,
            edits=edits,
            mode=mode,
            top_neurons=0 if edits is None else 5,
        )
        return self.do(task)[1].of(OutputFinished)

    def evaluate(self) -> Any:
        task = EvaluateSae(
            sae=self.sae_source,
            language_model=self.source,
            dataset_dir=str(self.directory / "texts"),
            hub_dataset=None,
            dataset_kind="INLINE",
            dataset_description="a few texts",
            dataset_sample_count=len(TEXTS),
            sample_offset=0,
            sample_limit=100,
            trained_max_length=MAX_LENGTH,
            max_texts=100,
        )
        return self.do(task)[0]

    # ------------------------------------------------------------------------- what they made

    @property
    def sae_source(self) -> SaeSource:
        directory = str(self.directory / "sae_a")
        return SaeSource("sae_a", self.sae_class, directory, self.layer, self.width, N_LATENTS, K)

    @cached_property
    def sae(self) -> NumpySaes:
        """The trained SAE, read from its checkpoint, in NumPy."""
        return of_checkpoint(self.directory / "sae_a" / "sae.pt", self.sae_class, K)

    def stored(self, layer: str) -> dict[int, Tensor]:
        """Return each text's stored activations [n_tokens, width], special tokens among them."""
        rows: dict[int, Tensor] = {}
        for batch in read_manifest(self.store.manifest_path("run_a")).batches:
            whole = self._read(batch.index, layer, "activations")
            for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
                rows[row] = whole[place, :length]
        return rows

    def stored_ids(self) -> dict[int, tuple[list[int], list[bool]]]:
        """Return each text's stored token ids, and which of them count."""
        found: dict[int, tuple[list[int], list[bool]]] = {}
        for batch in read_manifest(self.store.manifest_path("run_a")).batches:
            ids = self._read(batch.index, MASKS, "input_ids")
            mask = self._read(batch.index, MASKS, "attention_mask")
            for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
                assert not mask[place, length:].any(), "padding counts"
                found[row] = ids[place, :length].tolist(), mask[place, :length].bool().tolist()
        return found

    def _read(self, batch: int, layer: str, key: str) -> Tensor:
        tensor: Tensor = self.store.get_detector_metadata_by_layer_by_key("run_a", batch, layer, key)
        return tensor

    def counted_rows(self) -> Array:
        """Return the stored activations that count, all texts', float64 [n_tokens, width]."""
        counts = self.stored_ids()
        rows = [tensor[torch.tensor(counts[row][1])] for row, tensor in self.stored(self.layer).items()]
        return np.asarray(torch.cat(rows).double().numpy())

    def counts(self, ids: list[int]) -> NDArray[np.bool_]:
        """Say which tokens are content."""
        return np.array([token_id not in self.bare.special for token_id in ids])


def assert_close(found: Any, expected: Any, what: str) -> None:
    """Compare floats: float32 sums of other batch sizes differ in the last digits of the largest values."""
    expected = np.asarray(expected, np.float64)
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(
        np.asarray(found, np.float64), expected, rtol=RTOL, atol=ATOL * scale, err_msg=what
    )
