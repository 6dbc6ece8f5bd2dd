"""Training an SAE: what it is fed, what it reports, what it leaves on disk."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gql_server.api.operations.costs import POINTS_OF_A_TRAINING
from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.classes import SaeClasses, place
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.training.report import MAX_POINTS, Schedule
from gql_server.compute.training.strategies import activation_scale
from gql_server.compute.training.training import train_sae
from gql_server.compute.training.training_store import TrainingStore
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Log, Progress, TrainingConfigChosen
from tests.compute.conftest import RecordingContext
from tests.compute.dummy_sae import DummySae
from tests.compute.memory_store import MemoryStore
from tests.support.training import (
    LAYER,
    POISON,
    WIDTH,
    StoredRun,
    epoch,
    structured_rows,
    training_points,
    training_store,
    training_task,
    write_run,
)

from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae
from mi_crow.store.local_store import LocalStore


def row_set(rows: Tensor) -> set[bytes]:
    """Make rows comparable."""
    return {row.numpy().tobytes() for row in rows}


# ------------------------------------------------------------------------------- what it is fed


@pytest.mark.parametrize("buffer_bytes", [2**20, 40 * WIDTH * 4, 0], ids=["memory", "pool", "smallest pool"])
def test_an_epoch_is_every_counted_row_once_in_batches_of_exactly_the_size(
    run: StoredRun, buffer_bytes: int
) -> None:
    store = training_store(run, buffer_bytes=buffer_bytes)
    batches = epoch(store)
    rows = torch.cat(batches)
    assert [len(batch) for batch in batches] == [16] * (len(run.rows) // 16)
    assert rows.dtype == torch.float32
    assert row_set(rows) <= row_set(run.rows)
    assert len(row_set(rows)) == len(rows)
    assert len(run.rows) - len(rows) == store.tokens_dropped_per_epoch < 16


@pytest.mark.parametrize("buffer_bytes", [2**20, 40 * WIDTH * 4])
def test_no_padding_and_no_special_token_is_ever_handed_out(run: StoredRun, buffer_bytes: int) -> None:
    store = training_store(run, buffer_bytes=buffer_bytes)
    for _ in range(3):
        assert all(float(batch.max()) < POISON for batch in epoch(store))


@pytest.mark.parametrize("buffer_bytes", [2**20, 40 * WIDTH * 4])
def test_the_seed_gives_the_order_and_every_epoch_another(run: StoredRun, buffer_bytes: int) -> None:
    first, again = (training_store(run, buffer_bytes=buffer_bytes) for _ in range(2))
    other = training_store(run, buffer_bytes=buffer_bytes, seed=2)
    one = torch.cat(epoch(first))
    assert torch.equal(one, torch.cat(epoch(again)))
    two = torch.cat(epoch(first))
    assert not torch.equal(one, two)
    assert torch.equal(two, torch.cat(epoch(again)))
    assert not torch.equal(one, torch.cat(epoch(other)))


def test_a_batch_mixes_stored_batches(run: StoredRun) -> None:
    place = {row: number for number, row in enumerate(row.numpy().tobytes() for row in run.rows)}
    places = np.array([place[row.numpy().tobytes()] for row in epoch(training_store(run))[0]])
    assert places.max() - places.min() > len(run.rows) // 2


def test_the_pool_holds_no_more_than_the_buffer(run: StoredRun, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    empty = torch.empty

    def counting(*size: int, **options: Any) -> Tensor:
        nonlocal largest
        largest = max(largest, math.prod(size))
        return empty(*size, **options)

    monkeypatch.setattr(torch, "empty", counting)
    epoch(training_store(run, buffer_bytes=40 * WIDTH * 4))
    assert largest == 40 * WIDTH


def test_half_precision_runs_are_read_as_float32(tmp_path: Path) -> None:
    run = write_run(LocalStore(tmp_path), dtype=torch.bfloat16)
    rows = torch.cat(epoch(training_store(run)))
    assert rows.dtype == torch.float32
    assert row_set(rows) <= row_set(run.rows)


def test_a_run_without_masks_is_refused_in_a_sentence(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_detector_metadata("run_a", 0, {}, {LAYER: {"activations": torch.zeros(2, 5, WIDTH)}})
    with pytest.raises(TaskError, match="attention mask"):
        TrainingStore(store, "run_a", LAYER, batch_size=2, seed=0, buffer_bytes=1000)


def test_a_run_with_less_than_a_batch_is_refused_in_a_sentence(run: StoredRun) -> None:
    with pytest.raises(TaskError, match=f"{len(run.rows)} tokens"):
        training_store(run, batch_size=100_000)


@pytest.mark.parametrize("buffer_bytes", [2**20, 40 * WIDTH * 4], ids=["memory", "pool"])
def test_a_few_values_that_are_not_finite_are_left_out_and_many_are_refused_with_the_remedy(
    run: StoredRun, buffer_bytes: int
) -> None:
    activations = run.store.get_detector_metadata_by_layer_by_key("run_a", 2, LAYER, "activations")
    lost = activations[0, 3].clone()
    activations[0, 3, 0] = torch.inf
    run.store.put_detector_metadata("run_a", 2, {}, {LAYER: {"activations": activations}})
    store = training_store(run, buffer_bytes=buffer_bytes, batch_size=1)
    assert (store.token_count, store.stored.non_finite_count) == (len(run.rows) - 1, 1)
    assert row_set(torch.cat(epoch(store, 1))) == row_set(run.rows) - row_set(lost[None])
    activations[:, :, 0] = torch.nan
    run.store.put_detector_metadata("run_a", 2, {}, {LAYER: {"activations": activations}})
    with pytest.raises(TaskError, match="BFLOAT16 or FLOAT32 where it is stored as FLOAT16") as caught:
        training_store(run)
    assert "language model added again as BFLOAT16 or FLOAT32" in caught.value.reason


def test_a_training_store_reads_on_and_never_writes(run: StoredRun) -> None:
    store = training_store(run)
    assert torch.equal(
        store.get_detector_metadata_by_layer_by_key("run_a", 0, "attention_masks", "attention_mask"),
        run.store.get_detector_metadata_by_layer_by_key("run_a", 0, "attention_masks", "attention_mask"),
    )
    with pytest.raises(PermissionError):
        store.put_run_metadata("run_a", {})
    with pytest.raises(PermissionError):
        store.delete_run("run_a")


# --------------------------------------------------------------------------- what it reports, leaves


def test_a_training_reports_its_config_first_then_points_and_ends_better_than_it_began(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    result = train_sae(training_task(tmp_path, epochs=11), recording_context, SaeClasses())
    steps = 11 * (len(run.rows) // 16)
    assert isinstance(recording_context.events[0], TrainingConfigChosen)
    assert isinstance(recording_context.events[1], Log)
    found = training_points(recording_context.events)
    assert [point.step for point in found] == list(range(1, steps + 1))
    assert [point.epoch for point in found] == [1 + step // (steps // 11) for step in range(steps)]
    assert found[-1].token_count == steps * 16
    assert found[-1].explained_variance > 0.6 > found[0].explained_variance
    assert result.final_point == found[-1]
    assert result.config == recording_context.events[0]
    assert result.n_inputs == WIDTH
    assert all(point.l0 <= 3 for point in found)
    assert [point.dead_fraction is None for point in found] == [
        step < steps // 11 for step in range(1, steps + 1)
    ]
    progress = [event for event in recording_context.events if isinstance(event, Progress)]
    assert progress[-1].completed == progress[-1].total == steps


def test_the_checkpoint_opens_with_mi_crows_own_class_and_reconstructs_as_reported(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    task = training_task(tmp_path, epochs=10)
    train_sae(task, recording_context, SaeClasses())
    sae = TopKSae.load(Path(task.sae_dir) / "sae.pt")
    sae.sae_engine.eval()
    with torch.no_grad():
        latents = sae.encode(run.rows)
        error = ((sae.decode(latents) - run.rows) ** 2).mean()
    assert sae.sae_engine.top_k == 3
    assert int((latents != 0).sum(dim=1).max()) <= 3
    last_epoch = [point.mse for point in training_points(recording_context.events) if point.epoch == 10]
    assert float(error) == pytest.approx(np.mean(last_epoch), rel=0.2)
    assert not sae.concepts.bias.any()


def test_the_files_tell_all_that_was_chosen(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    task = training_task(tmp_path)
    result = train_sae(task, recording_context, SaeClasses())
    directory = Path(task.sae_dir)
    assert sorted(path.name for path in directory.iterdir()) == ["history.json", "metadata.json", "sae.pt"]
    history = json.loads((directory / "history.json").read_text())
    metadata = json.loads((directory / "metadata.json").read_text())
    assert [point["step"] for point in history] == [
        point.step for point in training_points(recording_context.events)
    ]
    assert history[0]["dead_fraction"] is None
    assert metadata["training_config"]["learning_rate"] == result.config.learning_rate
    assert metadata["n_inputs"] == WIDTH
    assert metadata["k"] == 3
    assert metadata["token_count"] == len(run.rows)
    assert metadata["final_metrics"]["mse"] == history[-1]["mse"]
    assert set(metadata["versions"]) == {"mi-crow", "overcomplete", "torch"}


def test_nothing_is_written_into_the_run(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    before = sorted(path for path in (tmp_path / "store").rglob("*"))
    train_sae(training_task(tmp_path), recording_context, SaeClasses())
    assert sorted(path for path in (tmp_path / "store").rglob("*")) == before


@pytest.mark.parametrize(("sae_class", "k"), [("TopKSae", 3), ("L1Sae", None)])
def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_random_numbers_alone(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext, sae_class: str, k: int | None
) -> None:
    weights = []
    for number, seed in enumerate([5, 5, 6]):
        torch.manual_seed(number)
        before = torch.random.get_rng_state()
        directory = str(tmp_path / f"sae{number}")
        task = training_task(tmp_path, seed=seed, sae_dir=directory, sae_class=sae_class, k=k)
        train_sae(task, recording_context, SaeClasses())
        assert torch.equal(torch.random.get_rng_state(), before)
        state = torch.load(Path(directory) / "sae.pt")["sae_state_dict"]
        weights.append(torch.cat([tensor.flatten() for tensor in state.values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_learning_rate_that_is_far_too_high_fails_in_a_sentence_and_writes_nothing(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    task = training_task(tmp_path, learning_rate=1e38, epochs=20)
    with pytest.raises(TaskError, match=r"at step \d+ of \d+; choose a learning rate below"):
        train_sae(task, recording_context, SaeClasses())
    assert not Path(task.sae_dir).exists()


def test_what_was_saved_in_the_directory_during_the_training_stays(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    task = training_task(tmp_path)
    concepts = Path(task.sae_dir) / "concepts" / "concepts.json"
    concepts.parent.mkdir(parents=True)
    concepts.write_text("{}")
    for _ in range(2):
        train_sae(task, recording_context, SaeClasses())
        assert concepts.read_text() == "{}"
        names = sorted(path.name for path in Path(task.sae_dir).iterdir())
        assert names == ["concepts", "history.json", "metadata.json", "sae.pt"]


@pytest.mark.parametrize("total", [1, 199, 200, 201, 399, 400, 1001])
def test_there_are_never_more_points_than_are_shown(total: int) -> None:
    assert math.ceil(total / Schedule(total, 1).steps_per_point) <= MAX_POINTS == POINTS_OF_A_TRAINING


def test_weights_that_the_last_step_ruins_fail_the_training(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = torch.optim.AdamW.step, 2 * (len(run.rows) // 16)
    done = 0

    def ruining(self: torch.optim.AdamW, *args: Any, **options: Any) -> Any:
        nonlocal done
        result = step(self, *args, **options)
        done += 1
        if done == steps:
            self.param_groups[0]["params"][0].data[0] = torch.nan
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", ruining)
    task = training_task(tmp_path, epochs=2)
    with pytest.raises(TaskError, match="weights were not finite any more after the last step; choose"):
        train_sae(task, recording_context, SaeClasses())
    assert done == steps
    assert not Path(task.sae_dir).exists()


def test_an_extreme_sparsity_penalty_is_named_as_a_cause(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    task = training_task(tmp_path, sae_class="L1Sae", k=None, l1_lambda=1e60, learning_rate=1e-3)
    with pytest.raises(TaskError, match=r"learning rate below \S+ or an l1Lambda below 1e\+60\."):
        train_sae(task, recording_context, SaeClasses())


def test_a_canceled_training_stops_at_the_next_batch_and_leaves_a_snapshot_alone(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext, caplog: pytest.LogCaptureFixture
) -> None:
    def cancel() -> None:
        if len(training_points(recording_context.events)) == 2:
            raise CancelRequested

    recording_context.on_check = cancel  # type: ignore[method-assign]
    task = training_task(tmp_path)
    with pytest.raises(CancelRequested):
        train_sae(task, recording_context, SaeClasses())
    assert len(training_points(recording_context.events)) == 2
    assert [path.name for path in Path(task.sae_dir).iterdir()] == ["snapshot.pt"]
    assert not caplog.records, "upstream takes a cancellation for an error"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"k": None}, ["k"]),
        ({"k": 25}, ["k"]),
        ({"device": "warp:1"}, ["device"]),
        ({"sae_class": "No"}, ["saeClass"]),
    ],
)
def test_what_cannot_be_is_invalid_and_says_where(
    run: StoredRun,
    tmp_path: Path,
    recording_context: RecordingContext,
    changes: dict[str, Any],
    path: list[str],
) -> None:
    with pytest.raises(TaskError) as caught:
        train_sae(training_task(tmp_path, **changes), recording_context, SaeClasses())
    assert (caught.value.code, caught.value.path) == ("INVALID", path)


def test_a_class_of_ones_own_trains_on_a_store_in_memory(
    tmp_path: Path, recording_context: RecordingContext
) -> None:
    run = write_run(MemoryStore())
    task = training_task(tmp_path, sae_class="DummySae", k=None, epochs=20)
    result = train_sae(task, recording_context, SaeClasses({"DummySae": DummySae}), run.store)
    found = training_points(recording_context.events)
    assert found[-1].mse < found[0].mse
    loaded = DummySae.load(Path(task.sae_dir) / "sae.pt")
    assert loaded.context.n_inputs == result.n_inputs == WIDTH


# ------------------------------------------------------------------------------------- scaling


@pytest.mark.parametrize("sae_class", ["TopKSae", "L1Sae"])
def test_an_engine_for_scaled_activations_folds_exactly_into_one_for_the_activations(sae_class: str) -> None:
    torch.manual_seed(0)
    sae = SaeClasses().get(sae_class).build(n_latents=24, n_inputs=WIDTH, k=3, device="cpu")
    engine = engine_of(sae)
    assert engine is not None
    engine.start(structured_rows(200))
    with torch.no_grad():
        sae.sae_engine.encoder.final_block[0].bias.normal_()
    place(sae, "cpu")
    x, scale = structured_rows(200), 2.0**-5
    with torch.no_grad():
        scaled = sae.encode(scale * x)
        scaled_reconstruction = sae.decode(scaled)
        engine.fold_scale(scale)
        latents = sae.encode(x)
        assert torch.equal(latents, scaled / scale)
        assert torch.equal(sae.decode(latents), scaled_reconstruction / scale)
    assert 0 < int((latents > 0).sum()) < latents.numel()


def test_the_scale_is_a_power_of_two_that_a_few_huge_rows_do_not_move() -> None:
    rows = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0)) * 100
    outliers = rows.clone()
    outliers[::50] *= 1000
    assert activation_scale(rows) == activation_scale(outliers) == 2.0**-7
    assert activation_scale(torch.zeros(4, 3)) == 1.0


def test_the_l1_penalty_keeps_its_meaning_whatever_the_scale_of_the_training(
    run: StoredRun, tmp_path: Path, recording_context: RecordingContext
) -> None:
    task = training_task(tmp_path, sae_class="L1Sae", k=None, l1_lambda=0.7, epochs=1, learning_rate=0.0)
    train_sae(task, recording_context, SaeClasses())
    sae = SaeClasses().get("L1Sae").load(Path(task.sae_dir) / "sae.pt")
    rows = torch.cat(
        epoch(TrainingStore(run.store, "run_a", LAYER, batch_size=16, seed=5, buffer_bytes=2**20))
    )
    with torch.no_grad():
        latents = sae.encode(rows)
        loss = ((sae.decode(latents) - rows) ** 2).mean() + 0.7 * latents.abs().mean()
    assert np.mean([point.loss for point in training_points(recording_context.events)]) == pytest.approx(
        float(loss), rel=1e-5
    )
