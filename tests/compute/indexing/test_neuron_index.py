"""The neuron index, held against dense NumPy on the same activations."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from gql_server.artifacts.datasets import TextDataset, built_in_python_reference
from gql_server.artifacts.manifest import read_manifest
from gql_server.artifacts.top_texts import load_tokenizer, read_top_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.indexing import text_groups
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.indexing.statistics import N_BINS, Firings, StatisticsCounter
from gql_server.compute.indexing.strongest_texts import StrongestTexts, TextGroup
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.affine_saes import ReLUSae
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.results import IndexResult
from gql_server.protocol.sources import LanguageModelSource, SaeSource
from gql_server.protocol.tasks import CaptureActivations, IndexNeurons
from tests.compute.conftest import RecordingContext, capture_task

from mi_crow.mechanistic.sae.modules.l1_sae import L1Sae
from mi_crow.mechanistic.sae.modules.topk_sae import TopKSae
from mi_crow.mechanistic.sae.sae import Sae

LAYER = "llamaforcausallm_model_layers_0"
N_LATENTS = 48
Array = NDArray[Any]
TEXTS = [
    "",
    *built_in_python_reference()[40:75],
    "naïve 😀 text and no more",
    built_in_python_reference()[41],
]


@pytest.fixture
def capture(tiny_source: LanguageModelSource, tmp_path: Path) -> CaptureActivations:
    return capture_task(
        tiny_source,
        tmp_path,
        TEXTS,
        layers=[LAYER],
        dataset_kind="BUILT_IN",
        dataset_description="some paragraphs",
        batch_size=8,
        max_length=64,
    )


@pytest.fixture
def task(capture: CaptureActivations, tmp_path: Path) -> IndexNeurons:
    return IndexNeurons(
        index_id="idx_a",
        sae=SaeSource("sae_a", "TopKSae", "", LAYER, n_inputs=32, n_latents=N_LATENTS, k=5),
        run_id="run_a",
        store_dir=capture.store_dir,
        dataset_dir=capture.dataset_dir,
        tokenizer_dir=capture.language_model.copy_dir,
        top_texts_per_neuron=4,
        top_texts_path=str(tmp_path / "sae" / "top_texts" / "idx_a.json"),
        language_model=capture.language_model,
    )


def make_sae(sae_class: type[Sae]) -> Sae:
    torch.manual_seed(3)
    sae = sae_class(n_latents=N_LATENTS, n_inputs=32)
    if isinstance(sae, TopKSae):
        sae.sae_engine = sae._initialize_sae_engine(k=5)
    with torch.no_grad():
        # The last neurons never fire.
        sae.sae_engine.encoder.final_block[0].bias[-3:] = -1e6
    return sae


def index_again(task: IndexNeurons, context: RecordingContext) -> IndexResult:
    """Index with the SAE of the fixture below."""
    store = ActivationStore(Path(task.store_dir))
    return index_neurons(task, context, make_sae(TopKSae), store, LanguageModels(device="cpu"))


class ByHand:
    """All latents of a stored run, dense, in the dataset's order."""

    def __init__(self, store: ActivationStore, sae: Sae) -> None:
        manifest = read_manifest(store.manifest_path("run_a"))
        self.latents: dict[int, Array] = {}
        """By dataset row: [n_tokens as captured, n_latents], 0 at special tokens."""
        self.ids: dict[int, list[int]] = {}
        tokens = []
        for batch in manifest.batches:
            activations = store.read_activations("run_a", batch.index, LAYER)
            mask = store.read_mask("run_a", batch.index).numpy()
            with torch.no_grad():
                latents_here = sae.encode(activations.reshape(-1, 32)).reshape(*mask.shape, -1).numpy()
            latents_here = latents_here * mask[:, :, None]
            tokens.append(latents_here[mask])
            for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
                self.latents[row] = latents_here[place, :length]
                self.ids[row] = store.read_input_ids("run_a", batch.index)[place, :length].tolist()
        self.tokens = np.concatenate(tokens)

    def top(self, neuron: int, k: int) -> list[tuple[float, int, int]]:
        """Return score, row and token of the strongest texts, of equal stretches the first."""
        peaks = [
            (float(latents_here[:, neuron].max()), row, int(latents_here[:, neuron].argmax()))
            for row, latents_here in self.latents.items()
        ]
        fired = [peak for peak in peaks if peak[0] > 0]
        found: dict[tuple[int, ...], tuple[float, int, int]] = {}
        for peak in sorted(fired, key=lambda peak: (-peak[0], peak[1])):
            _, row, token = peak
            found.setdefault(tuple(self.ids[row][max(0, token - 16) : token + 17]), peak)
        return list(found.values())[:k]


