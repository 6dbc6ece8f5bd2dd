"""Leaving out first positions and outliers: an attention sink in training, index and their figures."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.exclusions import positions_of, token_mask
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.provenance.index_provenance import with_provenance
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.outliers import TokenSample, note_of
from gql_server.compute.training.training import train_sae
from gql_server.compute.training.training_store import TrainingStore
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Log, TrainingPointMessage
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import IndexResult, TrainResult
from gql_server.protocol.sources import SaeSource
from gql_server.protocol.tasks import CaptureActivations, IndexNeurons, TrainSae
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.evaluation_by_hand import NumpyAffineSae
from tests.compute.extreme_models import LAYER, WIDTH, make_sink, source_of
from tests.support.training import training_task

Array = NDArray[np.float64]
TEXTS = [f"Number {n}: the value of the expression {n * 7} is true or false for a string." for n in range(30)]
MAX_LENGTH = 20
N_LATENTS = 40


class Captured:
    """A sink's captured run, and the same tokens from bare transformers, text by text."""

    def __init__(self, directory: Path) -> None:
        lm = make_sink(directory / "lm")
        self.task: CaptureActivations = capture_task(
            source_of(lm), directory, TEXTS, layers=[LAYER], max_length=MAX_LENGTH, batch_size=7
        )
        capture_activations(self.task, RecordingContext(), LanguageModels(device="cpu"))
        self.by_hand = _hidden_states(lm)
        self.norms = [np.linalg.norm(rows, axis=1) for rows in self.by_hand]
        self.median = float(np.median(np.concatenate(self.norms)))

    def kept(self, first: int = 0, outliers: float = math.inf) -> list[NDArray[np.bool_]]:
        """Say by hand which tokens count, text by text."""
        return [(np.arange(len(norms)) >= first) & (norms <= outliers * self.median) for norms in self.norms]


def _hidden_states(directory: Path) -> list[Array]:
    lm: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    found = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"][:MAX_LENGTH]
        with torch.no_grad():
            states = lm(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0]
        found.append(states.double().numpy())
    return found


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Captured:
    return Captured(tmp_path_factory.mktemp("sink"))


def sorted_rows(rows: Array) -> Array:
    return np.asarray(rows[np.lexsort(rows.T[::-1])])


EXCLUSIONS = [
    Exclusions(),
    Exclusions(first_positions=1),
    Exclusions(first_positions=3),
    Exclusions(outliers=10.0),
    Exclusions(outliers=1.1),
    Exclusions(first_positions=2, outliers=1.2),
]


@pytest.mark.parametrize("buffer_bytes", [2**20, 40 * WIDTH * 4], ids=["memory", "pool"])
@pytest.mark.parametrize("exclusions", EXCLUSIONS, ids=str)
def test_a_training_gets_the_tokens_that_numpy_leaves(
    captured: Captured, exclusions: Exclusions, buffer_bytes: int
) -> None:
    kept = captured.kept(exclusions.first_positions, exclusions.outliers or math.inf)
    expected = np.concatenate([rows[of_text] for rows, of_text in zip(captured.by_hand, kept, strict=True)])
    store = TrainingStore(
        ActivationStore(Path(captured.task.store_dir)),
        "run_a",
        LAYER,
        batch_size=1,
        seed=1,
        buffer_bytes=buffer_bytes,
        exclusions=exclusions,
    )
    batches = [
        store.get_detector_metadata_by_layer_by_key("run_a", index, LAYER, "activations")
        for index in store.list_run_batches("run_a")
    ]
    found = torch.cat(batches).double().numpy()
    assert store.token_count == len(expected) == len(found)
    assert store.stored.excluded_count == sum(map(len, captured.by_hand)) - len(expected)
    assert store.stored.exclusions.median_norm == pytest.approx(captured.median)
    np.testing.assert_allclose(sorted_rows(found), sorted_rows(expected), atol=1e-3)


def training(captured: Captured, directory: Path, **changes: Any) -> TrainSae:
    chosen: dict[str, Any] = {
        "sae_class": "BiasedTopKSae",
        "store_dir": captured.task.store_dir,
        "layer": LAYER,
        "n_latents": N_LATENTS,
        "k": 4,
        "epochs": 3,
        "batch_size": 32,
        "sae_dir": str(directory / "sae"),
    }
    return training_task(directory, **chosen | changes)


def trained(task: TrainSae) -> tuple[TrainResult, list[str]]:
    context = RecordingContext()
    result = train_sae(task, context, SaeClasses())
    return result, [event.message for event in context.events if isinstance(event, Log)]


