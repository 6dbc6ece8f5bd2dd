"""How a capture goes about its passes: what it computes, tokenizes and writes, and when."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.artifacts.manifest import BatchRecord, ManifestBatch, read_manifest, read_record
from gql_server.compute.capturing.batch_sizes import tokens_per_pass
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.model_files import DTYPES
from gql_server.compute.language_models.text_encoder import encoder_of, set_encoder
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Event, Progress
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations
from tests.compute.conftest import CanceledContext, RecordingContext, capture_task

from mi_crow.hooks.implementations.function_controller import FunctionController

SHALLOW = "llamaforcausallm_model_layers_0"
DEEP = "llamaforcausallm_model_layers_1"
SENTENCE = "An assignment evaluates the expression list and binds names to objects in turn . "
TEXTS = [" ".join((SENTENCE * 2).split()[n % 7 : n % 7 + n % 13]) for n in range(240)]
KEPT = [row for row, text in enumerate(TEXTS) if text]


@pytest.fixture
def task(tiny_source: LanguageModelSource, tmp_path: Path) -> CaptureActivations:
    return capture_task(tiny_source, tmp_path, TEXTS, layers=[DEEP, SHALLOW], max_texts=1000)


def changed(task: CaptureActivations, **changes: Any) -> CaptureActivations:
    return msgspec.structs.replace(task, **changes)


def store_of(task: CaptureActivations) -> ActivationStore:
    return ActivationStore(Path(task.store_dir))


def batches_of(task: CaptureActivations) -> list[ManifestBatch]:
    return read_manifest(store_of(task).manifest_path("run_a")).batches


def forward_by_hand(directory: Path, dtype: torch.dtype) -> Callable[[list[str]], list[torch.Tensor]]:
    """Return what gives each block's output for texts of one length, with nothing but transformers."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    outputs: list[torch.Tensor] = []
    for block in model.model.layers:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))

    def forward(texts: list[str]) -> list[torch.Tensor]:
        outputs.clear()
        with torch.no_grad():
            model(**tokenizer(texts, truncation=True, max_length=24, return_tensors="pt"))
        return list(outputs)

    return forward


