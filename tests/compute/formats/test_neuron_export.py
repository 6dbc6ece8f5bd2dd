"""Neurons as JSON lines and Parquet: held against the index's own tensors and the model's tokenizer."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from gql_server.artifacts.datasets import TextDataset, built_in_python_reference
from gql_server.artifacts.top_texts import load_tokenizer, read_top_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.formats import neuron_export, neuron_records
from gql_server.compute.formats.sae_export import export_neurons
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import CancelRequested, TaskError
from gql_server.protocol.events import Log, Progress, Stage
from gql_server.protocol.sources import LanguageModelSource, NeuronName, NeuronsSource, SaeSource
from gql_server.protocol.tasks import ExportSae, IndexNeurons
from gql_server.tokens.spans import text_of
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.sae_fixtures import LAYER, N_LATENTS, K, make_sae

TOP_TEXTS = 4
NAMES = [
    NeuronName(3, "loops, “for” and while", 0.75, "by hand", "MANUAL"),
    NeuronName(17, "naïve 😀", None, None, "GENERATED"),
    NeuronName(N_LATENTS - 1, "the last", 0.0, None, "IMPORTED"),
]


@pytest.fixture(scope="module")
def task(tiny_source: LanguageModelSource, tmp_path_factory: pytest.TempPathFactory) -> ExportSae:
    """Index an SAE, and return what exports its neurons."""
    directory = tmp_path_factory.mktemp("neurons")
    texts = [*built_in_python_reference()[40:75], "naïve 😀 text and no more"]
    capture = capture_task(
        tiny_source, directory, texts, layers=[LAYER], dataset_kind="BUILT_IN", batch_size=8, max_length=64
    )
    models, store, context = LanguageModels(), ActivationStore(Path(capture.store_dir)), RecordingContext()
    capture_activations(capture, context, models, store)
    source = SaeSource("sae_a", "TopKSae", str(directory / "sae"), LAYER, 32, N_LATENTS, K)
    index = IndexNeurons(
        index_id="idx_a",
        sae=source,
        run_id=capture.run_id,
        store_dir=capture.store_dir,
        dataset_dir=capture.dataset_dir,
        tokenizer_dir=capture.language_model.copy_dir,
        top_texts_per_neuron=TOP_TEXTS,
        top_texts_path=str(directory / "top_texts.json"),
        language_model=capture.language_model,
    )
    index_neurons(index, context, make_sae(models.get(tiny_source)), store, models)
    neurons = NeuronsSource(
        index_path=str(store.run_directory("idx_a") / "batch_000000.safetensors"),
        top_texts_per_neuron=TOP_TEXTS,
        dataset_dir=capture.dataset_dir,
        tokenizer_dir=capture.language_model.copy_dir,
        begin_token_ids=None,
        max_length=64,
        names_path=str(directory / "neuronpedia.names"),
        source_name="0-my-sae",
    )
    metadata: dict[str, Any] = {"model_name": "tiny", "hook_name": "blocks.0.hook_resid_post"}
    return ExportSae(source, "NEURONPEDIA", str(directory / "x.zip"), metadata, neurons=neurons)


def exported(task: ExportSae, directory: Path, context: RecordingContext | None = None) -> Path:
    """Run an export, and unpack it."""
    assert task.neurons is not None
    path = directory / "exports" / "x.zip"
    names = Path(task.neurons.names_path)
    names.write_bytes(b"".join(msgspec.json.encode(name) + b"\n" for name in NAMES))
    export_neurons(msgspec.structs.replace(task, path=str(path)), context or RecordingContext())
    assert list(path.parent.iterdir()) == [path] and not names.exists()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(directory / "unpacked")
    return directory / "unpacked"


def lines(path: Path) -> list[dict[str, Any]]:
    """Read packed JSON lines."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def all_lines(directory: Path) -> list[dict[str, Any]]:
    """Read the JSON lines of all files, in their order."""
    paths = sorted(directory.iterdir(), key=lambda path: int(path.name.split("-")[1].split(".")[0]))
    return [one for path in paths for one in lines(path)]