def check_statistics(index: dict[str, Array], by_hand: ByHand) -> None:
    tokens = by_hand.tokens
    fired = tokens != 0
    np.testing.assert_array_equal(index["firing_count"], fired.sum(axis=0))
    np.testing.assert_allclose(index["frequency"], fired.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(index["max_activation"], tokens.max(axis=0), rtol=1e-5)
    mean = tokens.sum(axis=0, dtype=np.float64) / np.maximum(fired.sum(axis=0), 1)
    np.testing.assert_allclose(index["mean_activation"], mean, rtol=1e-5)
    for neuron in range(N_LATENTS):
        values = tokens[fired[:, neuron], neuron]
        limit = float(index["histogram_limit"][neuron])
        if not len(values):
            assert limit == 0
            assert index["histogram_counts"][neuron].sum() == 0
            continue
        assert limit / 2 <= values.max() < limit
        counts, _ = np.histogram(values, N_BINS, (0, limit))
        np.testing.assert_array_equal(index["histogram_counts"][neuron], counts)


def test_infinite_latents_are_a_conflict_and_leave_no_index(
    capture: CaptureActivations,
    task: IndexNeurons,
    language_models: LanguageModels,
    recording_context: RecordingContext,
) -> None:
    capture_activations(capture, recording_context, language_models)
    store, sae = ActivationStore(Path(task.store_dir)), make_sae(L1Sae)
    sae.id = "sae_a"
    with torch.no_grad():
        sae.sae_engine.encoder.final_block[0].weight[7].fill_(3e38)
    with pytest.raises(TaskError, match="SAE sae_a gives neurons' activations that are not fin") as caught:
        index_neurons(task, recording_context, sae, store, language_models)
    assert caught.value.code == "CONFLICT"
    assert not store.index_path("idx_a").exists()


def check_texts(index: dict[str, Array], by_hand: ByHand, k: int) -> None:
    for neuron in range(N_LATENTS):
        expected = by_hand.top(neuron, k)
        there = len(expected)
        np.testing.assert_array_equal(index["top_rows"][neuron, :there], [row for _, row, _ in expected])
        np.testing.assert_array_equal(
            index["top_token_index"][neuron, :there], [token for _, _, token in expected]
        )
        np.testing.assert_allclose(
            index["top_scores"][neuron, :there], [score for score, _, _ in expected], rtol=1e-5
        )
        assert (index["top_rows"][neuron, there:] == -1).all()
        for name in ("top_scores", "window_length", "window_activations"):
            assert not index[name][neuron, there:].any()
        for place, (_, row, token) in enumerate(expected):
            latents_here = by_hand.latents[row][:, neuron]
            start, stop = max(0, token - 16), min(len(latents_here), token + 17)
            assert index["window_start"][neuron, place] == start
            assert index["window_length"][neuron, place] == stop - start
            window = index["window_activations"][neuron, place]
            np.testing.assert_allclose(window[: stop - start], latents_here[start:stop], rtol=1e-4, atol=1e-6)
            assert not window[stop - start :].any()


@pytest.mark.parametrize("sae_class", [TopKSae, L1Sae])
@pytest.mark.parametrize(
    ("batch_size", "dense_latents"), [(1, 8_000_000), (8, 700), (16, 5_000), (64, 20_000)]
)
def test_the_index_is_what_dense_numpy_gives(
    capture: CaptureActivations,
    task: IndexNeurons,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    dense_latents: int,
    sae_class: type[Sae],
) -> None:
    monkeypatch.setattr(text_groups, "MAX_GROUP_LATENTS", dense_latents)
    monkeypatch.setattr(text_groups, "MAX_FIRINGS", dense_latents // 20)
    store, sae = ActivationStore(Path(task.store_dir)), make_sae(sae_class)
    capture_activations(
        msgspec.structs.replace(capture, batch_size=batch_size), recording_context, language_models
    )
    result = index_neurons(task, recording_context, sae, store, language_models)
    index, by_hand = load_file(store.index_path("idx_a")), ByHand(store, sae)
    check_statistics(index, by_hand)
    check_texts(index, by_hand, k=4)
    assert result.token_count == len(by_hand.tokens)
    assert result.sample_count == len(TEXTS) - 1
    check_result(result, by_hand)
    assert {name: str(tensor.dtype) for name, tensor in index.items() if tensor.dtype != np.float32} == {
        "firing_count": "int64",
        "histogram_counts": "int64",
        "histogram_limit": "float64",
        "top_rows": "int32",
        "top_token_index": "int32",
        "top_text_counts": "int32",
        "window_start": "int32",
        "window_length": "int32",
        "promoted_tokens": "int32",
        "suppressed_tokens": "int32",
        "similar_neurons": "int32",
        "example_ends": "int64",
        "example_ranges": "uint8",
        "example_draws": "int64",
        "example_rows": "int32",
        "example_token_index": "int32",
        "example_start": "int32",
        "example_length": "int32",
        "drawn_rows": "int32",
        "drawn_token_index": "int32",
        "drawn_start": "int32",
        "drawn_length": "int32",
        "drawn_fired": "uint8",
        "correlated_neurons": "int32",
        "correlation_token_count": "int64",
        "near_text_neurons": "int32",
        "near_text_places": "int32",
        "effect_counts": "int32",
    }


def check_result(result: IndexResult, by_hand: ByHand) -> None:
    counts = (by_hand.tokens != 0).sum(axis=0)
    assert result.dead_count == (counts == 0).sum() >= 3
    histogram = result.frequency_histogram
    assert len(histogram.edges) == len(histogram.counts) + 1 == 21
    assert sum(histogram.counts) == (counts > 0).sum()
    assert histogram.edges == sorted(histogram.edges)
    assert histogram.edges[0] == pytest.approx(-np.log10(len(by_hand.tokens)))
    assert histogram.edges[-1] == 0


@pytest.fixture
def indexed(
    capture: CaptureActivations,
    task: IndexNeurons,
    language_models: LanguageModels,
    recording_context: RecordingContext,
) -> ByHand:
    store, sae = ActivationStore(Path(task.store_dir)), make_sae(TopKSae)
    capture_activations(capture, recording_context, language_models)
    index_neurons(task, recording_context, sae, store, language_models)
    return ByHand(store, sae)


def test_the_top_texts_of_a_neuron_are_read_with_their_tokens(
    capture: CaptureActivations, task: IndexNeurons, indexed: ByHand, language_models: LanguageModels
) -> None:
    tokenizer = load_tokenizer(Path(task.tokenizer_dir))
    slow = language_models.get(capture.language_model).tokenizer
    dataset = TextDataset(Path(task.dataset_dir))
    path = ActivationStore(Path(task.store_dir)).index_path("idx_a")
    found = 0
    for neuron in range(N_LATENTS):
        top = read_top_texts(path, neuron, 3, dataset, tokenizer, 64)
        expected = indexed.top(neuron, 3)
        assert [text.token_index for text in top] == [token for _, _, token in expected]
        for text, (score, row, token) in zip(top, expected, strict=True):
            found += 1
            assert text.score == pytest.approx(score, rel=1e-5)
            assert text.text in TEXTS[row]
            ids = slow(TEXTS[row], truncation=True, max_length=64)["input_ids"]
            assert text.token == slow.decode([ids[token]]) or "\ufffd" in slow.decode([ids[token]])
            names = [name for name, _ in text.tokens]
            assert "".join(names).removeprefix("<bos>") == text.text
            assert max(value for _, value in text.tokens) == pytest.approx(score, rel=1e-5)
            assert text.token in text.text
    assert found > 60
    with pytest.raises(IndexError):
        read_top_texts(path, N_LATENTS, 3, dataset, tokenizer, 64)


def test_the_top_texts_file_says_the_same(task: IndexNeurons, indexed: ByHand) -> None:
    content = json.loads(Path(task.top_texts_path).read_text())
    assert [content[name] for name in ("sae_id", "index_id", "run_id", "layer")] == [
        "sae_a",
        "idx_a",
        "run_a",
        LAYER,
    ]
    assert [neuron["neuron"] for neuron in content["neurons"]] == list(range(N_LATENTS))
    index = load_file(ActivationStore(Path(task.store_dir)).index_path("idx_a"))
    path = ActivationStore(Path(task.store_dir)).index_path("idx_a")
    tokenizer, dataset = load_tokenizer(Path(task.tokenizer_dir)), TextDataset(Path(task.dataset_dir))
    for number, neuron in enumerate(content["neurons"]):
        top = read_top_texts(path, number, 4, dataset, tokenizer, 64)
        expected: list[dict[str, Any]] = [
            {
                "text": text.text,
                "score": text.score,
                "token": text.token,
                "token_index": text.token_index,
                "peak_index": text.peak_index,
                "text_count": text.text_count,
                "text_index": text.row,
                "piece_index": text.piece,
            }
            for text in top
        ]
        assert neuron["texts"] == expected
        assert neuron["dead"] == (index["firing_count"][number] == 0)
        assert neuron["frequency"] == pytest.approx(float(index["frequency"][number]))


def test_progress_is_told_in_tokens(
    indexed: ByHand, task: IndexNeurons, recording_context: RecordingContext
) -> None:
    count = len(indexed.tokens)
    last = [event for event in recording_context.events if isinstance(event, Progress)][-1]
    assert (last.completed, last.total) == (count, count)
    logs = [event.message for event in recording_context.events if isinstance(event, Log)]
    assert logs[-2] == f"Indexing 48 neurons over {count:,} tokens."
    assert logs[-1].startswith(f"Indexed 48 neurons over {count:,} tokens; ")


def test_the_index_tells_which_tokens_a_neuron_raises_and_which_neurons_are_like_it(
    capture: CaptureActivations, task: IndexNeurons, indexed: ByHand
) -> None:
    index = load_file(ActivationStore(Path(task.store_dir)).index_path("idx_a"))
    weights = load_file(Path(capture.language_model.location) / "model.safetensors")
    rows = make_sae(TopKSae).sae_engine.dictionary._weights.detach().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    effects = rows * weights["model.norm.weight"] @ weights["lm_head.weight"].T
    cosines = rows @ rows.T - 2 * np.eye(N_LATENTS)
    for neuron in range(N_LATENTS):  # The last three are dead.
        order = np.argsort(-effects[neuron])
        np.testing.assert_array_equal(index["promoted_tokens"][neuron], order[:50])
        np.testing.assert_allclose(index["promoted_effects"][neuron], effects[neuron][order[:50]], rtol=1e-4)
        np.testing.assert_array_equal(index["suppressed_tokens"][neuron], order[::-1][:50])
        np.testing.assert_allclose(
            index["suppressed_effects"][neuron], effects[neuron][order[::-1][:50]], rtol=1e-4
        )
        nearest = np.argsort(-cosines[neuron])[: N_LATENTS - 1]
        np.testing.assert_array_equal(index["similar_neurons"][neuron, : N_LATENTS - 1], nearest)
        assert index["similar_neurons"][neuron, N_LATENTS - 1 :].tolist() == [-1]


def test_a_language_model_that_cannot_be_loaded_leaves_the_index_without_tokens(
    indexed: ByHand, task: IndexNeurons, recording_context: RecordingContext, tmp_path: Path
) -> None:
    assert task.language_model is not None
    gone = msgspec.structs.replace(task.language_model, location=str(tmp_path / "nowhere"))
    result = index_again(msgspec.structs.replace(task, language_model=gone), recording_context)
    index = load_file(ActivationStore(Path(task.store_dir)).index_path("idx_a"))
    assert result.token_count == len(indexed.tokens)
    assert "promoted_tokens" not in index
    assert "similar_neurons" in index
    logs = [event.message for event in recording_context.events if isinstance(event, Log)]
    assert any("tokens are left out" in log and "nowhere" in log for log in logs)


def test_directions_too_long_for_effects_leave_the_index_without_tokens(
    indexed: ByHand, task: IndexNeurons, recording_context: RecordingContext
) -> None:
    torch.manual_seed(3)
    sae = ReLUSae(n_latents=N_LATENTS, n_inputs=32)
    with torch.no_grad():
        sae.sae_engine.decoder_weight.copy_(sae.sae_engine.decoder_weight.sign() * 3e38)
    store = ActivationStore(Path(task.store_dir))
    index_neurons(task, recording_context, sae, store, LanguageModels(device="cpu"))
    index = load_file(store.index_path("idx_a"))
    assert "promoted_tokens" not in index
    assert float(index["similar_cosines"][:, 0].min()) > 0.1
    logs = [event.message for event in recording_context.events if isinstance(event, Log)]
    assert any("tokens are left out" in log and "not finite" in log for log in logs)


def test_other_requests_may_run_at_each_check(
    indexed: ByHand, task: IndexNeurons, recording_context: RecordingContext
) -> None:
    def check() -> None:
        assert not torch.is_inference_mode_enabled()

    recording_context.on_check = check  # type: ignore[method-assign]
    index_again(task, recording_context)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"run_id": "run_b"}, "no manifest"),
        ({"tokenizer_dir": "/nowhere"}, "no tokenizer.json"),
        ({"sae": SaeSource("sae_a", "TopKSae", "", "elsewhere", 32, N_LATENTS, 5)}, "no layer 'elsewhere'"),
    ],
)
def test_what_does_not_belong_together_is_a_conflict(
    indexed: ByHand,
    task: IndexNeurons,
    recording_context: RecordingContext,
    change: dict[str, Any],
    sentence: str,
) -> None:
    broken = msgspec.structs.replace(task, **change)
    with pytest.raises(TaskError, match=sentence) as raised:
        index_again(broken, recording_context)
    assert raised.value.code == "CONFLICT"


