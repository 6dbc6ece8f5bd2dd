"""What an index draws, correlates and maps, against dense NumPy and draws by hand."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from gql_server.artifacts.datasets import TextDataset, built_in_python_reference
from gql_server.artifacts.manifest import read_manifest
from gql_server.artifacts.search_words import SEARCH_FILE, SearchWriter, neurons_with, words
from gql_server.artifacts.top_texts import load_tokenizer, read_top_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.indexing import decoder_map as maps, firing_sample, silent_texts, text_groups
from gql_server.compute.indexing.correlations import correlated_neurons
from gql_server.compute.indexing.decoder_map import decoder_map, principal_components
from gql_server.compute.indexing.direct_effects import effect_histograms
from gql_server.compute.indexing.firing_sample import KeptFirings
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.saes.decoder_directions import similar_neurons
from gql_server.compute.storage.store import ActivationStore
from gql_server.protocol.events import Log, Stage
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import IndexNeurons
from gql_server.tokens.spans import text_of
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.sae_fixtures import LAYER, N_LATENTS, make_sae, sae_source

from mi_crow.mechanistic.sae.sae import Sae

Array = NDArray[Any]
MAX_LENGTH = 48
TEXTS = [*built_in_python_reference()[40:90], "", "naïve 😀 text", built_in_python_reference()[41]]


def sparse_sae(lm: Any) -> Sae:
    """Make an SAE whose neurons fire on few tokens, and one never."""
    sae = make_sae(lm, "BatchTopKSae")
    with torch.no_grad():
        sae.sae_engine.threshold.fill_(1.4)
        sae.sae_engine.encoder_bias[-1] = -1e6
    return sae


class Indexed:
    """An index, and all latents of its run: [n_tokens, n_latents] by row, 0 at special tokens."""

    def __init__(self, task: IndexNeurons, store: ActivationStore, lm: Any) -> None:
        self.task, self.directory = task, store.run_directory(task.index_id)
        self.tensors = load_file(store.index_path(task.index_id))
        sae, self.latents, self.counted = sparse_sae(lm), dict[int, Array](), dict[int, Array]()
        for batch in read_manifest(store.manifest_path("run_a")).batches:
            mask = store.read_mask("run_a", batch.index).numpy()
            activations = store.read_activations("run_a", batch.index, LAYER)
            with torch.no_grad():
                dense = sae.encode(activations.flatten(0, 1)).view(*mask.shape, -1).numpy() * mask[:, :, None]
            for place, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
                self.latents[row], self.counted[row] = dense[place, :length], mask[place, :length]

    def tokens(self, rows: list[int] | None = None) -> Array:
        """Return the latents on all tokens that count, of some texts or all, in float64."""
        some = sorted(self.latents) if rows is None else rows
        found: Array = np.concatenate([self.latents[row][self.counted[row]] for row in some])
        return found.astype(np.float64)


@pytest.fixture
def prepared(
    tiny_source: LanguageModelSource,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> IndexNeurons:
    """Capture a run, and have groups be small, so that what is kept is merged many times."""
    monkeypatch.setattr(text_groups, "MAX_GROUP_LATENTS", 3_000)
    monkeypatch.setattr(text_groups, "MAX_FIRINGS", 400)
    capture = capture_task(
        tiny_source, tmp_path, TEXTS, layers=[LAYER], batch_size=7, max_length=MAX_LENGTH, max_texts=1000
    )
    capture_activations(capture, recording_context, language_models)
    return IndexNeurons(
        index_id="idx_a",
        sae=msgspec.structs.replace(sae_source("BatchTopKSae"), layer=LAYER),
        run_id="run_a",
        store_dir=capture.store_dir,
        dataset_dir=capture.dataset_dir,
        tokenizer_dir=capture.language_model.copy_dir,
        top_texts_per_neuron=4,
        top_texts_path=str(tmp_path / "top_texts.json"),
        language_model=capture.language_model,
    )


def index(task: IndexNeurons, context: RecordingContext, language_models: LanguageModels) -> Indexed:
    assert task.language_model is not None
    store, lm = ActivationStore(Path(task.store_dir)), language_models.get(task.language_model)
    index_neurons(task, context, sparse_sae(lm), store, language_models)
    return Indexed(task, store, lm)


def mixed(key: int) -> int:
    """Return SplitMix64's output function of a key, the upper 40 bits."""
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB % 2**64
    return (key ^ (key >> 31)) >> 24