@pytest.mark.parametrize("batch_size", [1, 3, 16, 100, 1000])
def test_batches_that_are_joined_or_cut_hold_what_a_plain_forward_pass_gives(
    task: CaptureActivations, language_models: LanguageModels, tiny_model_dir: Path, batch_size: int
) -> None:
    task = changed(task, batch_size=batch_size)
    result = capture_activations(task, RecordingContext(), language_models)
    assert result.batch_count == -(-len(KEPT) // batch_size)
    forward, store = forward_by_hand(tiny_model_dir, torch.float32), store_of(task)
    seen = []
    for batch in batches_of(task):
        shape = (len(batch.rows), max(batch.lengths))
        ids = store.read_input_ids("run_a", batch.index)
        assert ids.shape == store.read_mask("run_a", batch.index).shape == shape
        found = [store.read_activations("run_a", batch.index, layer) for layer in (SHALLOW, DEEP)]
        assert {of_layer.shape for of_layer in found} == {(*shape, 32)}
        for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            for of_layer, expected in zip(found, forward([TEXTS[row]]), strict=True):
                np.testing.assert_allclose(of_layer[place, :length], expected[0], atol=1e-5)
        seen += batch.rows
    assert sorted(seen) == KEPT


@pytest.mark.parametrize("dtype", ["BFLOAT16", "FLOAT16"])
def test_a_model_in_half_precision_is_stored_to_the_bit(
    tiny_source: LanguageModelSource, tmp_path: Path, tiny_model_dir: Path, dtype: str
) -> None:
    texts = ["the names to objects", "the names to objects", "the objects to names"]
    source = msgspec.structs.replace(tiny_source, id="lm_half", dtype=dtype)
    task = capture_task(source, tmp_path, texts, layers=[SHALLOW, DEEP], dtype=dtype)
    capture_activations(task, RecordingContext(), LanguageModels(device="cpu"))
    expected = forward_by_hand(tiny_model_dir, DTYPES[dtype])(texts)
    (batch,) = batches_of(task)
    assert batch.rows == [0, 1, 2]
    for layer, of_layer in zip((SHALLOW, DEEP), expected, strict=True):
        stored = store_of(task).read_activations("run_a", 0, layer)
        assert stored.dtype == of_layer.dtype == DTYPES[dtype]
        assert torch.equal(stored, of_layer)
    assert read_manifest(store_of(task).manifest_path("run_a")).language_model.dtype == dtype


class Passes:
    """What a block was called with."""

    def __init__(self, block: Any) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.caches: list[Any] = []
        block.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.shapes.append(tuple(inputs[0].shape[:2]))
        self.caches.append(options.get("past_key_values"))


def test_a_pass_ends_after_the_deepest_layer_and_keeps_no_cache(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    blocks = language_models.get(task.language_model).model.model.layers
    first, second = Passes(blocks[0]), Passes(blocks[1])
    capture_activations(changed(task, layers=[SHALLOW]), RecordingContext(), language_models)
    assert first.caches and not any(first.caches)
    assert not second.shapes
    assert len(first.shapes) > 2


@pytest.mark.parametrize("batch_size", [3, 1000])
def test_passes_are_of_about_one_size(
    task: CaptureActivations, language_models: LanguageModels, batch_size: int
) -> None:
    first = Passes(language_models.get(task.language_model).model.model.layers[0])
    capture_activations(changed(task, batch_size=batch_size), RecordingContext(), language_models)
    tokens = [n_texts * n_positions for n_texts, n_positions in first.shapes[1:]]
    limit = tokens_per_pass(torch.device("cpu"))
    assert max(tokens) <= limit
    assert sum(tokens) / len(tokens) > limit / 8


class CountingTokenizer:
    """Counts how often each text is tokenized."""

    def __init__(self, tokenizer: Any) -> None:
        self.texts: list[str] = []
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, texts: list[str], **options: Any) -> Any:
        """Tokenize."""
        self.texts += texts
        return self._tokenizer(texts, **options)


@pytest.fixture
def tokenizer(task: CaptureActivations, language_models: LanguageModels) -> Iterator[CountingTokenizer]:
    lm = language_models.get(task.language_model)
    encoder, counting = encoder_of(lm), CountingTokenizer(lm.tokenizer)
    set_encoder(lm, dataclasses.replace(encoder, tokenizer=counting))
    yield counting
    set_encoder(lm, encoder)


def test_each_text_is_tokenized_once(
    task: CaptureActivations, language_models: LanguageModels, tokenizer: CountingTokenizer
) -> None:
    capture_activations(task, RecordingContext(), language_models)
    assert tokenizer.texts == TEXTS


def test_where_a_capture_goes_on_only_the_missing_texts_are_tokenized(
    task: CaptureActivations, language_models: LanguageModels, tokenizer: CountingTokenizer
) -> None:
    task = changed(task, batch_size=90)  # Too many tokens for one pass of all.
    capture_activations(task, RecordingContext(), language_models)
    missing = batches_of(task)[1]
    (store_of(task).batch_directory("run_a", 1) / "batch.json").unlink()
    tokenizer.texts.clear()
    capture_activations(task, RecordingContext(), language_models)
    assert tokenizer.texts == [TEXTS[row] for row in missing.rows]


def test_batches_planned_by_another_tokenizer_are_not_mixed_with_this_ones(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    capture_activations(task, RecordingContext(), language_models)
    directory = store_of(task).run_directory("run_a")
    plan = msgspec.json.decode((directory / "plan.json").read_bytes())
    plan["batches"][1]["lengths"][0] += 1
    (directory / "plan.json").write_bytes(msgspec.json.encode(plan))
    with pytest.raises(TaskError, match="gives other tokens than when the capture was planned"):
        capture_activations(task, RecordingContext(), language_models)


class Careful(RecordingContext):
    """Looks, whenever progress is told, whether the batches told of are there to stay."""

    def __init__(self, store: ActivationStore, n_texts_of_batch: int) -> None:
        super().__init__()
        self._store, self._size = store, n_texts_of_batch

    def emit(self, event: Event) -> None:
        """Look."""
        super().emit(event)
        if isinstance(event, Progress):
            for index in range(-(-event.completed // self._size)):
                assert read_record(self._store.batch_directory("run_a", index)) is not None


def test_progress_is_told_of_batches_that_are_there_to_stay(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    context = Careful(store_of(task), 3)
    result = capture_activations(task, context, language_models)
    progress = [event.completed for event in context.events if isinstance(event, Progress)]
    assert progress == sorted(progress) and len(progress) == result.batch_count
    assert progress[-1] == len(KEPT)


class FullStore(ActivationStore):
    """A store on a disk that has room for one batch."""

    def put_batch(self, run_id: str, batch_index: int, *more: Any) -> BatchRecord:
        if batch_index > 0:
            raise OSError(28, "No space left on device")
        return super().put_batch(run_id, batch_index, *more)


def test_an_error_in_writing_ends_the_capture_with_what_was_written(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    context = RecordingContext()
    with pytest.raises(OSError, match="No space left"):
        capture_activations(task, context, language_models, FullStore(Path(task.store_dir)))
    assert store_of(task).list_run_batches("run_a") == [0]
    assert [event.completed for event in context.events if isinstance(event, Progress)] == [3]
    assert not language_models.get(task.language_model).layers.get_hooks()


def test_what_is_computed_already_is_written_when_the_task_is_canceled(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    expected = capture_activations(task, RecordingContext(), language_models)
    again = changed(task, store_dir=f"{task.store_dir}-again")
    with pytest.raises(CancelRequested):
        capture_activations(again, CanceledContext(1), language_models)
    stored = store_of(again).list_run_batches("run_a")
    assert 0 < len(stored) < expected.batch_count
    assert stored == list(range(len(stored)))


def test_what_others_steer_with_is_off_while_a_pass_is_captured(
    task: CaptureActivations, language_models: LanguageModels
) -> None:
    capture_activations(task, RecordingContext(), language_models)
    lm = language_models.get(task.language_model)
    controller = FunctionController(f"{SHALLOW}_mlp", lambda tensor: tensor * 0)
    lm.layers.register_hook(controller.layer_signature, controller)
    steered = changed(task, store_dir=f"{task.store_dir}-steered")
    capture_activations(steered, RecordingContext(), language_models)
    assert controller.enabled
    for index in range(3):
        stored = [store_of(one).read_activations("run_a", index, DEEP) for one in (task, steered)]
        assert torch.equal(*stored)
