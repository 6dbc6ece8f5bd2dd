"""Capturing activations, held against a plain forward pass by hand."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.artifacts.manifest import Manifest, read_manifest, read_record
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.downloading.hub_texts import download_texts
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.storage.texts import open_texts
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.sources import HubDataset, LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations
from tests.compute.conftest import CanceledContext, RecordingContext, capture_task

from mi_crow.hooks.implementations.function_controller import FunctionController
from mi_crow.hooks.implementations.layer_activation_detector import LayerActivationDetector
from mi_crow.store.local_store import LocalStore

SHALLOW = "llamaforcausallm_model_layers_0"
DEEP = "llamaforcausallm_model_layers_1"
MLP = "llamaforcausallm_model_layers_1_mlp"
TEXTS = [
    "The for statement is used to iterate over the elements of a sequence.",
    "Strings",
    "",
    "A short text.",
    "An assignment evaluates the expression list.",
    "It is used to iterate over the elements of a sequence such as a string, tuple or list, and more.",
    "x",
    "naïve 😀",
]
Array = NDArray[np.float32]
KEPT = [row for row, text in enumerate(TEXTS) if text]


@pytest.fixture
def task(tiny_source: LanguageModelSource, tmp_path: Path) -> CaptureActivations:
    return capture_task(tiny_source, tmp_path, TEXTS, layers=[DEEP, SHALLOW])


def changed(task: CaptureActivations, **changes: Any) -> CaptureActivations:
    return msgspec.structs.replace(task, **changes)


def manifest_of(task: CaptureActivations) -> Manifest:
    return read_manifest(Path(task.store_dir) / "runs" / task.run_id / "manifest.json")


def stored_by_text(task: CaptureActivations, layer: str) -> dict[int, Array]:
    """Read, with stock mi_crow, each dataset row's activations at its own tokens [n_tokens, n_inputs]."""
    store = LocalStore(task.store_dir)
    found = {}
    for batch in manifest_of(task).batches:
        _, tensors = store.get_detector_metadata(task.run_id, batch.index)
        for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            found[row] = tensors[layer]["activations"][place, :length].float().numpy()
    return found


def hidden_states_by_hand(directory: Path, text: str, max_length: int = 24) -> list[Array]:
    """Return what the embedding and each block but the last put out for one text without any padding."""
    model = AutoModelForCausalLM.from_pretrained(directory)
    ids = AutoTokenizer.from_pretrained(directory)(text, truncation=True, max_length=max_length)["input_ids"]
    outputs: list[Array] = []
    for block in model.model.layers:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output[0].numpy()))
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    return outputs


@pytest.mark.parametrize("layers", [[DEEP, SHALLOW], [SHALLOW, DEEP], [DEEP, SHALLOW, MLP, DEEP]])
def test_layers_in_any_order_are_stored_as_a_plain_forward_pass_gives_them(
    task: CaptureActivations,
    layers: list[str],
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tiny_model_dir: Path,
) -> None:
    task = changed(task, layers=layers)
    result = capture_activations(task, recording_context, language_models)
    assert [layer.name for layer in result.layers] == [
        layer for layer in (SHALLOW, MLP, DEEP) if layer in layers
    ]
    shallow, deep = stored_by_text(task, SHALLOW), stored_by_text(task, DEEP)
    assert sorted(deep) == KEPT
    for row in KEPT:
        expected = hidden_states_by_hand(tiny_model_dir, TEXTS[row])
        np.testing.assert_allclose(shallow[row], expected[0], atol=1e-5)
        np.testing.assert_allclose(deep[row], expected[1], atol=1e-5)