def test_another_tokenizer_is_a_conflict(
    indexed: ByHand, task: IndexNeurons, recording_context: RecordingContext, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(Path(task.tokenizer_dir) / "tokenizer.json"))
    tokenizer.add_tokens(["the", "of"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    broken = msgspec.structs.replace(task, tokenizer_dir=str(tmp_path))
    with pytest.raises(TaskError, match="does not give the tokens"):
        index_again(broken, recording_context)


def test_the_histogram_of_the_largest_activations_has_a_limit_too() -> None:
    largest = float(np.finfo(np.float32).max)
    values = [largest, largest / 2, largest / 4, 1.0]
    statistics = StatisticsCounter(2, torch.device("cpu"))
    statistics.add(Firings(torch.arange(4), torch.zeros(4, dtype=torch.int64), torch.tensor(values)), 4)
    tensors = statistics.tensors()
    assert tensors["histogram_limit"].tolist() == [2.0**128, 0.0]
    expected, _ = np.histogram(values, N_BINS, (0, 2.0**128))
    assert tensors["histogram_counts"][0].tolist() == expected.tolist()
    assert float(tensors["mean_activation"][0]) == pytest.approx(np.mean(values))


VALUES = st.floats(2.0**-20, 2.0**40, width=32)


@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(st.lists(st.tuples(st.integers(0, 2), VALUES), max_size=20), min_size=1, max_size=6))
def test_histograms_do_not_depend_on_the_chunks(chunks: list[list[tuple[int, float]]]) -> None:
    statistics = StatisticsCounter(3, torch.device("cpu"))
    for chunk in chunks:
        neurons = torch.tensor([neuron for neuron, _ in chunk], dtype=torch.int64)
        values = torch.tensor([value for _, value in chunk], dtype=torch.float32)
        statistics.add(Firings(torch.arange(len(chunk)), neurons, values), len(chunk))
    tensors = statistics.tensors()
    for neuron in range(3):
        mine = np.array([value for chunk in chunks for one, value in chunk if one == neuron])
        assert tensors["firing_count"][neuron] == len(mine)
        limit = float(tensors["histogram_limit"][neuron])
        if len(mine):
            assert np.log2(limit) % 1 == 0
            assert limit / 2 <= mine.max() < limit
            counts, _ = np.histogram(mine, N_BINS, (0, limit))
            np.testing.assert_array_equal(tensors["histogram_counts"][neuron].numpy(), counts)


def test_statistics_are_counted_on_the_cpu_where_the_device_has_no_float64() -> None:
    statistics = StatisticsCounter(3, torch.device("mps"))
    neurons, values = torch.tensor([0, 2, 2]), torch.tensor([1.0, 2.0, 4.0])
    statistics.add(Firings(torch.arange(3), neurons, values), 8)
    tensors = statistics.tensors()
    assert tensors["mean_activation"].tolist() == [1.0, 0.0, 3.0]
    assert tensors["frequency"].tolist() == [0.125, 0.0, 0.25]


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(6)), sizes=st.sampled_from([[6], [1, 5], [2, 2, 2], [1] * 6]))
def test_of_equally_strong_texts_the_first_in_the_dataset_wins(order: list[int], sizes: list[int]) -> None:
    strengths = {0: 1.0, 1: 2.0, 2: 2.0, 3: 1.0, 4: 2.0, 5: 3.0}
    strongest, done = StrongestTexts(1, 3, torch.device("cpu")), 0
    for size in sizes:
        rows = order[done : done + size]
        done += size
        # Two tokens of each text are equally strong.
        positions = torch.tensor([place * 4 + token for place in range(size) for token in (1, 3)])
        values = torch.tensor([strengths[row] for row in rows for _ in range(2)])
        firings = Firings(positions, torch.zeros(2 * size, dtype=torch.int64), values)
        stretches = torch.tensor([row * 4 + token for row in rows for token in range(4)])
        group = TextGroup(
            torch.tensor(rows),
            torch.full((size,), 4),
            n_positions=4,
            stretches=stretches,
            token_counts=torch.full((size,), 4),
        )
        strongest.add(firings, group)
    tensors = strongest.tensors()
    assert tensors["top_numbers"].tolist() == [[5, 1, 2]]
    assert tensors["top_token_index"].tolist() == [[1, 1, 1]]
    assert tensors["window_activations"][0, :, :5].tolist() == [
        [0.0, 3.0, 0.0, 3.0, 0.0],
        [0.0, 2.0, 0.0, 2.0, 0.0],
        [0.0, 2.0, 0.0, 2.0, 0.0],
    ]


