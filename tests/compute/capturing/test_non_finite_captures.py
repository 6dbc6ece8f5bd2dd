"""Captures of models that leave the range of their numbers, or of the stored ones, at a few tokens."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.artifacts.manifest import Manifest, read_manifest
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.classes import SaeClasses
from gql_server.compute.saes.loaded import Saes
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.training.training import train_sae
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import Log
from gql_server.protocol.sources import SaeSource
from gql_server.protocol.tasks import CaptureActivations, IndexNeurons
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.extreme_models import LAYER, WIDTH, make_overflow, source_of
from tests.support.training import training_task

GOOD = [f"A value is false, and number {n} is used for the end of a string." for n in range(40)]
BAD = "The value of a string is true."
TEXTS = [*GOOD[:3], BAD, *GOOD[3:]]
ROW = 3


@pytest.fixture(scope="module")
def overflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_overflow(tmp_path_factory.mktemp("overflow") / "lm")


def task_of(
    directory: Path, overflow: Path, texts: list[str], lm_dtype: str, **more: Any
) -> CaptureActivations:
    return capture_task(source_of(overflow, lm_dtype), directory, texts, layers=[LAYER], **more)


def captured(task: CaptureActivations) -> tuple[Manifest, list[str]]:
    """Capture; return the manifest and the log."""
    context = RecordingContext()
    capture_activations(task, context, LanguageModels(device="cpu"))
    logs = [event.message for event in context.events if isinstance(event, Log)]
    return read_manifest(ActivationStore(Path(task.store_dir)).manifest_path("run_a")), logs


def finite_by_hand(overflow: Path, texts: list[str], dtype: torch.dtype) -> list[list[bool]]:
    """Say of each token of each text whether block 0 of the bare model gives finite numbers."""
    lm = AutoModelForCausalLM.from_pretrained(overflow, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(overflow)
    outputs: list[torch.Tensor] = []
    lm.get_submodule("transformer.h.0").register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output)
    )
    with torch.no_grad():
        for text in texts:
            lm(torch.tensor([tokenizer(text, truncation=True, max_length=24)["input_ids"]]))
    return [(output[0] if output.ndim == 3 else output).isfinite().all(dim=-1).tolist() for output in outputs]


@pytest.mark.parametrize("stored", ["FLOAT16", "BFLOAT16", "FLOAT32"])
def test_a_few_tokens_that_a_model_in_float16_overflows_on_are_left_out_and_told(
    tmp_path: Path, overflow: Path, stored: str
) -> None:
    expected = finite_by_hand(overflow, TEXTS, torch.float16)
    bad = sum(row.count(False) for row in expected)
    assert bad > 0 and all(all(row) for number, row in enumerate(expected) if number != ROW)
    task = task_of(tmp_path, overflow, TEXTS, "FLOAT16", dtype=stored)
    manifest, logs = captured(task)
    assert manifest.token_count == sum(map(len, expected)) - bad
    assert manifest.non_finite_token_count == bad
    assert manifest.provenance is not None and manifest.provenance.non_finite_token_count == bad
    (note,) = [line for line in logs if "infinite" in line]
    assert f"{bad} token" in note and f"(counted from 0 in the dataset: {ROW})" in note and LAYER in note
    assert "computes in FLOAT16" in note and "BFLOAT16 or FLOAT32 (addLanguageModel)" in note
    store = ActivationStore(Path(task.store_dir))
    for batch in manifest.batches:
        assert store.read_masked("run_a", batch.index, LAYER).isfinite().all()
        for row, length, mask in zip(
            batch.rows, batch.lengths, store.read_mask("run_a", batch.index).tolist(), strict=True
        ):
            assert mask[:length] == expected[row]


@pytest.mark.parametrize("stored", ["FLOAT16", "BFLOAT16"])
def test_a_model_that_overflows_on_too_much_fails_with_its_own_precision_as_the_cause(
    tmp_path: Path, overflow: Path, stored: str
) -> None:
    task = task_of(tmp_path, overflow, [BAD, GOOD[0]], "FLOAT16", dtype=stored)
    with pytest.raises(TaskError) as caught:
        captured(task)
    assert "computes in FLOAT16" in caught.value.reason
    assert "dtype BFLOAT16 or FLOAT32 (addLanguageModel)" in caught.value.reason
    assert "capture with dtype" not in caught.value.reason
    with pytest.raises(TaskError, match="computes in FLOAT16"):
        captured(msgspec.structs.replace(task, attempt=2))


def test_values_that_only_the_stored_precision_cannot_hold_name_that_one(
    tmp_path: Path, overflow: Path
) -> None:
    task = task_of(tmp_path, overflow, [BAD], "FLOAT32", dtype="FLOAT16")
    with pytest.raises(TaskError) as caught:
        captured(task)
    assert (caught.value.code, caught.value.path) == ("INVALID", ["dtype"])
    assert "capture with dtype BFLOAT16 or FLOAT32" in caught.value.reason
    assert "addLanguageModel" not in caught.value.reason
    manifest, logs = captured(task_of(tmp_path / "few", overflow, TEXTS, "FLOAT32", dtype="FLOAT16"))
    assert manifest.non_finite_token_count == 1
    assert any("do not fit into FLOAT16" in line for line in logs)


@pytest.mark.parametrize("stored", ["BFLOAT16", "FLOAT32"])
def test_the_remedy_helps(tmp_path: Path, overflow: Path, stored: str) -> None:
    manifest, logs = captured(task_of(tmp_path, overflow, [BAD, GOOD[0]], "BFLOAT16", dtype=stored))
    assert manifest.non_finite_token_count == 0
    assert not any("infinite" in line for line in logs)


def test_texts_that_are_left_out_whole_cost_neither_training_nor_index(
    tmp_path: Path, overflow: Path
) -> None:
    task = task_of(tmp_path, overflow, TEXTS, "FLOAT16", batch_size=1)
    manifest, _ = captured(task)
    assert [batch.rows for batch in manifest.batches if batch.token_count == 0] == [[ROW]]
    store, directory = ActivationStore(Path(task.store_dir)), tmp_path / "sae"
    training = training_task(
        tmp_path,
        sae_class="BiasedTopKSae",
        store_dir=task.store_dir,
        layer=LAYER,
        n_latents=40,
        k=4,
        epochs=1,
        batch_size=64,
        seed=0,
        sae_dir=str(directory),
    )
    train_sae(training, RecordingContext(), SaeClasses())
    source = SaeSource("sae_1", "BiasedTopKSae", str(directory), LAYER, WIDTH, 40, 4)
    index = IndexNeurons(
        index_id="idx_a",
        sae=source,
        run_id="run_a",
        store_dir=task.store_dir,
        dataset_dir=task.dataset_dir,
        tokenizer_dir=task.language_model.copy_dir,
        top_texts_per_neuron=3,
        top_texts_path=str(tmp_path / "top.json"),
    )
    sae = Saes(SaeClasses()).get(source)
    result = index_neurons(index, RecordingContext(), sae, store, LanguageModels(device="cpu"))
    assert result.token_count == manifest.token_count
    tensors = store.get_run_batch("idx_a", 0)
    assert isinstance(tensors, dict) and ROW not in tensors["top_rows"].flatten().tolist()
