"""Every SAE class through all that is done with SAEs; a new one enters by its registration alone."""

import copy
import json
import zipfile
from dataclasses import dataclass, field
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
from gql_server.compute.inspection.contrast import contrast_neurons
from gql_server.compute.inspection.neuron_activations import read_neuron_activations
from gql_server.compute.inspection.top_neurons import find_top_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.affine_engine import AffineEngine
from gql_server.compute.saes.affine_saes import AffineSae
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.decoder_directions import decoder_directions
from gql_server.compute.saes.encoding import sparse_latents_of
from gql_server.compute.saes.hooks import Mode, SaeHook, attached
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.saes.row_hooks import HookedRows, RowHooks
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.training import train_sae
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.formats.input_normalizations import (
    IN_SAE_LENS,
    INPUT_NORMALIZATIONS,
    InputNormalization,
)
from gql_server.formats.sae_classes import BUILT_IN, EXPORTED_AS, IMPORTED_AS
from gql_server.formats.sae_targets import TARGETS, problem
from gql_server.protocol.events import TrainingPointMessage
from gql_server.protocol.sources import Edit, LanguageModelSource, SaeSource
from gql_server.protocol.tasks import (
    ContrastNeurons,
    EvaluateSae,
    ExportSae,
    FindTopNeurons,
    ImportSae,
    IndexNeurons,
    ReadNeuronActivations,
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
NORMALIZED: list[tuple[str, InputNormalization]] = [
    (name, how) for name in SaeClasses().names_of(AffineSae) for how in INPUT_NORMALIZATIONS if how != "NONE"
]
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
    trained: dict[str, "Trained"] = field(default_factory=dict)
    """Those that were trained on it, by their class."""

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
    input_normalization: InputNormalization = "NONE"

    @property
    def checkpoint(self) -> Path:
        """Where it is."""
        return Path(self.source.directory) / "sae.pt"

    def load(self) -> Sae:
        """Load it as a worker does."""
        sae = Saes(CLASSES).get(self.source)
        assert getattr(sae.sae_engine, "input_normalization", "NONE") == self.input_normalization
        return sae


@pytest.fixture(scope="module")
def bench(tiny_source: LanguageModelSource, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Capture the texts, in one batch."""
    directory, models = tmp_path_factory.mktemp("bench"), LanguageModels(device="cpu")
    capture_activations(
        capture_task(tiny_source, directory, TEXTS, batch_size=len(TEXTS)), RecordingContext(), models
    )
    return Bench(directory, tiny_source, models.get(tiny_source))


def train(bench: Bench, name: str) -> Trained:
    """Train an SAE of a class, once for each bench."""
    if name in bench.trained:
        return bench.trained[name]
    directory = bench.directory / name
    k = K if CLASSES.get(name).needs_k else None
    task = training_task(
        bench.directory, sae_class=name, k=k, n_latents=N_LATENTS, epochs=6, sae_dir=str(directory)
    )
    context = RecordingContext()
    train_sae(task, context, CLASSES)
    source = SaeSource("sae_1", name, str(directory), LAYER, N_INPUTS, N_LATENTS, k)
    points = [event for event in context.events if isinstance(event, TrainingPointMessage)]
    return bench.trained.setdefault(name, Trained(name, source, task, points))


@pytest.fixture(scope="module", params=[described.name for described in CLASSES.describe()])
def trained(request: pytest.FixtureRequest, bench: Bench) -> Trained:
    """Train an SAE of each class."""
    return train(bench, request.param)


@pytest.fixture(
    scope="module",
    params=[*((described.name, "NONE") for described in CLASSES.describe()), *NORMALIZED],
    ids="-".join,
)
def made(request: pytest.FixtureRequest, bench: Bench) -> Trained:
    """Give an SAE of each class that was trained, and one with random weights for each normalization."""
    name, how = request.param
    if how == "NONE":
        return train(bench, name)
    directory, k = bench.directory / f"{name}-{how}", K if CLASSES.get(name).needs_k else None
    directory.mkdir()
    sae = CLASSES.get(name).build(N_LATENTS, N_INPUTS, k, "cpu")
    generator = torch.Generator().manual_seed(len(name))
    state = sae.sae_engine.state_dict()
    for tensor in state.values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) / 2)
    for threshold in [state[key] for key in state if key == "threshold"]:
        threshold.abs_()
    sae.sae_engine.input_normalization = how
    CLASSES.get(name).save(sae, directory, k)
    task = training_task(bench.directory, sae_class=name, k=k, n_latents=N_LATENTS, sae_dir=str(directory))
    source = SaeSource("sae_1", name, str(directory), LAYER, N_INPUTS, N_LATENTS, k)
    return Trained(name, source, task, [], how)


def normalized(sae: Sae, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows as the encoder gets them, and each row's size and mean, by hand."""
    how = getattr(sae.sae_engine, "input_normalization", "NONE")
    mean, size = torch.zeros(len(rows), 1), torch.ones(len(rows), 1)
    if how == "NONE":
        return rows, size, mean
    if how == "RMS_NORM":
        size = rows.square().mean(dim=1, keepdim=True).sqrt()
        return rows / size, size, mean
    mean = rows.mean(dim=1, keepdim=True)
    size = ((rows - mean).square().sum(dim=1, keepdim=True) / (rows.shape[1] - 1)).sqrt()
    return (rows - mean) / (size + 1e-5), size, mean


def decoded(sae: Sae, latents: Tensor, rows: Tensor) -> Tensor:
    """Return reconstructions of rows by mi_crow's interface, restored by hand."""
    _, size, mean = normalized(sae, rows)
    with torch.no_grad():
        reconstruction: Tensor = sae.decode(latents) * size + mean
    return reconstruction


def dense(sae: Sae, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents and reconstructions by mi_crow's interface, of an SAE that normalizes nothing itself."""
    plain = copy.deepcopy(sae)
    if isinstance(plain.sae_engine, AffineEngine):
        plain.sae_engine.input_normalization = "NONE"
    with torch.no_grad():
        latents = plain.encode(normalized(sae, rows)[0])
    return latents, decoded(sae, latents, rows)


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


def test_what_it_saves_is_loaded_the_same(made: Trained, bench: Bench, tmp_path: Path) -> None:
    sae, sae_class = made.load(), CLASSES.get(made.name)
    loaded = sae_class.load(sae_class.save(sae, tmp_path, made.task.k))
    for ours, theirs in zip(dense(loaded, bench.rows), dense(sae, bench.rows), strict=True):
        # mi_crow's dictionary is normalized again at each loading.
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert sae_class.accepts(made.task.k)
    if made.name in BUILT_IN:
        assert zipfile.is_zipfile(made.checkpoint)


def test_sparse_latents_and_reconstructions_are_the_dense_ones(made: Trained, bench: Bench) -> None:
    sae, rows = made.load(), bench.rows
    latents, reconstruction = dense(sae, rows)
    sparse = sparse_latents_of(sae, rows)
    torch.testing.assert_close(sparse.dense(), latents)
    directions = decoder_directions(sae, lambda done, total: None)
    _, size, _ = normalized(sae, rows)
    bias = decoded(sae, torch.zeros(1, N_LATENTS), rows)
    torch.testing.assert_close(latents @ directions * size + bias, reconstruction, rtol=1e-4, atol=1e-4)
    engine = engine_of(sae)
    if engine is None:
        return
    few = SparseLatents.of(torch.where(torch.rand_like(latents) < 0.05, 1.0, 0.0))
    for some in (sparse, few):
        expected = decoded(sae, some.dense(), rows)
        torch.testing.assert_close(engine.decode_sparse(some, rows), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["ERROR_PRESERVING", "RECONSTRUCTION"])
def test_edits_change_what_its_decode_says(made: Trained, bench: Bench, mode: Mode) -> None:
    sae, ids = made.load(), bench.lm.tokenizer(TEXTS[0])["input_ids"]
    rows = layer_output(bench.lm, ids)
    latents, reconstruction = dense(sae, rows)
    edited = latents.clone()
    edited[:, 7] = latents[:, 7] * 0.5 + 3.0
    expected = decoded(sae, edited, rows)
    with attached(bench.lm, LAYER, SaeHook(sae, mode, [Edit(7, 0.5, 3.0)])):
        found = layer_output(bench.lm, ids)
    expected = expected if mode == "RECONSTRUCTION" else rows + expected - reconstruction
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_rows_of_a_batch_are_steered_each_by_its_own_numbers(made: Trained, bench: Bench) -> None:
    sae, rows = made.load(), layer_output(bench.lm, bench.lm.tokenizer(TEXTS[0])["input_ids"])
    texts = torch.stack([rows, 3 * rows.flip(0) + 1])
    edits: list[tuple[Mode, Edit]] = [
        ("ERROR_PRESERVING", Edit(7, 0.5, 3.0)),
        ("RECONSTRUCTION", Edit(3, 2.0, 1.0)),
    ]
    parts = [
        HookedRows(SaeHook(sae, mode, [edit]), torch.tensor([row])) for row, (mode, edit) in enumerate(edits)
    ]
    found = RowHooks(texts.shape[:2], 0, parts).modify_activations(bench.lm.model, None, texts)
    assert found is not None and [part.error for part in parts] == [None, None]
    for text, changed, (mode, edit) in zip(texts, found, edits, strict=True):
        latents, reconstruction = dense(sae, text)
        edited = latents.clone()
        edited[:, edit.neuron_index] = latents[:, edit.neuron_index] * edit.multiplier + edit.bias
        expected = decoded(sae, edited, text)
        expected = expected if mode == "RECONSTRUCTION" else text + expected - reconstruction
        torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-4)


def test_it_is_indexed(made: Trained, bench: Bench) -> None:
    task = IndexNeurons(
        index_id=f"idx_{made.name}_{made.input_normalization}",
        sae=made.source,
        run_id="run_a",
        store_dir=str(bench.directory / "store"),
        dataset_dir=str(bench.directory / "datasets" / "run_a"),
        tokenizer_dir=bench.source.copy_dir,
        top_texts_per_neuron=2,
        top_texts_path=str(bench.directory / f"{made.name}.json"),
        language_model=bench.source,
    )
    sae = made.load()
    index_neurons(task, RecordingContext(), sae, bench.store, LanguageModels(device="cpu"))
    index = load_file(bench.store.index_path(task.index_id))
    latents = dense(sae, bench.rows)[0].numpy()
    np.testing.assert_array_equal(index["firing_count"], (latents != 0).sum(axis=0))
    np.testing.assert_allclose(index["max_activation"], latents.max(axis=0), rtol=1e-4)


def test_it_is_evaluated(made: Trained, bench: Bench) -> None:
    task = EvaluateSae(
        sae=made.source,
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
    sae = made.load()
    result = evaluate_sae(task, RecordingContext(), bench.lm, sae)
    latents, reconstruction = dense(sae, bench.rows)
    assert result.l0 == pytest.approx(float((latents != 0).double().sum(dim=1).mean()))
    assert result.mse == pytest.approx(float((reconstruction - bench.rows).square().mean()), rel=1e-4)


def test_its_neurons_are_ranked_on_prompts(made: Trained, bench: Bench) -> None:
    sae = made.load()
    task = FindTopNeurons(bench.source, made.source, TEXTS[:1], 3, False)
    (found,) = find_top_neurons(task, RecordingContext(), bench.lm, sae).prompts
    rows = layer_output(bench.lm, bench.lm.tokenizer(TEXTS[0])["input_ids"])[1:]  # No <bos>.
    strongest = dense(sae, rows)[0].max(dim=0).values.sort(descending=True).values[:3]
    activations = torch.tensor([neuron.activation for neuron in found.neurons])
    torch.testing.assert_close(activations, strongest[: len(activations)], rtol=1e-4, atol=1e-5)


def test_its_latents_on_prompts_are_read(made: Trained, bench: Bench) -> None:
    sae, neurons = made.load(), list(range(N_LATENTS))
    task = ReadNeuronActivations(bench.source, made.source, TEXTS[:1], None, neurons, 500)
    (found,) = read_neuron_activations(task, RecordingContext(), bench.lm, sae).prompts
    rows = layer_output(bench.lm, bench.lm.tokenizer(TEXTS[0])["input_ids"])
    latents = dense(sae, rows)[0].numpy().T
    assert found.tokens[0].special
    read = np.frombuffer(found.latents, "<f4").reshape(N_LATENTS, -1)
    np.testing.assert_allclose(read[:, 1:], latents[:, 1:], rtol=1e-4, atol=1e-4)


def test_its_neurons_tell_texts_apart(made: Trained, bench: Bench) -> None:
    sae = made.load()
    task = ContrastNeurons(bench.source, made.source, TEXTS[:1], TEXTS[1:2], N_LATENTS)
    found = contrast_neurons(task, RecordingContext(), bench.lm, sae).neurons
    mean_a, mean_b = (
        dense(sae, layer_output(bench.lm, bench.lm.tokenizer(text)["input_ids"])[1:])[0].mean(dim=0)
        for text in TEXTS[:2]
    )
    assert len(found) == int((mean_a - mean_b > 0).sum()) > 0
    for neuron in found:
        assert neuron.mean_a == pytest.approx(float(mean_a[neuron.neuron_index]), rel=1e-3, abs=1e-5)
        assert neuron.mean_b == pytest.approx(float(mean_b[neuron.neuron_index]), rel=1e-3, abs=1e-5)


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
    made: Trained, bench: Bench, tmp_path: Path
) -> None:
    sae, path = made.load(), tmp_path / "export.zip"
    task = ExportSae(made.source, "SAE_LENS", str(path), {"model_from_premade_kwargs": {}})
    if made.name not in EXPORTED_AS:
        with pytest.raises(TaskError, match=f"What {made.name} computes cannot be written"):
            export_sae(task, RecordingContext(), sae)
        return
    export_sae(task, RecordingContext(), sae)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    architecture = cfg["architecture"]
    assert cfg["normalize_activations"] == IN_SAE_LENS[made.input_normalization]
    assert architecture == EXPORTED_AS[made.name]
    engine = engine_of(sae)
    assert engine is not None
    assert engine.weights().k == (made.task.k if architecture == "topk" else None)
    files = {name: tmp_path / name for name in ("cfg.json", "sae_weights.safetensors")}
    result = import_sae(import_task(files, "SAE_LENS", tmp_path / "sae"), RecordingContext(), CLASSES)
    assert result.sae_class == IMPORTED_AS[architecture]
    assert result.input_normalization == made.input_normalization
    imported = CLASSES.get(result.sae_class).load(tmp_path / "sae" / "sae.pt")
    for ours, theirs in zip(dense(imported, bench.rows), dense(sae, bench.rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", [name for name in TARGETS if name != "SAE_LENS"])
def test_it_goes_to_other_libraries_and_comes_back_or_is_refused(
    format: Any, trained: Trained, bench: Bench, tmp_path: Path
) -> None:
    sae, path = trained.load(), tmp_path / "export.zip"
    task = ExportSae(trained.source, format, str(path), {})
    if problem(format, trained.name, trained.input_normalization) is not None:
        with pytest.raises(TaskError, match=r"cannot be written|has no architecture for the class"):
            export_sae(task, RecordingContext(), sae)
        return
    export_sae(task, RecordingContext(), sae)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "theirs")
    back = imported(tmp_path / "theirs", n_inputs=N_INPUTS).sae
    for ours, theirs in zip(dense(back, bench.rows), dense(sae, bench.rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_its_checkpoint_is_imported_or_refused(made: Trained, bench: Bench, tmp_path: Path) -> None:
    task = import_task({"sae.pt": made.checkpoint}, "MI_CROW", tmp_path / "sae")
    if made.name not in BUILT_IN:
        with pytest.raises(TaskError, match=r"name a file that the save\(\) of"):
            read_checkpoint(made.checkpoint, CLASSES, N_INPUTS, N_LATENTS)
        return
    result = import_sae(task, RecordingContext(), CLASSES)
    assert (result.sae_class, result.k) == (made.name, made.task.k)
    assert result.input_normalization == made.input_normalization
    kept = json.loads((tmp_path / "sae" / "metadata.json").read_text())
    assert kept["input_normalization"] == made.input_normalization
    imported = CLASSES.get(made.name).load(tmp_path / "sae" / "sae.pt")
    for ours, theirs in zip(dense(imported, bench.rows), dense(made.load(), bench.rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