@settings(max_examples=100, deadline=None)
@given(
    strengths=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=24),
    cuts=st.sets(st.integers(1, 23)),
    k=st.integers(1, 5),
)
def test_of_equal_stretches_the_strongest_text_is_kept_whatever_the_groups(
    strengths: list[tuple[int, int]], cuts: set[int], k: int
) -> None:
    """Each text has one token: how strongly the neuron fires on it, and which stretch it has."""
    strongest = StrongestTexts(1, k, torch.device("cpu"))
    bounds = [0, *sorted(cut for cut in cuts if cut < len(strengths)), len(strengths)]
    for start, stop in pairwise(bounds):
        some = strengths[start:stop]
        firing = [place for place, (strength, _) in enumerate(some) if strength]
        values = torch.tensor([float(some[place][0]) for place in firing])
        firings = Firings(
            torch.tensor(firing, dtype=torch.int64), torch.zeros(len(firing), dtype=torch.int64), values
        )
        stretches = torch.tensor([stretch for _, stretch in some])
        group = TextGroup(
            torch.arange(start, stop),
            torch.ones(stop - start, dtype=torch.int64),
            1,
            stretches,
            torch.ones(stop - start, dtype=torch.int64),
        )
        strongest.add(firings, group)
    best: dict[int, tuple[int, int]] = {}
    for row, (strength, stretch) in enumerate(strengths):
        if strength and (stretch not in best or strength > -best[stretch][0]):
            best[stretch] = (-strength, row)
    expected = sorted(best.values())[:k]
    tensors = strongest.tensors()
    empty = k - len(expected)
    assert tensors["top_numbers"].tolist() == [[row for _, row in expected] + empty * [-1]]
    assert tensors["top_scores"].tolist() == [[-strength for strength, _ in expected] + empty * [0.0]]
    assert tensors["window_activations"][0, :, 0].tolist() == tensors["top_scores"].tolist()[0]


def test_a_tokenizer_is_loaded_once_until_it_is_written_anew(task: IndexNeurons, tmp_path: Path) -> None:
    content = (Path(task.tokenizer_dir) / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(content)
    loaded = load_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path)._shared is loaded._shared
    other = Tokenizer.from_buffer(content)
    other.add_tokens(["wholly"])
    other.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path)._shared is not loaded._shared
    assert len(load_tokenizer(tmp_path).tokenize(["wholly"], 8)[0].ids) < len(
        loaded.tokenize(["wholly"], 8)[0].ids
    )


def test_threads_that_share_a_tokenizer_get_texts_cut_at_their_own_lengths(task: IndexNeurons) -> None:
    tokenizer = load_tokenizer(Path(task.tokenizer_dir))
    lengths = [2, 5, 9] * 40

    def cut(length: int) -> int:
        return max(
            len(text.ids)
            for text in tokenizer.tokenize(["many words follow each other here, so many"] * 8, length)
        )

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(cut, lengths)) == lengths