def test_features_are_what_the_index_says(
    task: ExportSae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert task.neurons is not None
    monkeypatch.setattr(neuron_records, "NEURONS_AT_ONCE", 7)
    monkeypatch.setattr(neuron_export, "NEURONS_PER_FILE", 20)
    directory = exported(task, tmp_path)
    assert sorted(path.name for path in (directory / "features").iterdir()) == [
        f"batch-{number}.jsonl.gz" for number in range(3)
    ]
    features, index = all_lines(directory / "features"), load_file(task.neurons.index_path)
    tokenizer = Tokenizer.from_file(f"{task.neurons.tokenizer_dir}/tokenizer.json")
    assert [one["index"] for one in features] == [str(neuron) for neuron in range(N_LATENTS)]
    for neuron, one in enumerate(features):
        assert (one["modelId"], one["layer"]) == ("tiny", "0-my-sae")
        assert one["hookName"] == "blocks.0.hook_resid_post"
        assert one["frac_nonzero"] == pytest.approx(float(index["frequency"][neuron]), rel=1e-6)
        assert one["maxActApprox"] == pytest.approx(float(index["max_activation"][neuron]), rel=1e-6)
        counts, limit = index["histogram_counts"][neuron], float(index["histogram_limit"][neuron])
        assert one["freq_hist_data_bar_heights"] == counts.tolist()
        edges = np.linspace(0, limit, len(counts) + 1)
        np.testing.assert_allclose(one["freq_hist_data_bar_values"], (edges[:-1] + edges[1:]) / 2, rtol=1e-6)
        low, high = index["effect_limits"][neuron].astype(float)
        edges = np.linspace(low, high, index["effect_counts"].shape[1] + 1)
        np.testing.assert_allclose(
            one["logits_hist_data_bar_values"], (edges[:-1] + edges[1:]) / 2, atol=1e-6 * max(1, high - low)
        )
        assert one["logits_hist_data_bar_heights"] == index["effect_counts"][neuron].tolist()
        promoted = index["promoted_tokens"][neuron][:10].tolist()
        assert one["pos_str"] == [text_of(tokenizer, token) for token in promoted]
        assert one["neg_values"] == pytest.approx(index["suppressed_effects"][neuron][:10].tolist())
        assert len(one["pos_values"]) == len(one["neg_str"]) == 10
        similar = index["similar_neurons"][neuron]
        assert one["topkCosSimIndices"] == similar[similar >= 0].tolist()
        together = index["correlated_neurons"][neuron]
        assert one["correlated_features_indices"] == together[together >= 0].tolist()
        assert len(one["correlated_features_pearson"]) == (together >= 0).sum()


@pytest.mark.parametrize("characters_kept", [0, 1500, 4_000_000])
def test_activations_are_the_top_texts(
    characters_kept: int, task: ExportSae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuron_records, "_CHARACTERS_KEPT", characters_kept)
    monkeypatch.setattr(neuron_records, "_TEXTS_AT_ONCE", 3 * TOP_TEXTS)
    monkeypatch.setattr(neuron_records, "NEURONS_AT_ONCE", 10)
    assert task.neurons is not None and task.neurons.dataset_dir is not None
    activations = all_lines(exported(task, tmp_path) / "activations")
    of_index = (Path(task.neurons.index_path), TextDataset(Path(task.neurons.dataset_dir)))
    tokenizer = load_tokenizer(Path(task.neurons.tokenizer_dir))
    expected = [
        {
            "id": f"0-my-sae-{neuron}-{rank}",
            "modelId": "tiny",
            "layer": "0-my-sae",
            "index": str(neuron),
            "tokens": [token for token, _ in text.tokens],
            "values": [value for _, value in text.tokens],
            "maxValue": max(value for _, value in text.tokens),
            "maxValueTokenIndex": int(np.argmax([value for _, value in text.tokens])),
            "minValue": min(value for _, value in text.tokens),
            "qualifyingTokenIndex": text.peak_index,
            "dataIndex": str(text.row),
        }
        for neuron in range(N_LATENTS)
        for rank, text in enumerate(
            read_top_texts(of_index[0], neuron, TOP_TEXTS, of_index[1], tokenizer, 64)
        )
    ]
    assert len(expected) > N_LATENTS and activations == expected


def test_explanations_are_the_names(task: ExportSae, tmp_path: Path) -> None:
    (path,) = (exported(task, tmp_path) / "explanations").iterdir()
    assert lines(path) == [
        {
            "modelId": "tiny",
            "layer": "0-my-sae",
            "index": str(one.neuron),
            "description": one.name,
            "score": one.score,
            "notes": one.note,
            "source": one.source,
        }
        for one in NAMES
    ]


def test_an_sae_of_neuronpedias_keeps_its_names_there(task: ExportSae, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(
        json.dumps({"source": {"metadata": {"neuronpedia_id": "gpt2-small/6-res-jb"}}})
    )
    source = msgspec.structs.replace(task.sae, directory=str(tmp_path))
    directory = exported(msgspec.structs.replace(task, sae=source), tmp_path)
    first = all_lines(directory / "features")[0]
    assert (first["modelId"], first["layer"]) == ("gpt2-small", "6-res-jb")


def test_pandas_and_pyarrow_read_the_same(
    task: ExportSae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuron_export, "ROWS_PER_GROUP", 10)
    by_lines = exported(task, tmp_path / "a")
    by_rows = exported(msgspec.structs.replace(task, format="PARQUET"), tmp_path / "b")
    features = pd.read_json(by_lines / "features" / "batch-0.jsonl.gz", lines=True, dtype={"index": str})
    activations = pd.read_json(by_lines / "activations" / "batch-0.jsonl.gz", lines=True)
    names = pd.read_json(by_lines / "explanations" / "batch-0.jsonl.gz", lines=True)
    file = pq.ParquetFile(by_rows / "neurons.parquet")
    assert file.schema_arrow.equals(neuron_export.parquet_schema()) and file.num_row_groups == 5
    rows = file.read().to_pylist()
    assert [row["neuron"] for row in rows] == features["index"].astype(int).tolist() == [*range(N_LATENTS)]
    assert [row["frequency"] for row in rows] == pytest.approx(features["frac_nonzero"].tolist())
    assert [row["histogram_counts"] for row in rows] == features["freq_hist_data_bar_heights"].tolist()
    for row, tokens in zip(rows, features["pos_str"], strict=True):
        assert [one["token"] for one in row["promoted_tokens"]][:10] == tokens
        assert len(row["promoted_tokens"]) == 50
    texts = [text for row in rows for text in row["top_texts"]]
    assert [text["tokens"] for text in texts] == activations["tokens"].tolist()
    assert [text["peak_index"] for text in texts] == activations["maxValueTokenIndex"].tolist()
    named = [row for row in rows if row["name"] is not None]
    assert [row["name"] for row in named] == names["description"].tolist()
    assert [(row["neuron"], row["score"], row["note"], row["name_source"]) for row in named] == [
        (one.neuron, one.score, one.note, one.source) for one in NAMES
    ]
    assert all(field.metadata[b"description"] for field in file.schema_arrow)


@pytest.mark.parametrize("format", ["NEURONPEDIA", "PARQUET"])
def test_the_same_neurons_give_the_same_file_with_progress(
    format: Any, task: ExportSae, tmp_path: Path
) -> None:
    of_format, context = msgspec.structs.replace(task, format=format), RecordingContext()
    for name in ("a", "b"):
        exported(of_format, tmp_path / name, context)
    first, second = ((tmp_path / name / "exports" / "x.zip").read_bytes() for name in ("a", "b"))
    assert first == second
    stages = [event for event in context.events if isinstance(event, Stage)]
    assert stages[-1] == Stage("writing neurons", N_LATENTS - 1, N_LATENTS)
    progress = [event for event in context.events if isinstance(event, Progress)]
    assert progress[-1].completed == progress[-1].total != 0


def test_without_the_runs_texts_there_is_all_else(task: ExportSae, tmp_path: Path) -> None:
    assert task.neurons is not None
    context = RecordingContext()
    gone = msgspec.structs.replace(task.neurons, dataset_dir=None)
    directory = exported(msgspec.structs.replace(task, neurons=gone), tmp_path, context)
    assert all_lines(directory / "activations") == [] and len(all_lines(directory / "features")) == N_LATENTS
    assert any("without texts" in event.message for event in context.events if isinstance(event, Log))


def test_an_index_that_is_gone_is_told_of(task: ExportSae, tmp_path: Path) -> None:
    assert task.neurons is not None
    gone = msgspec.structs.replace(task.neurons, index_path=str(tmp_path / "none.safetensors"))
    with pytest.raises(TaskError, match="index is gone"):
        exported(msgspec.structs.replace(task, neurons=gone), tmp_path)


def test_a_cancellation_leaves_nothing(task: ExportSae, tmp_path: Path) -> None:
    context, seen = RecordingContext(), list[int]()

    def cancel() -> None:
        seen.append(1)
        if len(seen) > 5:
            raise CancelRequested

    context.on_check = cancel  # type: ignore[method-assign]
    with pytest.raises(CancelRequested):
        exported(task, tmp_path, context)
    assert list((tmp_path / "exports").iterdir()) == []


def test_a_histogram_that_is_not_finite_is_null_in_json(task: ExportSae, tmp_path: Path) -> None:
    assert task.neurons is not None
    from safetensors.torch import load_file as load, save_file

    tensors = load(task.neurons.index_path)
    tensors["max_activation"] = tensors["max_activation"].clone()
    tensors["max_activation"][2] = torch.inf
    save_file(tensors, tmp_path / "index.safetensors")
    source = msgspec.structs.replace(task.neurons, index_path=str(tmp_path / "index.safetensors"))
    directory = exported(msgspec.structs.replace(task, neurons=source), tmp_path)
    features = all_lines(directory / "features")
    assert features[2]["maxActApprox"] is None and features[3]["maxActApprox"] is not None