def draw_of_firing(row: int, token: int, neuron: int) -> int:
    return mixed(((row << 32 | token) + (neuron + 1) * 0x9E3779B97F4A7C15) % 2**64)


def draw_of_text(row: int) -> int:
    return mixed((row + 1) * 0x9E3779B97F4A7C15 % 2**64)


def check_examples(found: Indexed) -> None:
    """Compare each neuron's examples with the lowest draws of each range of its activations."""
    tensors, stop, ranges_seen = found.tensors, 0, set[int]()
    for neuron in range(N_LATENTS):
        limit = float(tensors["histogram_limit"][neuron])
        by_range: dict[int, list[tuple[int, int, int]]] = {}
        for row, latents in found.latents.items():
            for token in np.flatnonzero(latents[:, neuron]).tolist():
                place = int(float(latents[token, neuron]) / limit * 8)
                by_range.setdefault(place, []).append((draw_of_firing(row, token, neuron), row, token))
        expected = [(place, *one) for place in sorted(by_range) for one in sorted(by_range[place])[:5]]
        start, stop = stop, int(tensors["example_ends"][neuron])
        columns = ("example_ranges", "example_draws", "example_rows", "example_token_index")
        assert [tuple(int(tensors[name][at]) for name in columns) for at in range(start, stop)] == expected
        for at, (place, _, row, token) in zip(range(start, stop), expected, strict=True):
            ranges_seen.add(place)
            latents = found.latents[row][:, neuron]
            first, last = max(0, token - 16), min(len(latents), token + 17)
            assert (tensors["example_start"][at], tensors["example_length"][at]) == (first, last - first)
            window = tensors["example_activations"][at]
            np.testing.assert_allclose(window[: last - first], latents[first:last], rtol=1e-4, atol=1e-6)
            assert not window[last - first :].any()
            assert tensors["example_scores"][at] == pytest.approx(latents[token], rel=1e-4)
    assert stop == len(tensors["example_rows"]) and len(ranges_seen) >= 7


def check_correlations(tensors: dict[str, Array], tokens: Array) -> None:
    """Compare with Pearson correlations over tokens."""
    assert tensors["correlation_token_count"].tolist() == [len(tokens)]
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = np.corrcoef(tokens.T)
    rare = (tokens > 0).sum(axis=0) < 5
    correlations[rare] = correlations[:, rare] = np.nan
    np.fill_diagonal(correlations, np.nan)
    n_found = 0
    for neuron in range(N_LATENTS):
        expected = np.sort(correlations[neuron][correlations[neuron] > 0])[::-1]
        there = tensors["correlated_neurons"][neuron] >= 0
        assert there.sum() == len(expected) and not there[len(expected) :].any()
        n_found += len(expected)
        np.testing.assert_allclose(tensors["correlations"][neuron][there], expected, atol=1e-4)
        others = tensors["correlated_neurons"][neuron][there]
        assert len(set(others.tolist())) == len(others)
        np.testing.assert_allclose(correlations[neuron][others], expected, atol=1e-4)
    assert n_found > 10 * N_LATENTS


def check_drawn(found: Indexed, n_drawn: int) -> None:
    """Compare the drawn texts, and who fires on them."""
    tensors = found.tensors
    rows = sorted((row for row in found.latents if found.counted[row].any()), key=draw_of_text)[:n_drawn]
    assert tensors["drawn_rows"].tolist() == rows
    fired = np.unpackbits(tensors["drawn_fired"], axis=1, bitorder="little")
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(fired[:, place], found.latents[row].any(axis=0))
        token = draw_of_text(row) % len(found.latents[row])
        start, stop = max(0, token - 16), min(len(found.latents[row]), token + 17)
        assert tensors["drawn_token_index"][place] == token
        assert (tensors["drawn_start"][place], tensors["drawn_length"][place]) == (start, stop - start)
    assert not fired[:, len(rows) :].any()


def check_near_texts(found: Indexed, kept: set[int]) -> int:
    """Compare the silent texts of similar neurons; return how many there are."""
    tensors, count = found.tensors, 0
    for neuron in range(N_LATENTS):
        expected: list[tuple[int, int]] = []
        seen = set[int]()
        for some in (slice(0, 3), slice(3, 10)):
            for near in tensors["similar_neurons"][neuron][:10].tolist():
                for place in list(range(tensors["top_rows"].shape[1]))[some]:
                    row = int(tensors["top_rows"][near, place])
                    if row in kept and row not in seen and not found.latents[row][:, neuron].any():
                        expected.append((near, place))
                    seen.add(row)
        pairs = zip(tensors["near_text_neurons"][neuron], tensors["near_text_places"][neuron], strict=True)
        assert [(int(near), int(place)) for near, place in pairs if near >= 0] == expected[:5]
        count += len(expected[:5])
    return count