def explained(x: Array, x_hat: Array) -> float:
    return float(1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("exclusions", [Exclusions(), Exclusions(first_positions=2)], ids=str)
def test_a_training_tells_its_explained_variance_with_outliers_and_without(
    captured: Captured, tmp_path: Path, exclusions: Exclusions
) -> None:
    task = training(captured, tmp_path, exclusions=exclusions)
    result, logs = trained(task)
    x = np.concatenate(captured.by_hand)
    without = np.concatenate(captured.kept(exclusions.first_positions, 10.0))
    sae = SaeClasses().get(task.sae_class).load(tmp_path / "sae" / "sae.pt", "cpu")
    by_hand = NumpyAffineSae(sae)
    x_hat = by_hand.reconstruct(by_hand.latents(x))
    found = result.outliers
    assert found is not None
    assert (found.token_count, found.outlier_count) == (len(x), int((~without).sum()))
    assert found.multiple == 10.0
    assert found.median_norm == pytest.approx(captured.median)
    assert found.explained_variance_with_outliers == pytest.approx(explained(x, x_hat), abs=1e-4)
    assert found.explained_variance_without_outliers == pytest.approx(
        explained(x[without], x_hat[without]), abs=1e-4
    )
    assert any(f"without the {found.outlier_count} that are" in line for line in logs)
    metadata = json.loads((tmp_path / "sae" / "metadata.json").read_text())
    assert metadata["outliers"]["outlier_count"] == found.outlier_count
    assert metadata["training_config"]["exclude_first_positions"] == exclusions.first_positions
    assert result.provenance is not None and result.provenance.training is not None
    assert result.provenance.training.excluded_token_count == exclusions.first_positions * len(TEXTS)
    assert result.provenance.training.config["median_norm"] == pytest.approx(captured.median)


def test_an_sae_that_leaves_out_a_sink_explains_the_other_tokens_better(
    captured: Captured, tmp_path: Path
) -> None:
    with_sink, _ = trained(training(captured, tmp_path / "with", epochs=20))
    without, _ = trained(
        training(captured, tmp_path / "without", epochs=20, exclusions=Exclusions(first_positions=1))
    )
    for result in (with_sink, without):
        assert result.outliers is not None and result.outliers.explained_variance_without_outliers is not None
    assert with_sink.outliers.explained_variance_with_outliers > 0.99  # type: ignore[union-attr, operator]
    assert (
        without.outliers.explained_variance_without_outliers  # type: ignore[union-attr, operator]
        > with_sink.outliers.explained_variance_without_outliers  # type: ignore[union-attr]
    )


def test_few_tokens_with_most_of_the_variance_are_told_with_the_remedy_and_it_helps(
    captured: Captured, tmp_path: Path
) -> None:
    _, logs = trained(training(captured, tmp_path))
    (note,) = [line for line in logs if "squared deviation" in line]
    x = np.concatenate(captured.by_hand)
    deviations = ((x - x.mean(axis=0)) ** 2).sum(axis=1)
    sinks = np.concatenate([np.arange(len(rows)) == 0 for rows in captured.by_hand])
    assert f"{len(TEXTS)} of {len(x):,} tokens" in note
    assert f"carry {deviations[sinks].sum() / deviations.sum():.1%}" in note
    assert f"{len(TEXTS)} at position 0 of their texts" in note
    assert "excludeFirstPositions: 1 or excludeOutliers: 10" in note
    for number, remedy in enumerate([Exclusions(first_positions=1), Exclusions(outliers=10.0)]):
        _, logs = trained(training(captured, tmp_path / str(number), exclusions=remedy))
        assert not any("squared deviation" in line for line in logs)
        assert any(f"{len(TEXTS)} are excluded" in line for line in logs)


def test_all_outliers_are_told_though_half_of_them_have_most_of_the_variance() -> None:
    rows = torch.randn(1000, WIDTH, generator=torch.Generator().manual_seed(1))
    rows[:15] *= 100
    positions = torch.arange(1000) % 50 + 5
    median = float(rows.norm(dim=1).median())
    note = note_of(TokenSample(rows, positions), Exclusions(median_norm=median))
    assert note is not None and note.startswith("15 of 1,000 tokens (1.50%) carry")
    assert "excludeOutliers: 10" in note and "excludeFirstPositions" not in note
    rows[:15] /= 100
    assert note_of(TokenSample(rows, positions), Exclusions(median_norm=median)) is None
    rows[3] *= 9 * median / float(rows[3].norm())
    rows[4:] = rows[4:] / rows[4:].norm(dim=1, keepdim=True) * 0.1 + 5.0
    note = note_of(TokenSample(rows, positions), Exclusions(median_norm=float(rows.norm(dim=1).median())))
    assert note is not None and "of 1,000 tokens" in note and "1 at position 8" in note


class Canceled(RecordingContext):
    """Ends the task after its first training point: that comes after so many steps, however fast they are."""

    def on_check(self) -> None:
        if any(isinstance(event, TrainingPointMessage) for event in self.events):
            raise CancelRequested


def test_a_training_with_exclusions_goes_on_to_the_same_weights_and_with_others_begins_anew(
    captured: Captured, tmp_path: Path
) -> None:
    exclusions = Exclusions(first_positions=1, outliers=1.3)
    whole = training(captured, tmp_path / "whole", exclusions=exclusions)
    task = training(captured, tmp_path / "parts", exclusions=exclusions)
    expected, _ = trained(whole)
    with pytest.raises(CancelRequested):
        train_sae(task, Canceled(), SaeClasses())
    other = msgspec.structs.replace(task, attempt=2, exclusions=Exclusions(first_positions=1))
    result, logs = trained(msgspec.structs.replace(task, attempt=2))
    assert any(line.startswith("Going on after step") for line in logs)
    assert result.provenance is not None and expected.provenance is not None
    assert result.provenance.checkpoint_sha256 == expected.provenance.checkpoint_sha256
    _, logs = trained(other)
    assert any("begins anew" in line for line in logs)


def test_exclusions_that_leave_less_than_a_batch_say_so(captured: Captured, tmp_path: Path) -> None:
    task = training(captured, tmp_path, exclusions=Exclusions(first_positions=MAX_LENGTH - 1))
    with pytest.raises(TaskError, match=r"tokens that count and .* that are excluded.*exclude less"):
        trained(task)


# ------------------------------------------------------------------------------------ the index


def indexed(
    captured: Captured, directory: Path, exclusions: Exclusions
) -> tuple[IndexResult, dict[str, NDArray[Any]], NumpyAffineSae]:
    """Index a trained SAE; return the result, the tensors and the SAE in NumPy."""
    trained(training(captured, directory))
    source = SaeSource("sae_1", "BiasedTopKSae", str(directory / "sae"), LAYER, WIDTH, N_LATENTS, 4)
    task = IndexNeurons(
        index_id=f"idx_{directory.name}",
        sae=source,
        run_id="run_a",
        store_dir=captured.task.store_dir,
        dataset_dir=captured.task.dataset_dir,
        tokenizer_dir=captured.task.language_model.copy_dir,
        top_texts_per_neuron=3,
        top_texts_path=str(directory / "top.json"),
        exclusions=exclusions,
    )
    store = ActivationStore(Path(task.store_dir))
    sae = Saes(SaeClasses()).get(source)
    context = RecordingContext()
    result = index_neurons(task, context, sae, store, LanguageModels(device="cpu"))
    result = with_provenance(result, task, context, store)
    tensors = store.get_run_batch(task.index_id, 0)
    assert isinstance(tensors, dict)
    return result, {name: tensor.numpy() for name, tensor in tensors.items()}, NumpyAffineSae(sae)


@pytest.mark.parametrize("exclusions", EXCLUSIONS[1:], ids=str)
def test_an_index_counts_the_tokens_that_numpy_leaves(
    captured: Captured, tmp_path: Path, exclusions: Exclusions
) -> None:
    result, tensors, sae = indexed(captured, tmp_path, exclusions)
    kept = captured.kept(exclusions.first_positions, exclusions.outliers or math.inf)
    n_kept = int(sum(of_text.sum() for of_text in kept))
    latents = [
        sae.latents(rows) * of_text[:, None] for rows, of_text in zip(captured.by_hand, kept, strict=True)
    ]
    together = np.concatenate(latents)
    assert result.token_count == n_kept
    assert result.excluded_token_count == len(together) - n_kept
    np.testing.assert_array_equal(tensors["firing_count"], (together > 0).sum(axis=0))
    np.testing.assert_allclose(tensors["max_activation"], together.max(axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(tensors["frequency"], (together > 0).sum(axis=0) / n_kept, rtol=1e-5)
    assert result.provenance is not None
    assert result.provenance.exclude_first_positions == exclusions.first_positions
    assert result.provenance.excluded_token_count == len(together) - n_kept
    if exclusions.outliers is not None:
        assert result.provenance.median_norm == pytest.approx(captured.median)


def test_an_index_uses_the_saes_own_median_where_it_knows_one(captured: Captured, tmp_path: Path) -> None:
    result, _, _ = indexed(captured, tmp_path, Exclusions(outliers=2.0, median_norm=captured.median * 100))
    assert result.excluded_token_count == 0


def test_an_index_without_a_token_is_refused(captured: Captured, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="No token of the run is left to index: exclude less"):
        indexed(captured, tmp_path, Exclusions(first_positions=MAX_LENGTH))


# ------------------------------------------------------------------------------------- the rule


def test_positions_are_counted_from_the_texts_own_first_token_on_whichever_side_is_padding() -> None:
    right = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 0]]).bool()
    left = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 1]]).bool()
    assert positions_of(right, [4, 2]).tolist() == [[0, 1, 2, 3]] * 2
    assert positions_of(left, [4, 2]).tolist() == [[0, 1, 2, 3], [-2, -1, 0, 1]]
    assert positions_of(right, None).tolist() == [[0, 1, 2, 3]] * 2
    by_one = torch.tensor([[1, 1], [0, 1]]).bool()
    assert positions_of(by_one, [2, 1]).tolist() == [[0, 1], [-1, 0]]


def test_the_limit_itself_counts_and_what_is_not_finite_is_left_to_those_who_compute() -> None:
    rows = torch.tensor([[3.0, 4.0], [6.0, 8.0], [6.0, 8.1], [torch.nan, 0.0], [torch.inf, 0.0]])
    exclusions = Exclusions(first_positions=1, outliers=2.0, median_norm=5.0)
    assert token_mask(exclusions, torch.arange(5), rows).tolist() == [False, True, False, True, True]
