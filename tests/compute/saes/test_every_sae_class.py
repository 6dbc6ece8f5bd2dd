"""Every SAE class through all that is done with SAEs; a new one enters by its registration alone."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.evaluating.evaluation import evaluate_sae
from gql_server.compute.formats.mi_crow_checkpoints import read_checkpoint
from gql_server.compute.formats.sae_export import export_sae
from gql_server.compute.formats.sae_import import import_sae
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.decoder_directions import decoder_directions
from gql_server.compute.saes.encoding import sparse_latents_of
from gql_server.compute.saes.hooks import Mode, SaeHook, attached
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.training import train_sae
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.formats.sae_classes import BUILT_IN, EXPORTED_AS, IMPORTED_AS
from gql_server.formats.sae_targets import TARGETS, problem
from gql_server.protocol.events import TrainingPointMessage
from gql_server.protocol.sources import Edit, LanguageModelSource, SaeSource
from gql_server.protocol.tasks import (
    EvaluateSae,
    ExportSae,
    FindTopNeurons,
    ImportSae,
    IndexNeurons,
    TrainSae,
)
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.dummy_sae import DummySae
from tests.compute.formats.published import imported
from tests.compute.sae_fixtures import LAYER, layer_output
from tests.support.training import training_task

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

CLASSES = SaeClasses({"DummySae": DummySae})
"""Those that are registered, and one of another package, which says nothing of its engine."""
N_INPUTS, N_LATENTS, K = 32, 64, 4
TEXTS = [
    "The for statement is used to iterate over the elements of a sequence.",
    "Strings are sequences of characters, lists are sequences of anything.",
    "A function call always assigns values to all parameters.",
    "naïve 😀 text",
]


@dataclass(frozen=True)
class Bench:
    """A captured run, and the model that it is of."""

    directory: Path
    source: LanguageModelSource
    lm: LanguageModel

    @property
    def store(self) -> ActivationStore:
        """The store with the run."""
        return ActivationStore(self.directory / "store")

    @property
    def rows(self) -> Tensor:
        """The run's activations [n_tokens, n_inputs]."""
        return self.store.read_masked("run_a", 0, LAYER)


@dataclass(frozen=True)
class Trained:
    """An SAE of a class after some steps on the run."""

    name: str
    source: SaeSource
    task: TrainSae
    points: list[TrainingPointMessage]

    @property
    def checkpoint(self) -> Path:
        """Where it is."""
        return Path(self.source.directory) / "sae.pt"

    def load(self) -> Sae:
        """Load it as a worker does."""
        return Saes(CLASSES).get(self.source)