def test_examples_correlations_and_silent_texts_are_those_by_hand(
    prepared: IndexNeurons,
    recording_context: RecordingContext,
    language_models: LanguageModels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silent_texts, "N_TEXTS", 24)
    found = index(prepared, recording_context, language_models)
    check_examples(found)
    check_correlations(found.tensors, found.tokens())
    check_drawn(found, 24)
    assert check_near_texts(found, set(found.latents)) > 20
    stages = list(dict.fromkeys(event.name for event in recording_context.events if isinstance(event, Stage)))
    assert stages == [
        "counting equal stretches",
        "correlating neurons",
        "computing similar neurons",
        "mapping decoder directions",
        "loading the language model",
        "looking for the unembedding",
        "computing promoted tokens",
        "choosing silent texts",
        "writing the index",
        "reading top texts",
        "writing top texts",
        "writing words to search for",
    ]
    check_words(found)


def check_words(found: Indexed) -> None:
    """Compare what the search file finds with words of the texts that are shown."""
    path, task = found.directory / SEARCH_FILE, found.task
    dataset, tokenizer = TextDataset(Path(task.dataset_dir)), load_tokenizer(Path(task.tokenizer_dir))
    index_path = ActivationStore(Path(task.store_dir)).index_path("idx_a")
    token_texts = Tokenizer.from_file(str(Path(task.tokenizer_dir) / "tokenizer.json"))
    expected: dict[str, list[set[str]]] = {"top_texts": [], "promoted_tokens": []}
    for neuron in range(N_LATENTS):
        top = read_top_texts(index_path, neuron, 4, dataset, tokenizer, MAX_LENGTH)
        expected["top_texts"].append({word for text in top for word in words(text.text)})
        tokens = [token for token in found.tensors["promoted_tokens"][neuron].tolist() if token >= 0]
        expected["promoted_tokens"].append(
            {word for token in tokens for word in words(text_of(token_texts, token))}
        )
    for table, of_neurons in expected.items():
        all_words = sorted(set().union(*of_neurons))
        assert len(all_words) > 20
        for word in [*all_words[::5], "s", "ob", "nowhere"]:
            with_word = [
                neuron for neuron, mine in enumerate(of_neurons) if any(one.startswith(word) for one in mine)
            ]
            assert sorted(neurons_with(path, table, word)) == with_word