def test_the_mask_leaves_out_padding_and_special_tokens(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    result = capture_activations(task, recording_context, language_models)
    store = ActivationStore(Path(task.store_dir))
    tokenizer = language_models.get(task.language_model).tokenizer
    count = 0
    for batch in manifest_of(task).batches:
        mask, ids = store.read_mask(task.run_id, batch.index), store.read_input_ids(task.run_id, batch.index)
        assert mask.dtype == torch.bool
        for place, row in enumerate(batch.rows):
            expected = tokenizer(TEXTS[row], truncation=True, max_length=24, add_special_tokens=False)[
                "input_ids"
            ]
            expected = expected[:23]
            assert ids[place][mask[place]].tolist() == expected
            count += len(expected)
        masked = store.read_masked(task.run_id, batch.index, DEEP)
        assert masked.shape == (int(mask.sum()), 32)
    assert result.token_count == count


def test_the_manifest_tells_of_the_run(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    result = capture_activations(task, recording_context, language_models)
    manifest = json.loads((Path(task.store_dir) / "runs" / "run_a" / "manifest.json").read_text())
    assert manifest["format_version"] == 2 and manifest["complete"]
    assert manifest["run_id"] == "run_a"
    assert manifest["language_model"]["id"] == "lm_tiny"
    assert manifest["language_model"]["source_kind"] == "DIRECTORY"
    assert manifest["layers"] == [{"name": SHALLOW, "hidden_size": 32}, {"name": DEEP, "hidden_size": 32}]
    assert manifest["dataset"]["directory"] == "run_a"
    assert manifest["dataset"]["sample_count"] == result.dataset_sample_count == len(TEXTS)
    assert len(manifest["dataset"]["sha256"]) == 64
    assert manifest["special_token_ids"] == [0, 1, 2]
    assert manifest["sample_count"] == result.sample_count == len(KEPT)
    assert manifest["token_count"] == result.token_count
    assert sorted(row for batch in manifest["batches"] for row in batch["rows"]) == KEPT
    lengths = [length for batch in manifest["batches"] for length in batch["lengths"]]
    assert lengths == sorted(lengths, reverse=True)
    assert [len(batch["rows"]) for batch in manifest["batches"]] == [3, 3, 1]
    for batch in manifest["batches"]:
        assert batch["shape"] == [len(batch["rows"]), max(batch["lengths"])]
        files = (Path(task.store_dir) / "runs" / "run_a" / f"batch_{batch['index']}").rglob("*.*")
        sizes = [file.stat().st_size for file in files if file.name != "batch.json"]
        assert batch["byte_size"] == sum(sizes)
    assert (
        manifest["byte_size"] == result.byte_size == sum(batch["byte_size"] for batch in manifest["batches"])
    )
    assert set(manifest["versions"]) == {"mi-crow", "torch", "transformers"}


def test_progress_is_told_in_texts_and_the_log_has_the_figures(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    capture_activations(task, recording_context, language_models)
    progress = [event for event in recording_context.events if isinstance(event, Progress)]
    assert [(event.completed, event.total) for event in progress] == [(3, 7), (6, 7), (7, 7)]
    assert all(event.rate_per_second for event in progress)
    logs = [event.message for event in recording_context.events if isinstance(event, Log)]
    assert logs[0] == "Capturing 2 layers over 7 texts in 3 batches; 1 without a token left out."
    assert logs[-1].startswith("Stored ")


def test_only_the_selected_texts_are_captured(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    task = changed(task, sample_offset=1, sample_limit=3)
    result = capture_activations(task, recording_context, language_models)
    assert result.sample_count == 2
    assert sorted(stored_by_text(task, DEEP)) == [1, 3]


@pytest.mark.parametrize("change", [{"sample_offset": 2, "sample_limit": 1}, {"sample_offset": 50}])
def test_a_selection_without_a_token_is_invalid(
    task: CaptureActivations,
    change: dict[str, int],
    language_models: LanguageModels,
    recording_context: RecordingContext,
) -> None:
    with pytest.raises(TaskError) as raised:
        capture_activations(changed(task, **change), recording_context, language_models)
    assert (raised.value.code, raised.value.path) == ("INVALID", ["dataset"])


def test_more_tokens_than_the_model_takes_are_invalid(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    with pytest.raises(TaskError, match="takes 512 tokens at most") as raised:
        capture_activations(changed(task, max_length=513), recording_context, language_models)
    assert raised.value.path == ["maxLength"]


@pytest.mark.parametrize(("dtype", "expected"), [("FLOAT16", torch.float16), ("BFLOAT16", torch.bfloat16)])
def test_activations_are_stored_in_the_precision_asked_for(
    task: CaptureActivations,
    dtype: str,
    expected: torch.dtype,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tiny_model_dir: Path,
) -> None:
    task = changed(task, dtype=dtype)
    capture_activations(task, recording_context, language_models)
    stored = ActivationStore(Path(task.store_dir)).read_activations(task.run_id, 0, DEEP)
    assert stored.dtype == expected
    by_hand = torch.from_numpy(hidden_states_by_hand(tiny_model_dir, TEXTS[0])[1])
    np.testing.assert_allclose(
        stored_by_text(task, DEEP)[0], by_hand.to(expected).float(), rtol=1e-2, atol=1e-3
    )


def test_another_forward_pass_between_batches_changes_nothing(
    task: CaptureActivations,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tmp_path: Path,
) -> None:
    capture_activations(task, recording_context, language_models)
    lm = language_models.get(task.language_model)

    def interrupt() -> None:
        assert not lm.layers.get_hooks()
        controller = FunctionController(DEEP, lambda tensor: tensor * 0)
        lm.layers.register_hook(DEEP, controller)
        lm.tokenizer.padding_side = "left"
        lm.inference.execute_inference(["something else", "of another length altogether"])
        lm.layers.unregister_hook(controller)

    disturbed = changed(task, store_dir=str(tmp_path / "other"))
    recording_context.on_check = interrupt  # type: ignore[method-assign]
    capture_activations(disturbed, recording_context, language_models)
    for layer in (SHALLOW, DEEP):
        before, after = stored_by_text(task, layer), stored_by_text(disturbed, layer)
        assert all(np.array_equal(before[row], after[row]) for row in KEPT)


def test_what_others_have_on_the_model_is_neither_stored_nor_cleared(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    lm = language_models.get(task.language_model)
    same_layer, other_layer = LayerActivationDetector(DEEP), LayerActivationDetector(MLP)
    for detector in (same_layer, other_layer):
        lm.layers.register_hook(detector.layer_signature, detector)
    capture_activations(task, recording_context, language_models)
    assert lm.layers.get_hooks() == [same_layer, other_layer]
    assert same_layer.get_captured() is not None
    batch = Path(task.store_dir) / "runs" / "run_a" / "batch_0"
    names = sorted(str(file.relative_to(batch)) for file in batch.rglob("*") if file.is_file())
    assert names == [
        "attention_masks/attention_mask.safetensors",
        "attention_masks/input_ids.safetensors",
        "batch.json",
        f"{SHALLOW}/activations.safetensors",
        f"{DEEP}/activations.safetensors",
        "metadata.json",
    ]
    assert "attention_masks" not in lm.layers.get_layer_names()


def test_a_canceled_capture_leaves_whole_batches_and_goes_on_with_the_next(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    with pytest.raises(CancelRequested):
        capture_activations(task, CanceledContext(1), language_models)
    store = ActivationStore(Path(task.store_dir))
    stored = store.list_run_batches("run_a")
    assert stored and all(read_record(store.batch_directory("run_a", index)) for index in stored)
    assert not store.manifest_path("run_a").exists()
    assert not language_models.get(task.language_model).layers.get_hooks()
    first = Path(task.store_dir) / "runs" / "run_a" / "batch_0"
    written = first.stat().st_ino
    capture_activations(task, recording_context, language_models)
    assert first.stat().st_ino == written
    assert store.list_run_batches("run_a") == [0, 1, 2]
    assert len(manifest_of(task).batches) == 3


@dataclass
class HubBuilder:
    """What the datasets library gives for a dataset on the Hub; this one's file is here."""

    file: Path
    named: str = "hf://datasets/owner/texts@abc/train.jsonl"

    @property
    def config(self) -> Any:
        return SimpleNamespace(data_files={"train": [self.named]})

    def as_streaming_dataset(self, split: str) -> Any:
        return datasets.load_dataset(
            "json", data_files={"train": str(self.file)}, split=split, streaming=True
        )


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubBuilder:
    """Put a dataset where the Hub is asked for one."""
    lines = "".join(json.dumps({"body": text}) + "\n" for text in TEXTS)
    (tmp_path / "train.jsonl").write_text(lines)
    found = HubBuilder(tmp_path / "train.jsonl")

    def load(place: str, config: str | None, *, revision: str | None) -> HubBuilder:
        assert (config, revision) == (None, "v1")
        if place != "hf://datasets/owner/texts":
            raise FileNotFoundError(f"there is no {place}\nat all")
        return found

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    return found


@pytest.fixture
def hub(builder: HubBuilder) -> HubDataset:
    """Name that dataset."""
    return HubDataset("owner/texts", None, "train", "body", "v1")


def get_texts(task: CaptureActivations) -> None:
    """Get a capture's texts from the Hub, as the server does before the capture."""
    assert task.hub_dataset is not None
    wanted = None if task.sample_limit is None else task.sample_offset + task.sample_limit
    download_texts(task.hub_dataset, Path(task.dataset_dir), wanted, task.max_texts, lambda number: None)


def test_a_hub_dataset_is_kept_and_captured(
    task: CaptureActivations,
    hub: HubDataset,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tmp_path: Path,
) -> None:
    task = changed(task, hub_dataset=hub, dataset_dir=str(tmp_path / "datasets" / "hub"), sample_limit=4)
    get_texts(task)
    result = capture_activations(task, recording_context, language_models)
    assert result.dataset_sample_count == 4
    assert sorted(stored_by_text(task, DEEP)) == [0, 1, 3]


def test_bad_rows_of_a_hub_dataset_are_left_out_counted_and_told_of(
    task: CaptureActivations,
    hub: HubDataset,
    builder: HubBuilder,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tmp_path: Path,
) -> None:
    rows = [{"body": {"text": "one"}}, {"body": {"text": None}}, {"body": {"text": "three"}}, {"body": None}]
    builder.file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    hub = msgspec.structs.replace(hub, text_field="body.text")
    task = changed(task, hub_dataset=hub, dataset_dir=str(tmp_path / "datasets" / "hub"))
    with pytest.raises(TaskError, match=r"row 1 has null in 'body\.text' instead of a string") as raised:
        get_texts(task)
    assert raised.value.code == "INVALID"
    task = changed(task, hub_dataset=msgspec.structs.replace(hub, skip_bad_rows=True))
    get_texts(task)
    result = capture_activations(task, recording_context, language_models)
    assert (result.dataset_sample_count, result.sample_count, result.dataset_skipped_count) == (2, 2, 2)
    assert result.provenance is not None and result.provenance.dataset.skipped_row_count == 2
    sentence = "row 1 has null in 'body.text' instead of a string; row 3 has"
    logs = [event.message for event in recording_context.events if isinstance(event, Log)]
    assert [log for log in logs if log.startswith(f"Of the dataset 2 bad rows were left out: {sentence}")]
    # An attempt that goes on reads the note beside the texts.
    assert capture_activations(task, recording_context, language_models).dataset_skipped_count == 2


def test_a_hub_dataset_with_too_many_texts_is_invalid(
    task: CaptureActivations,
    hub: HubDataset,
    tmp_path: Path,
) -> None:
    directory = str(tmp_path / "datasets" / "hub")
    task = changed(task, hub_dataset=hub, dataset_dir=directory, max_texts=5)
    with pytest.raises(TaskError, match="more than the 5 texts") as raised:
        get_texts(task)
    assert (raised.value.code, raised.value.path) == ("INVALID", ["dataset"])
    assert not Path(directory).exists()
    get_texts(changed(task, sample_limit=5))
    assert len(open_texts(Path(directory))) == 5


@pytest.mark.parametrize("wrong", [{"repository": "owner/other"}, {"split": "test"}, {"text_field": "title"}])
def test_a_hub_dataset_that_cannot_be_had_is_told_in_a_sentence(
    task: CaptureActivations,
    hub: HubDataset,
    wrong: dict[str, str],
    tmp_path: Path,
) -> None:
    broken = msgspec.structs.replace(hub, **wrong)
    task = changed(task, hub_dataset=broken, dataset_dir=str(tmp_path / "datasets" / "hub"))
    with pytest.raises(TaskError) as raised:
        get_texts(task)
    assert raised.value.reason.endswith(".")
    assert "\n" not in raised.value.reason


@pytest.mark.parametrize(
    "repository",
    ["csv", "text", "json", "./owner", "../texts", "/etc", "owner/texts/data", "hf://datasets/a/b", "", "."],
)
def test_only_the_name_of_a_dataset_on_the_hub_is_taken(
    task: CaptureActivations,
    hub: HubDataset,
    repository: str,
    tmp_path: Path,
) -> None:
    wrong = msgspec.structs.replace(hub, repository=repository)
    task = changed(task, hub_dataset=wrong, dataset_dir=str(tmp_path / "datasets" / "hub"))
    with pytest.raises(TaskError, match="not the name of a dataset on the Hub") as raised:
        get_texts(task)
    assert (raised.value.code, raised.value.path) == ("INVALID", ["dataset", "huggingFace", "repository"])


def test_a_directory_here_is_not_read_for_a_name_on_the_hub(
    task: CaptureActivations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "owner" / "texts").mkdir(parents=True)
    (tmp_path / "owner" / "texts" / "train.jsonl").write_text('{"body": "a secret"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    here = HubDataset("owner/texts", None, "train", "body", None)
    task = changed(task, hub_dataset=here, dataset_dir=str(tmp_path / "datasets" / "hub"))
    with pytest.raises(TaskError, match="could not be had from the Hub") as raised:
        get_texts(task)
    assert raised.value.code == "CONFLICT"


@pytest.mark.parametrize("named", ["/etc/passwd", "zip://a.csv::/tmp/a.zip", "http://localhost/a.csv"])
def test_a_dataset_that_lists_files_off_the_hub_is_refused(
    task: CaptureActivations,
    hub: HubDataset,
    builder: HubBuilder,
    named: str,
    tmp_path: Path,
) -> None:
    builder.named = named
    task = changed(task, hub_dataset=hub, dataset_dir=str(tmp_path / "datasets" / "hub"))
    with pytest.raises(TaskError, match="lists files that are not on the Hub") as raised:
        get_texts(task)
    assert raised.value.code == "CONFLICT"


def test_a_max_length_that_leaves_no_token_but_special_ones_is_invalid(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    with pytest.raises(TaskError, match="maxLength must be higher") as raised:
        capture_activations(changed(task, max_length=1), recording_context, language_models)
    assert (raised.value.code, raised.value.path) == ("INVALID", ["maxLength"])
