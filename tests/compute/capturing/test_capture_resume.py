"""Captures that are interrupted, and batches that are not what was written."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from gql_server.artifacts.manifest import Manifest, assemble, read_manifest
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import Log
from gql_server.protocol.results import CaptureResult
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations
from tests.compute.conftest import RecordingContext, capture_task, interrupted_capture

LAYER = "llamaforcausallm_model_layers_0"
TEXTS = [f"Text number {n} says {'more ' * n}and ends." for n in range(9)]


@pytest.fixture
def task(tiny_source: LanguageModelSource, tmp_path: Path) -> CaptureActivations:
    return capture_task(tiny_source, tmp_path, TEXTS, batch_size=2)


def store_of(task: CaptureActivations) -> ActivationStore:
    return ActivationStore(Path(task.store_dir))


def go_on(task: CaptureActivations, lms: LanguageModels) -> tuple[CaptureResult, list[str]]:
    """Capture again; returns the result and the log's sentences."""
    context = RecordingContext()
    result = capture_activations(msgspec.structs.replace(task, attempt=2), context, lms)
    return result, [event.message for event in context.events if isinstance(event, Log)]


def tensors(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*.safetensors"))}


def without_times(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, created_at="")


@pytest.mark.parametrize("n_batches", [0, 1, 3, 4])
def test_a_resumed_capture_is_that_of_an_uninterrupted_one(
    task: CaptureActivations, language_models: LanguageModels, tmp_path: Path, n_batches: int
) -> None:
    whole = msgspec.structs.replace(task, store_dir=str(tmp_path / "whole"))
    expected = capture_activations(whole, RecordingContext(), language_models)
    directory = interrupted_capture(task, language_models, n_batches)
    kept = {path: path.stat().st_mtime_ns for path in directory.rglob("*.safetensors")}
    result, log = go_on(task, language_models)
    assert result == expected
    assert tensors(directory) == tensors(store_of(whole).run_directory("run_a"))
    manifests = [read_manifest(store_of(t).manifest_path("run_a")) for t in (task, whole)]
    assert without_times(manifests[0]) == without_times(manifests[1])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    told = [sentence for sentence in log if "earlier attempt" in sentence]
    assert told == (
        [f"Going on where an earlier attempt ended: {n_batches} of 5 batches are there."] * (n_batches > 0)
    )


def test_what_an_interrupted_capture_has_stored_is_told_by_a_manifest_of_its_own(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    directory = interrupted_capture(task, language_models, 2)
    partial = assemble(directory)
    assert partial is not None and not partial.complete
    assert [batch.index for batch in partial.batches] == [0, 1]
    store = store_of(task)
    assert partial.token_count == sum(len(store.read_masked("run_a", n, LAYER)) for n in (0, 1))
    assert partial.sample_count == 4 and partial.layers[0].hidden_size == 32


def test_a_capture_that_ended_before_it_was_written_down_ends_again_at_once(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    expected = capture_activations(task, RecordingContext(), language_models)
    result, log = go_on(task, language_models)
    assert result == expected
    assert "Going on where an earlier attempt ended: 5 of 5 batches are there." in log


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])


def remove_record(file: Path) -> None:
    (file.parents[1] / "batch.json").unlink()


@pytest.mark.parametrize("damage", [cut_off, Path.unlink, remove_record])
def test_a_stored_batch_that_is_not_whole_is_captured_again(
    task: CaptureActivations, language_models: LanguageModels, damage: Any
) -> None:
    directory = interrupted_capture(task, language_models, 3)
    whole = tensors(directory)
    damage(directory / "batch_1" / LAYER / "activations.safetensors")
    _, log = go_on(task, language_models)
    assert "Going on where an earlier attempt ended: 2 of 5 batches are there." in log
    assert whole.items() <= tensors(directory).items()


def test_batches_of_another_plan_are_not_mixed_with_new_ones(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    directory = interrupted_capture(task, language_models, 2)
    plan = json.loads((directory / "plan.json").read_text())
    plan["manifest"]["max_length"] = 8
    (directory / "plan.json").write_text(json.dumps(plan))
    result, log = go_on(task, language_models)
    assert "The batches of an earlier attempt are of another plan, so the capture begins anew." in log
    assert result.batch_count == 5 and len(store_of(task).list_run_batches("run_a")) == 5


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "says"),
    [(flip_a_bit, "has been altered"), (cut_off, "has been altered"), (Path.unlink, "is missing")],
)
@pytest.mark.parametrize("file", [f"{LAYER}/activations", "attention_masks/attention_mask"])
def test_a_tensor_that_is_not_what_was_written_is_not_read(
    task: CaptureActivations, language_models: LanguageModels, damage: Any, says: str, file: str
) -> None:
    capture_activations(task, RecordingContext(), language_models)
    store = store_of(task)
    damage(store.batch_directory("run_a", 3) / f"{file}.safetensors")
    assert len(store.read_masked("run_a", 2, LAYER)) > 0
    with pytest.raises(TaskError, match=says) as error:
        store.read_masked("run_a", 3, LAYER)
    assert f"{file}.safetensors of the run's batch 3" in error.value.reason


def test_a_run_without_records_is_read_as_it_is(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    capture_activations(task, RecordingContext(), language_models)
    expected = store_of(task).read_masked("run_a", 0, LAYER)
    directory = store_of(task).run_directory("run_a")
    for record in directory.glob("batch_*/batch.json"):
        record.unlink()
    with pytest.raises(TaskError, match=r"batch\.json of the run's batch 0 is missing"):
        store_of(task).read_masked("run_a", 0, LAYER)
    (directory / "plan.json").unlink()  # Then mi_crow itself, or the first version, has stored it.
    assert torch.equal(store_of(task).read_masked("run_a", 0, LAYER), expected)


def test_a_run_that_lacks_a_batch_is_not_trained_on(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    capture_activations(task, RecordingContext(), language_models)
    store_of(task).check_batches("run_a")
    shutil.rmtree(store_of(task).batch_directory("run_a", 2))
    with pytest.raises(TaskError, match="Batch 2 of the run is missing"):
        store_of(task).check_batches("run_a")


def test_a_capture_leaves_the_asked_bytes_of_the_disk_free(
    task: CaptureActivations, language_models: LanguageModels, tmp_path: Path
) -> None:
    too_much = msgspec.structs.replace(task, min_free_bytes=shutil.disk_usage(tmp_path).total)
    with pytest.raises(OSError, match="No space left") as error:
        capture_activations(too_much, RecordingContext(), language_models)
    assert error.value.errno == errno.ENOSPC
    assert store_of(task).list_run_batches("run_a") == []


def test_a_capture_stops_at_the_limit_and_what_it_has_stored_stays(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    with pytest.raises(TaskError, match="GQL_SERVER_MAX_ARTIFACT_BYTES"):
        capture_activations(
            msgspec.structs.replace(task, max_artifact_bytes=10_000, artifact_dir=task.store_dir),
            RecordingContext(),
            language_models,
        )
    stored = store_of(task).list_run_batches("run_a")
    assert 0 < len(stored) < 5
    assert go_on(task, language_models)[0].batch_count == 5


@pytest.mark.parametrize("damage", [cut_off, Path.unlink])
def test_texts_that_are_not_whole_are_told_in_a_sentence(
    task: CaptureActivations, language_models: LanguageModels, damage: Any
) -> None:
    damage(Path(task.dataset_dir) / "texts.arrow")
    with pytest.raises(TaskError, match="texts are missing or damaged"):
        capture_activations(task, RecordingContext(), language_models)