def test_of_too_many_firings_a_sample_of_texts_is_kept(
    prepared: IndexNeurons,
    recording_context: RecordingContext,
    language_models: LanguageModels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(firing_sample, "MAX_FIRINGS", 10_000)
    found = index(prepared, recording_context, language_models)
    check_examples(found)
    kept = [row for row in found.latents if draw_of_text(row) < 2**39]
    assert sum((found.latents[row] != 0).sum() for row in found.latents) > 10_000
    assert 2_000 < sum((found.latents[row] != 0).sum() for row in kept) <= 10_000
    check_correlations(found.tensors, found.tokens(kept))
    check_near_texts(found, set(kept))
    told = [event.message for event in recording_context.events if isinstance(event, Log)]
    assert any("told by" in message and "whole texts" in message for message in told)


@pytest.mark.parametrize("n_rows", [1, 7])
def test_histograms_of_effects_are_those_of_numpy(n_rows: int) -> None:
    effects = torch.randn(n_rows, 500, generator=torch.Generator().manual_seed(2)) * 3
    effects[0, :3] = torch.tensor([40.0, -40.0, 40.0])
    counts, limits = effect_histograms(effects)
    for row, values in enumerate(effects.double().numpy()):
        assert limits[row].tolist() == [values.min(), values.max()]
        expected = np.histogram(values, 64, (values.min(), values.max()))[0]
        # A value within rounding of an edge may be on either side.
        assert np.abs(np.cumsum(counts[row].numpy()) - np.cumsum(expected)).max() <= 1
        assert counts[row].sum() == 500


def test_neurons_that_fire_seldom_or_always_alike_correlate_with_none() -> None:
    """By chance, or by the rounding of a sum, such two could head each other's list."""
    rng, n_tokens = np.random.default_rng(0), 20_011
    latents = np.zeros((n_tokens, 6), np.float32)
    latents[:, 0], latents[:, 1] = 0.3, 0.37  # Always, with one value.
    latents[7, 2] = latents[7, 3] = 1.0  # Once, on the same token.
    latents[:, 4] = np.where(rng.random(n_tokens) < 0.01, rng.random(n_tokens), 0)
    latents[:, 5] = latents[:, 4] * 2
    rows, neurons = latents.nonzero()
    texts = np.zeros(n_tokens, np.int32)
    values = latents[rows, neurons]
    kept = KeptFirings(
        rows.astype(np.int32), neurons.astype(np.int32), values, texts, n_tokens, is_whole=True, below=2**40
    )
    found = correlated_neurons(kept, 6, lambda *_: None)
    assert found["correlated_neurons"][:, 0].tolist() == [-1, -1, -1, -1, 5, 4]
    assert found["correlations"][:, 0].tolist() == pytest.approx([0, 0, 0, 0, 1, 1])
    assert (found["correlated_neurons"][:, 1:] == -1).all()


def test_effects_too_close_for_bins_are_in_the_first() -> None:
    effects = torch.linspace(0, 1e-38, 1_000)[None]
    assert effect_histograms(effects)[0][0].tolist() == [1_000, *[0] * 63]


@pytest.mark.parametrize("value", [0.0, 2.0, 3e38])
def test_equal_effects_are_in_the_first_bin_and_large_ones_in_some(value: float) -> None:
    effects = torch.full((1, 10), value)
    assert effect_histograms(effects)[0][0].tolist() == [10, *[0] * 63]
    effects[0, 0] = -value
    assert effect_histograms(effects)[0][0, [0, -1]].tolist() == ([1, 9] if value else [10, 0])


def test_few_neurons_are_mapped_by_their_principal_components() -> None:
    directions = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    directions[3] = 0.0
    similar = similar_neurons(directions, lambda done, total: None)
    places = decoder_map(directions, similar, lambda done, total: None)["decoder_map"].numpy()
    assert np.isnan(places[3]).all()
    others = np.delete(directions.double().numpy(), 3, axis=0)
    units = others / np.linalg.norm(others, axis=1, keepdims=True)
    left, sizes, _ = np.linalg.svd(units - units.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(
        np.abs(np.delete(places, 3, axis=0)), np.abs(left[:, :2] * sizes[:2]), atol=1e-4
    )


def test_principal_components_of_points_on_a_line_have_a_second_coordinate_too() -> None:
    assert principal_components(torch.tensor([[1.0], [3.0]])).tolist() == [[-1.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize("few", [50, 10_000])
def test_on_the_map_like_directions_lie_together(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openTSNE")
    monkeypatch.setattr(maps, "_FEW", few)
    generator = torch.Generator().manual_seed(5)
    centers = torch.randn(4, 16, generator=generator)
    group = torch.arange(120) % 4
    directions = centers[group] + 0.2 * torch.randn(120, 16, generator=generator)
    directions[7] = 0.0
    told: list[int] = []
    similar = similar_neurons(directions, lambda done, total: None)
    places = decoder_map(directions, similar, lambda done, total: told.append(done))["decoder_map"].numpy()
    assert np.isnan(places[7]).all() and len(told) > 20 and told == sorted(told)
    there = np.flatnonzero(np.arange(120) != 7)
    distances = np.linalg.norm(places[there][:, None] - places[there][None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = group.numpy()[there][distances.argmin(axis=1)]
    assert (nearest == group.numpy()[there]).mean() > 0.95


def test_a_search_takes_operators_and_quotes_for_words(tmp_path: Path) -> None:
    path = tmp_path / SEARCH_FILE
    writer = SearchWriter(path)
    assert list(writer.add("top_texts", [(3, set(words("Élan or NOT"))), (5, {"near", "miss"})])) == [0]
    writer.close()
    assert neurons_with(path, "top_texts", "not").tolist() == [3]
    assert neurons_with(path, "top_texts", "él").tolist() == [3]
    assert neurons_with(path, "top_texts", "e").tolist() == []
    assert neurons_with(path, "top_texts", 'or" NOT "near').tolist() == []
    with pytest.raises(FileNotFoundError):
        neurons_with(tmp_path / "none", "top_texts", "x")
    (tmp_path / "bad").write_bytes(b"no database at all, but long enough to be taken for one" * 40)
    with pytest.raises(sqlite3.Error):
        neurons_with(tmp_path / "bad", "top_texts", "x")
