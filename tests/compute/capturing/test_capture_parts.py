"""Captures whose passes are divided among several workers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gql_server.artifacts.manifest import (
    PlannedBatch,
    assemble,
    read_manifest,
    read_plan,
    write_manifest,
    write_plan,
)
from gql_server.compute.capturing import batch_capture
from gql_server.compute.capturing.batch_sizes import joined
from gql_server.compute.capturing.capture import capture_activations, capture_part, prepare_parts
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations
from tests.compute.conftest import RecordingContext, capture_task

LAYER = "llamaforcausallm_model_layers_0"
SENTENCE = "An assignment evaluates the expression list and binds names to objects in turn ."
TEXTS = [" ".join((SENTENCE * 2).split()[n % 7 : n % 7 + n % 13]) or "." for n in range(240)]


@pytest.fixture
def task(tiny_source: LanguageModelSource, tmp_path: Path) -> CaptureActivations:
    return capture_task(tiny_source, tmp_path, TEXTS, max_texts=1000)


def changed(task: CaptureActivations, **changes: Any) -> CaptureActivations:
    return msgspec.structs.replace(task, **changes)


def directory_of(task: CaptureActivations) -> Path:
    return ActivationStore(Path(task.store_dir)).run_directory(task.run_id)


def files(task: CaptureActivations) -> dict[str, bytes]:
    directory = directory_of(task)
    found = {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("batch_*/**/*.*")
    }
    assert found
    return found


@pytest.mark.parametrize(("batch_size", "n_parts"), [(1, 3), (4, 2), (16, 4), (100, 2), (1000, 3)])
def test_parts_in_any_order_store_what_a_single_capture_stores(
    task: CaptureActivations, language_models: LanguageModels, tmp_path: Path, batch_size: int, n_parts: int
) -> None:
    single = changed(task, store_dir=str(tmp_path / "single"), batch_size=batch_size)
    expected = capture_activations(single, RecordingContext(), language_models)
    divided = changed(task, batch_size=batch_size, parts=n_parts)
    prepare_parts(divided, RecordingContext(), language_models)
    stored = list[int]()
    for part in reversed(range(n_parts)):
        context = RecordingContext()
        capture_part(divided, part, context, language_models)
        progress = [event for event in context.events if isinstance(event, Progress)]
        stored.append(progress[-1].completed if progress else 0)
        assert all(event.total == len(TEXTS) for event in progress)
    assert sum(stored) == len(TEXTS)
    assert not (directory_of(divided) / "manifest.json").exists(), "before all parts are there"
    context = RecordingContext()
    assert capture_activations(divided, context, language_models) == expected
    assert files(divided) == files(single)
    manifests = [read_manifest(directory_of(one) / "manifest.json") for one in (single, divided)]
    assert msgspec.structs.replace(manifests[0], created_at="") == msgspec.structs.replace(
        manifests[1], created_at=""
    )
    told = [event for event in context.events if isinstance(event, Progress)]
    assert told == [Progress(len(TEXTS), len(TEXTS))]
    assert not any(isinstance(event, Log) and "earlier attempt" in event.message for event in context.events)


def test_parts_share_the_work_evenly(task: CaptureActivations, language_models: LanguageModels) -> None:
    divided = changed(task, batch_size=4, parts=3)
    prepare_parts(divided, RecordingContext(), language_models)
    counts = list[int]()
    for part in range(3):
        capture_part(divided, part, RecordingContext(), language_models)
        partial = assemble(directory_of(divided))
        assert partial is not None
        counts.append(partial.sample_count - sum(counts))
    assert min(counts) > len(TEXTS) / 3 / 2


def test_what_one_part_has_stored_can_be_used_and_is_kept(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    divided = changed(task, batch_size=4, parts=3)
    prepare_parts(divided, RecordingContext(), language_models)
    capture_part(divided, 1, RecordingContext(), language_models)
    partial = assemble(directory_of(divided))
    assert partial is not None and not partial.complete and partial.batches[0].index > 0
    write_manifest(directory_of(divided) / "manifest.json", partial)
    store = ActivationStore(Path(divided.store_dir))
    store.check_batches(divided.run_id)
    tokens = sum(len(store.read_masked(divided.run_id, batch.index, LAYER)) for batch in partial.batches)
    assert tokens == partial.token_count
    kept = files(divided)

    context = RecordingContext()
    prepare_parts(changed(divided, attempt=2), context, language_models)
    n_planned = len(plan.batches) if (plan := read_plan(directory_of(divided))) else 0
    there = f"{len(partial.batches)} of {n_planned} batches are there."
    assert [event.message for event in context.events if isinstance(event, Log)] == [
        f"Going on where an earlier attempt ended: {there}"
    ]
    capture_activations(changed(divided, attempt=2), RecordingContext(), language_models)
    assert kept.items() <= files(divided).items()


def test_the_plan_says_how_many_tokens_go_through_the_model_together(
    task: CaptureActivations, language_models: LanguageModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = changed(task, store_dir=str(tmp_path / "single"), batch_size=4)
    capture_activations(single, RecordingContext(), language_models)
    divided = changed(task, batch_size=4, parts=2)
    prepare_parts(divided, RecordingContext(), language_models)
    plan = read_plan(directory_of(divided))
    assert plan is not None and plan.tokens_per_pass
    asked = list[int]()

    def joined_as_planned(batches: list[PlannedBatch], max_tokens: int) -> Iterator[list[int]]:
        asked.append(max_tokens)
        return joined(batches, max_tokens)

    # Another worker has another device, or other threads.
    monkeypatch.setattr(batch_capture, "tokens_per_pass", lambda device: 1)
    monkeypatch.setattr(batch_capture, "joined", joined_as_planned)
    assert list(joined(plan.batches, 1)) != list(joined(plan.batches, plan.tokens_per_pass))
    for part in range(2):
        capture_part(divided, part, RecordingContext(), language_models)
    capture_activations(divided, RecordingContext(), language_models)
    assert asked == 3 * [plan.tokens_per_pass] and files(divided) == files(single)


def test_a_plan_of_an_earlier_version_goes_by_the_device(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    prepare_parts(task, RecordingContext(), language_models)
    plan = read_plan(directory_of(task))
    assert plan is not None
    write_plan(directory_of(task), msgspec.structs.replace(plan, tokens_per_pass=None))
    assert capture_activations(task, RecordingContext(), language_models).sample_count == len(TEXTS)


def test_a_part_takes_no_more_than_its_share_of_the_disk(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    limited = changed(task, batch_size=4, parts=4, artifact_dir=task.store_dir)
    prepare_parts(limited, RecordingContext(), language_models)
    for part in range(4):
        limit = 40_000 + sum(path.stat().st_size for path in Path(task.store_dir).rglob("*.*"))
        with pytest.raises(TaskError, match="GQL_SERVER_MAX_ARTIFACT_BYTES"):
            capture_part(
                changed(limited, max_artifact_bytes=limit), part, RecordingContext(), language_models
            )
        there = sum(path.stat().st_size for path in Path(task.store_dir).rglob("*.safetensors"))
        assert there < (part + 1) * 11_000
