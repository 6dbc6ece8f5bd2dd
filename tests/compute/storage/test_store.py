"""A store whose batches are there whole or not at all."""

from pathlib import Path

import pytest
import torch

from gql_server.artifacts.files import TEMPORARY_PREFIX
from gql_server.artifacts.manifest import PlannedBatch
from gql_server.compute.storage.store import MASKS, ActivationStore

from mi_crow.store.local_store import LocalStore

LAYER = "model_layers_0"


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    return ActivationStore(tmp_path)


def put(store: LocalStore, activations: torch.Tensor, batch: int = 0) -> None:
    mask = torch.tensor([[False, True, True], [False, True, False]])
    tensors = {LAYER: {"activations": activations}, MASKS: {"attention_mask": mask, "input_ids": mask.long()}}
    store.put_detector_metadata("run_a", batch, {LAYER: {"activations_shape": (2, 3, 4)}}, tensors)


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_batch_is_stored_exactly_as_stock_mi_crow_stores_it(tmp_path: Path) -> None:
    activations = torch.arange(24.0).view(2, 3, 4)
    put(ActivationStore(tmp_path / "ours"), activations)
    put(LocalStore(tmp_path / "stock"), activations)
    assert files(tmp_path / "ours") == files(tmp_path / "stock")


def test_a_captured_batch_is_stored_exactly_as_stock_mi_crow_stores_it_beside_its_record(
    tmp_path: Path,
) -> None:
    mask = torch.tensor([[False, True, True], [False, True, False]])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        activations = torch.arange(24.0).view(2, 3, 4).to(dtype)
        tensors = {
            LAYER: {"activations": activations},
            MASKS: {"input_ids": mask.long(), "attention_mask": mask},
        }
        metadata = {LAYER: {"activations_shape": (2, 3, 4)}, MASKS: {"naïve": 1}}
        ours, stock = ActivationStore(tmp_path / f"ours-{dtype}"), LocalStore(tmp_path / f"stock-{dtype}")
        ours.put_batch("run_a", 0, PlannedBatch([5, 7], [3, 2]), metadata, tensors)
        stock.put_detector_metadata("run_a", 0, metadata, tensors)
        found = files(ours.base_path)
        assert b'"rows":[5,7]' in found.pop("runs/run_a/batch_0/batch.json")
        assert found == files(stock.base_path)


def test_the_masked_tokens_of_a_batch_are_read(store: ActivationStore) -> None:
    activations = torch.arange(24.0).view(2, 3, 4)
    put(store, activations)
    expected = torch.stack([activations[0, 1], activations[0, 2], activations[1, 1]])
    assert torch.equal(store.read_masked("run_a", 0, LAYER), expected)


def test_a_batch_that_fails_half_way_is_not_there(store: ActivationStore) -> None:
    with pytest.raises(OSError, match="Failed to save"):
        put(store, torch.eye(2).to_sparse())
    assert store.list_run_batches("run_a") == []
    assert not store.batch_directory("run_a", 0).exists()
    assert files(store.base_path) == {}


def test_a_batch_in_the_making_is_not_listed(store: ActivationStore) -> None:
    put(store, torch.zeros(2, 3, 4), batch=3)
    (store.run_directory("run_a") / f"{TEMPORARY_PREFIX}x" / LAYER).mkdir(parents=True)
    assert store.list_run_batches("run_a") == [3]


@pytest.mark.parametrize("tensors", [{"x": torch.ones(2)}, [torch.ones(2), torch.zeros(1)], []])
def test_a_batch_file_is_stored_exactly_as_stock_mi_crow_stores_it(
    tmp_path: Path, tensors: dict[str, torch.Tensor] | list[torch.Tensor]
) -> None:
    ours, stock = ActivationStore(tmp_path / "ours"), LocalStore(tmp_path / "stock")
    assert ours.put_run_batch("idx_a", 0, tensors) == stock.put_run_batch("idx_a", 0, tensors)
    assert files(tmp_path / "ours") == files(tmp_path / "stock")
    assert ours.index_path("idx_a").is_file()
    assert str(ours.get_run_batch("idx_a", 0)) == str(stock.get_run_batch("idx_a", 0))


def test_a_batch_file_that_fails_leaves_the_one_before(store: ActivationStore) -> None:
    store.put_run_batch("idx_a", 0, {"x": torch.ones(2)})
    with pytest.raises(ValueError, match="sparse"):
        store.put_run_batch("idx_a", 0, {"x": torch.eye(2).to_sparse()})
    assert list(files(store.base_path)) == ["runs/idx_a/batch_000000.safetensors"]
    assert str(store.get_run_batch("idx_a", 0)) == str({"x": torch.ones(2)})


@pytest.mark.parametrize("run_id", ["../outside", "a/b", "..", ".partial-x", "", "/tmp"])
def test_a_run_id_stays_inside_the_store(store: ActivationStore, run_id: str) -> None:
    for call in (store.list_run_batches, store.delete_run, store.manifest_path, store.get_run_metadata):
        with pytest.raises(ValueError, match="run_id"):
            call(run_id)
    with pytest.raises(ValueError, match="run_id"):
        store.put_run_batch(run_id, 0, {"x": torch.ones(1)})
    with pytest.raises(ValueError, match="run_id"):
        store.get_run_batch(run_id, 0)
    with pytest.raises(ValueError, match="run_id"):
        store.put_detector_metadata(run_id, 0, {}, {})


def test_a_deleted_run_is_gone_with_its_directory(store: ActivationStore) -> None:
    put(store, torch.zeros(2, 3, 4))
    store.delete_run("run_a")
    assert not store.run_directory("run_a").exists()