@pytest.fixture(scope="module")
def bench(tiny_source: LanguageModelSource, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Capture the texts, in one batch."""
    directory, models = tmp_path_factory.mktemp("bench"), LanguageModels(device="cpu")
    capture_activations(
        capture_task(tiny_source, directory, TEXTS, batch_size=len(TEXTS)), RecordingContext(), models
    )
    return Bench(directory, tiny_source, models.get(tiny_source))


@pytest.fixture(scope="module", params=[described.name for described in CLASSES.describe()])
def trained(request: pytest.FixtureRequest, bench: Bench) -> Trained:
    """Train an SAE of each class."""
    name, directory = request.param, bench.directory / request.param
    k = K if CLASSES.get(name).needs_k else None
    task = training_task(
        bench.directory, sae_class=name, k=k, n_latents=N_LATENTS, epochs=6, sae_dir=str(directory)
    )
    context = RecordingContext()
    train_sae(task, context, CLASSES)
    source = SaeSource("sae_1", name, str(directory), LAYER, N_INPUTS, N_LATENTS, k)
    points = [event for event in context.events if isinstance(event, TrainingPointMessage)]
    return Trained(name, source, task, points)


def dense(sae: Sae, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents and reconstructions by mi_crow's interface."""
    with torch.no_grad():
        latents = sae.encode(rows)
        return latents, sae.decode(latents)


def test_what_is_said_without_torch_is_so() -> None:
    assert {described.name for described in SaeClasses().describe()} >= set(BUILT_IN)
    assert {EXPORTED_AS[name] for name in IMPORTED_AS.values()} == set(EXPORTED_AS.values())
    for name in BUILT_IN:
        k = K if CLASSES.get(name).needs_k else None
        assert engine_of(CLASSES.get(name).build(N_LATENTS, N_INPUTS, k, "cpu")) is not None, name


def test_training_makes_it_better_and_as_sparse_as_asked(trained: Trained, bench: Bench) -> None:
    first, last = trained.points[0], trained.points[-1]
    assert last.mse < first.mse and last.explained_variance > 0
    latents, _ = dense(trained.load(), bench.rows)
    active = float((latents != 0).double().sum(dim=1).mean())
    if trained.task.k is not None:
        # Thresholds that training moves are not where they should be after so few steps.
        assert active == pytest.approx(trained.task.k, rel=1.0)
    assert 0 < active < N_LATENTS


def test_a_training_that_was_canceled_ends_in_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    context = RecordingContext()

    def cancel() -> None:
        if len([event for event in context.events if isinstance(event, TrainingPointMessage)]) == 3:
            raise CancelRequested

    context.on_check = cancel  # type: ignore[method-assign]
    task = msgspec.structs.replace(trained.task, sae_dir=str(tmp_path))
    with pytest.raises(CancelRequested):
        train_sae(task, context, CLASSES)
    train_sae(msgspec.structs.replace(task, attempt=2), RecordingContext(), CLASSES)
    again = CLASSES.get(trained.name).load(tmp_path / "sae.pt").sae_engine.state_dict()
    for key, weights in trained.load().sae_engine.state_dict().items():
        assert torch.equal(weights, again[key]), key


def test_what_it_saves_is_loaded_the_same(trained: Trained, bench: Bench, tmp_path: Path) -> None:
    sae, sae_class = trained.load(), CLASSES.get(trained.name)
    loaded = sae_class.load(sae_class.save(sae, tmp_path, trained.task.k))
    for ours, theirs in zip(dense(loaded, bench.rows), dense(sae, bench.rows), strict=True):
        # mi_crow's dictionary is normalized again at each loading.
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert sae_class.accepts(trained.task.k)
    if trained.name in BUILT_IN:
        assert zipfile.is_zipfile(trained.checkpoint)


def test_sparse_latents_and_reconstructions_are_the_dense_ones(trained: Trained, bench: Bench) -> None:
    sae, rows = trained.load(), bench.rows
    latents, reconstruction = dense(sae, rows)
    sparse = sparse_latents_of(sae, rows)
    torch.testing.assert_close(sparse.dense(), latents)
    directions = decoder_directions(sae, lambda done, total: None)
    bias = sae.decode(torch.zeros(1, N_LATENTS))
    torch.testing.assert_close(latents @ directions + bias, reconstruction, rtol=1e-4, atol=1e-4)
    engine = engine_of(sae)
    if engine is None:
        return
    few = SparseLatents.of(torch.where(torch.rand_like(latents) < 0.05, 1.0, 0.0))
    for some in (sparse, few):
        torch.testing.assert_close(engine.decode_sparse(some), sae.decode(some.dense()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_edits_change_what_its_decode_says(trained: Trained, bench: Bench, mode: Mode) -> None:
    sae, ids = trained.load(), bench.lm.tokenizer(TEXTS[0])["input_ids"]
    rows = layer_output(bench.lm, ids)
    latents, reconstruction = dense(sae, rows)
    edited = latents.clone()
    edited[:, 7] = latents[:, 7] * 0.5 + 3.0
    with torch.no_grad():
        expected = sae.decode(edited)
    with attached(bench.lm, LAYER, SaeHook(sae, mode, [Edit(7, 0.5, 3.0)])):
        found = layer_output(bench.lm, ids)
    expected = expected if mode == "RECONSTRUCTION" else rows + expected - reconstruction
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_it_is_indexed(trained: Trained, bench: Bench) -> None:
    task = IndexNeurons(
        index_id=f"idx_{trained.name}",
        sae=trained.source,
        run_id="run_a",
        store_dir=str(bench.directory / "store"),
        dataset_dir=str(bench.directory / "datasets" / "run_a"),
        tokenizer_dir=bench.source.copy_dir,
        top_texts_per_neuron=2,
        top_texts_path=str(bench.directory / f"{trained.name}.json"),
        language_model=bench.source,
    )
    sae = trained.load()
    index_neurons(task, RecordingContext(), sae, bench.store, LanguageModels(device="cpu"))
    index = load_file(bench.store.index_path(task.index_id))
    latents = dense(sae, bench.rows)[0].numpy()
    np.testing.assert_array_equal(index["firing_count"], (latents != 0).sum(axis=0))
    np.testing.assert_allclose(index["max_activation"], latents.max(axis=0), rtol=1e-4)


def test_it_is_evaluated(trained: Trained, bench: Bench) -> None:
    task = EvaluateSae(
        sae=trained.source,
        language_model=bench.source,
        dataset_dir=str(bench.directory / "datasets" / "run_a"),
        hub_dataset=None,
        dataset_kind="INLINE",
        dataset_description="texts",
        dataset_sample_count=len(TEXTS),
        sample_offset=0,
        sample_limit=100,
        trained_max_length=24,
        max_texts=100,
    )
    sae = trained.load()
    result = evaluate_sae(task, RecordingContext(), bench.lm, sae)
    latents, reconstruction = dense(sae, bench.rows)
    assert result.l0 == pytest.approx(float((latents != 0).double().sum(dim=1).mean()))
    assert result.mse == pytest.approx(float((reconstruction - bench.rows).square().mean()), rel=1e-4)


def test_its_neurons_are_ranked_on_prompts(trained: Trained, bench: Bench) -> None:
    sae = trained.load()
    task = FindTopNeurons(bench.source, trained.source, TEXTS[:1], 3, False)
    (found,) = find_top_neurons(task, RecordingContext(), bench.lm, sae).prompts
    rows = layer_output(bench.lm, bench.lm.tokenizer(TEXTS[0])["input_ids"])[1:]  # No <bos>.
    strongest = dense(sae, rows)[0].max(dim=0).values.sort(descending=True).values[:3]
    activations = torch.tensor([neuron.activation for neuron in found.neurons])
    torch.testing.assert_close(activations, strongest[: len(activations)], rtol=1e-4, atol=1e-5)


def import_task(files: dict[str, Path], format: str, sae_dir: Path) -> ImportSae:
    """Return the task that imports some files."""
    return msgspec.convert(
        {
            "sae_id": "sae_2",
            "name": "imported",
            "language_model_id": "lm_1",
            "layer": LAYER,
            "kind": "BLOCK",
            "depth": 0,
            "n_inputs": N_INPUTS,
            "max_latents": N_LATENTS,
            "format": format,
            "source": "theirs",
            "files": {name: str(path) for name, path in files.items()},
            "roots": [str(path.parent) for path in files.values()],
            "sae_dir": str(sae_dir),
        },
        ImportSae,
    )


def test_it_is_exported_as_said_and_computes_the_same_when_it_is_imported_again(
    trained: Trained, bench: Bench, tmp_path: Path
) -> None:
    sae, path = trained.load(), tmp_path / "export.zip"
    task = ExportSae(trained.source, "SAE_LENS", str(path), {"model_from_pretrained_kwargs": {}})
    if trained.name not in EXPORTED_AS:
        with pytest.raises(TaskError, match=f"What {trained.name} computes cannot be written"):
            export_sae(task, RecordingContext(), sae)
        return
    export_sae(task, RecordingContext(), sae)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    architecture = json.loads((tmp_path / "cfg.json").read_text())["architecture"]
    assert architecture == EXPORTED_AS[trained.name]
    engine = engine_of(sae)
    assert engine is not None
    assert engine.weights().k == (trained.task.k if architecture == "topk" else None)
    files = {name: tmp_path / name for name in ("cfg.json", "sae_weights.safetensors")}
    result = import_sae(import_task(files, "SAE_LENS", tmp_path / "sae"), RecordingContext(), CLASSES)
    assert result.sae_class == IMPORTED_AS[architecture]
    imported = CLASSES.get(result.sae_class).load(tmp_path / "sae" / "sae.pt")
    for ours, theirs in zip(dense(imported, bench.rows), dense(sae, bench.rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", [name for name in TARGETS if name != "SAE_LENS"])
def test_it_goes_to_other_libraries_and_comes_back_or_is_refused(
    format: Any, trained: Trained, bench: Bench, tmp_path: Path
) -> None:
    sae, path = trained.load(), tmp_path / "export.zip"
    task = ExportSae(trained.source, format, str(path), {})
    if problem(format, trained.name) is not None:
        with pytest.raises(TaskError, match=r"cannot be written|has no architecture for the class"):
            export_sae(task, RecordingContext(), sae)
        return
    export_sae(task, RecordingContext(), sae)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "theirs")
    back = imported(tmp_path / "theirs", n_inputs=N_INPUTS).sae
    for ours, theirs in zip(dense(back, bench.rows), dense(sae, bench.rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_its_checkpoint_is_imported_or_refused(trained: Trained, bench: Bench, tmp_path: Path) -> None:
    task = import_task({"sae.pt": trained.checkpoint}, "MI_CROW", tmp_path / "sae")
    if trained.name not in BUILT_IN:
        with pytest.raises(TaskError, match=r"name a file that the save\(\) of"):
            read_checkpoint(trained.checkpoint, CLASSES, N_INPUTS, N_LATENTS)
        return
    result = import_sae(task, RecordingContext(), CLASSES)
    assert (result.sae_class, result.k) == (trained.name, trained.task.k)
    imported = CLASSES.get(trained.name).load(tmp_path / "sae" / "sae.pt")
    for ours, theirs in zip(dense(imported, bench.rows), dense(trained.load(), bench.rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
