"""What the API shows of an index by hand: examples, silent texts, correlations, columns and densities."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from gql_server import ids
from gql_server.artifacts.datasets import write_texts
from gql_server.services import artifacts, neuron_tensors
from gql_server.services.app_context import AppContext
from models import ActivationRun, NeuronIndex, Sae
from models.enums import ArtifactStatus
from tests.api.asking import ask, counted_statements, execute, first_error
from tests.support.artifact_files import write_tokenizer
from tests.support.serving import add_language_model, add_run, add_sae

TEXTS = ["The cat sat on the mat.", "A dog ran over the hill.", "Nothing to see here, at all."]
OLD_FIELDS = """exampleGroups { share } silentTexts { text } similarNeuronTexts { text { text } }
    correlatedNeurons { correlation } logitHistogram { counts }"""
N = 4
COUNTS = np.zeros((N, 32), np.int64)
COUNTS[0, [0, 3, 5, 17, 22]] = [2, 3, 1, 4, 10]
COUNTS[2, 31] = 7


@pytest.fixture
async def indexed(server: AppContext, tiny_model_dir: Path) -> Sae:
    """Insert an SAE of four neurons with an index by hand: neuron 1 is dead."""
    lm = await add_language_model(server)
    run = await add_run(server, lm)
    sae = await add_sae(server, run, latent_count=N)
    write_tokenizer(server, lm.id, tiny_model_dir)
    write_texts(artifacts.dataset_directory(server.settings, run.id), TEXTS)
    save_file(tensors(), await add_index(server, sae, run))
    return sae


async def add_index(server: AppContext, sae: Sae, run: ActivationRun) -> Path:
    index = NeuronIndex(
        id=ids.new(ids.NEURON_INDEX),
        sae_id=sae.id,
        status=ArtifactStatus.READY,
        activation_run_id=run.id,
        top_texts_per_neuron=2,
    )
    async with server.database.write() as session:
        session.add(index)
    path = neuron_tensors.path_of(server.settings, index.id)
    path.parent.mkdir(parents=True)
    return path


def statistics() -> dict[str, Any]:
    return {
        "firing_count": COUNTS.sum(axis=1),
        "frequency": np.array([0.2, 0, 0.07, 0.1], np.float32),
        "max_activation": np.array([5.75, 0, 31.5, 100], np.float32),
        "mean_activation": np.array([3, 0, 31, 10], np.float32),
        "histogram_counts": COUNTS,
        "histogram_limit": np.array([8.0, 0, 32, 128]),
        "top_rows": np.array([[0, 1], [-1, -1], [1, 2], [2, -1]], np.int32),
        "top_scores": np.ones((N, 2), np.float32),
        "top_token_index": np.full((N, 2), 2, np.int32),
        "window_start": np.zeros((N, 2), np.int32),
        "window_length": np.full((N, 2), 5, np.int32),
        "window_activations": np.tile(np.array([0, 0.5, 1, 0.25, 0], np.float32), (N, 2, 1)),
    }


def tensors() -> dict[str, Any]:
    """Return an index: neuron 0 has examples in ranges 0, 1, 4 and 5, neuron 2 in the last one."""
    ranges = np.array([0, 0, 0, 1, 4, 5, 5, 7], np.uint8)
    n_examples = len(ranges)
    return statistics() | {
        "example_ends": np.array([7, 7, 8, 8]),
        "example_ranges": ranges,
        "example_draws": np.array([5, 6, 9, 7, 3, 1, 2, 4]),
        "example_rows": np.array([0, 1, 2, 0, 1, 2, 0, 1], np.int32),
        "example_scores": np.array([0.1, 0.2, 0.3, 1.5, 4.5, 5.5, 5.75, 31.5], np.float32),
        "example_token_index": np.full(n_examples, 1, np.int32),
        "example_start": np.zeros(n_examples, np.int32),
        "example_length": np.full(n_examples, 3, np.int32),
        "example_activations": np.arange(n_examples * 33, dtype=np.float32).reshape(n_examples, 33),
        "drawn_rows": np.array([2, 0, 1], np.int32),
        "drawn_token_index": np.array([3, 1, 0], np.int32),
        "drawn_start": np.array([0, 0, 0], np.int32),
        "drawn_length": np.array([5, 3, 4], np.int32),
        "drawn_fired": np.array([[0b010], [0b000], [0b111], [0b101]], np.uint8),
        "near_text_neurons": np.array([[2, 3], [-1, -1], [-1, -1], [0, -1]], np.int32),
        "near_text_places": np.array([[1, 0], [-1, -1], [-1, -1], [0, -1]], np.int32),
        "correlated_neurons": np.array([[3, 2], [-1, -1], [0, -1], [0, -1]], np.int32),
        "correlations": np.array([[0.5, 0.25], [0, 0], [0.25, 0], [0.5, 0]], np.float32),
        "effect_counts": np.tile(np.arange(64, dtype=np.int32), (N, 1)),
        "effect_limits": np.tile(np.array([-1, 3], np.float32), (N, 1)),
        "decoder_map": np.array([[0, 1], [2, 3], [np.nan, np.nan], [0.5, 3]], np.float32),
    }


async def neuron(server: AppContext, sae: Sae, index: int, selection: str) -> Any:
    query = f"query ($id: ID!, $n: Int!) {{ sae(id: $id) {{ neuron(index: $n) {{ {selection} }} }} }}"
    return (await ask(server, query, id=sae.id, n=index))["sae"]["neuron"]


@pytest.mark.parametrize(
    ("bins", "per_bin", "expected"),
    [
        # Edges at 0, 2, 4 and 6 eighths of 8; the last is the maximum.
        (3, 5, [(0, 2, 6, [1.5, 0.3, 0.2, 0.1]), (2, 4, 0, []), (4, 5.75, 14, [5.75, 5.5, 4.5])]),
        # The lowest draws of what is together.
        (3, 2, [(0, 2, 6, [0.2, 0.1]), (2, 4, 0, []), (4, 5.75, 14, [5.75, 5.5])]),
        (1, 1, [(0, 5.75, 20, [5.5])]),
        (
            8,
            1,
            [
                (0, 1, 5, [0.1]),
                (1, 2, 1, [1.5]),
                (2, 3, 0, []),
                (3, 4, 0, []),
                (4, 5, 4, [4.5]),
                (5, 5.75, 10, [5.5]),
            ],
        ),
    ],
)
async def test_examples_are_in_ranges_with_exact_shares(
    server: AppContext, indexed: Sae, bins: int, per_bin: int, expected: list[tuple[float, ...]]
) -> None:
    asked = f"exampleGroups(bins: {bins}, perBin: {per_bin}) {{ from to share texts {{ score }} }}"
    groups = (await neuron(server, indexed, 0, asked))["exampleGroups"]
    found = [
        (group["from"], group["to"], group["share"] * 20, [text["score"] for text in group["texts"]])
        for group in groups
    ]
    assert len(found) == len(expected)
    for shown, (begin, end, count, scores) in zip(found, expected, strict=True):
        assert shown[:2] == (begin, end)
        assert shown[2] == pytest.approx(count)
        assert shown[3] == pytest.approx(scores)


async def test_an_example_is_shown_with_its_tokens_and_a_dead_neuron_has_none(
    server: AppContext, indexed: Sae, tiny_model_dir: Path
) -> None:
    asked = """exampleGroups(bins: 1, perBin: 1) { texts {
      text token tokenIndex peakIndex textIndex tokens { token activation } tokenTexts activations } }"""
    (group,) = (await neuron(server, indexed, 2, asked))["exampleGroups"]
    (text,) = group["texts"]
    encoding = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json")).encode(TEXTS[1])
    assert (text["tokenIndex"], text["peakIndex"], text["textIndex"]) == (1, 1, 1)
    begin, end = encoding.offsets[1]
    assert text["token"] == TEXTS[1][begin:end]
    assert text["activations"] == [7 * 33, 7 * 33 + 1, 7 * 33 + 2]
    assert [token["activation"] for token in text["tokens"]] == text["activations"]
    assert [token["token"] for token in text["tokens"]] == text["tokenTexts"]
    assert TEXTS[1].startswith(text["text"])
    assert (await neuron(server, indexed, 1, asked))["exampleGroups"] == []


@pytest.mark.parametrize(("index", "rows"), [(0, [2, 1]), (1, [0, 1, 2]), (2, []), (3, [0])])
async def test_silent_texts_are_those_drawn_on_which_it_does_not_fire(
    server: AppContext, indexed: Sae, index: int, rows: list[int]
) -> None:
    asked = "silentTexts(first: 20) { textIndex score activations tokenIndex }"
    found = (await neuron(server, indexed, index, asked))["silentTexts"]
    assert [text["textIndex"] for text in found] == rows
    assert all(text["score"] == 0 and not any(text["activations"]) for text in found)
    assert {text["textIndex"]: text["tokenIndex"] for text in found}.items() <= {2: 3, 0: 1, 1: 0}.items()


async def test_texts_of_similar_neurons_are_shown_with_these_ones_activations(
    server: AppContext, indexed: Sae
) -> None:
    asked = "similarNeuronTexts { neuron { index } text { textIndex activations } }"
    assert (await neuron(server, indexed, 0, asked))["similarNeuronTexts"] == [
        {"neuron": {"index": near}, "text": {"textIndex": 2, "activations": [0, 0.5, 1, 0.25, 0]}}
        for near in (2, 3)
    ]
    assert (await neuron(server, indexed, 2, asked))["similarNeuronTexts"] == []


async def test_the_context_of_top_texts_can_be_narrower(server: AppContext, indexed: Sae) -> None:
    asked = "topTexts(contextTokens: 1) { text score tokenIndex peakIndex tokenTexts activations }"
    text = (await neuron(server, indexed, 0, asked))["topTexts"][0]
    assert (text["tokenIndex"], text["peakIndex"]) == (2, 1)
    assert text["activations"] == [0.5, 1, 0.25]
    assert text["text"] == "".join(text["tokenTexts"]) and text["text"] in TEXTS[0]


@pytest.mark.parametrize("around", [3, 16, 17, 20, 256])
async def test_the_context_of_top_texts_can_be_wider_than_their_activations(
    server: AppContext, tiny_model_dir: Path, around: int
) -> None:
    lm = await add_language_model(server)
    max_length, peak, whole = 45, 20, " ".join(TEXTS * 9)
    run = await add_run(server, lm, max_length=max_length)
    sae = await add_sae(server, run, latent_count=N)
    write_tokenizer(server, lm.id, tiny_model_dir)
    write_texts(artifacts.dataset_directory(server.settings, run.id), [whole])
    window = np.arange(33, dtype=np.float32)
    stored = statistics() | {
        "top_rows": np.zeros((N, 1), np.int32),
        "top_scores": np.ones((N, 1), np.float32),
        "top_token_index": np.full((N, 1), peak, np.int32),
        "window_start": np.full((N, 1), peak - 16, np.int32),
        "window_length": np.full((N, 1), 33, np.int32),
        "window_activations": np.tile(window, (N, 1, 1)),
    }
    save_file(stored, await add_index(server, sae, run))
    asked = f"topTexts(contextTokens: {around}) {{ text peakIndex activations textBefore textAfter }}"
    (text,) = (await neuron(server, sae, 0, asked))["topTexts"]
    offsets = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json")).encode(whole).offsets
    inner, begin, end = min(around, 16), max(1, peak - around), min(peak + around, max_length - 1)
    assert text["activations"] == window[16 - inner : 17 + inner].tolist() and text["peakIndex"] == inner
    shown = text["textBefore"], text["text"], text["textAfter"]
    assert "".join(shown) == whole[offsets[begin - 1][1] : offsets[end][1]]
    assert shown[1] == whole[offsets[peak - inner - 1][1] : offsets[peak + inner][1]]
    assert bool(shown[0]) == bool(shown[2]) == (around > 16)


async def test_other_texts_have_nothing_around_their_stretches(server: AppContext, indexed: Sae) -> None:
    asked = """exampleGroups { texts { textBefore textAfter } } silentTexts { textBefore textAfter }
      topTexts { textBefore textAfter }"""
    found = await neuron(server, indexed, 0, asked)
    texts = [text for group in found["exampleGroups"] for text in group["texts"]]
    texts += found["silentTexts"] + found["topTexts"]
    assert texts and {one for text in texts for one in text.values()} == {""}


async def test_correlations_effects_and_slider_are_those_of_the_index(
    server: AppContext, indexed: Sae
) -> None:
    asked = """correlatedNeurons(first: 2) { neuron { index } correlation } logitHistogram { edges counts }
      steeringRange { suppress typical strong }"""
    found = await neuron(server, indexed, 0, asked)
    assert found["correlatedNeurons"] == [
        {"neuron": {"index": 3}, "correlation": 0.5},
        {"neuron": {"index": 2}, "correlation": 0.25},
    ]
    assert found["logitHistogram"]["counts"] == list(range(64))
    assert found["logitHistogram"]["edges"] == pytest.approx([-1 + 4 * edge / 64 for edge in range(65)])
    assert found["steeringRange"] == {"suppress": -5.75, "typical": 5.75, "strong": 23}
    assert (await neuron(server, indexed, 1, "steeringRange { strong }"))["steeringRange"] is None


async def test_all_of_it_is_read_with_few_statements(server: AppContext, indexed: Sae) -> None:
    query = f"query ($id: ID!) {{ sae(id: $id) {{ neurons {{ nodes {{ index {OLD_FIELDS} }} }} }} }}"
    with counted_statements(server) as statements:
        await ask(server, query, id=indexed.id)
    # The SAE, its index, and where its texts come from, for each kind of them.
    assert len(statements) <= 5


async def test_an_index_of_an_earlier_version_says_null(server: AppContext) -> None:
    lm = await add_language_model(server)
    run = await add_run(server, lm)
    sae = await add_sae(server, run, latent_count=N)
    assert set((await neuron(server, sae, 0, OLD_FIELDS)).values()) == {None}
    save_file(statistics(), await add_index(server, sae, run))
    write_texts(artifacts.dataset_directory(server.settings, run.id), TEXTS)
    assert set((await neuron(server, sae, 0, OLD_FIELDS)).values()) == {None}
    query = """query ($id: ID!) { sae(id: $id) {
      figures: neuronColumns(columns: [FREQUENCY]) { neuronCount }
      map: neuronColumns(columns: [FREQUENCY, DECODER_MAP_X]) { neuronCount }
      neuronDensity(x: DECODER_MAP_X, y: FREQUENCY) { counts } } }"""
    found = (await ask(server, query, id=sae.id))["sae"]
    assert found == {"figures": {"neuronCount": N}, "map": None, "neuronDensity": None}


async def test_an_index_of_an_earlier_version_with_its_tokenizer_says_null_too(
    server: AppContext, tiny_model_dir: Path
) -> None:
    lm = await add_language_model(server)
    run = await add_run(server, lm)
    sae = await add_sae(server, run, latent_count=N)
    write_tokenizer(server, lm.id, tiny_model_dir)
    write_texts(artifacts.dataset_directory(server.settings, run.id), TEXTS)
    save_file(statistics(), await add_index(server, sae, run))
    assert set((await neuron(server, sae, 0, OLD_FIELDS)).values()) == {None}
    assert len((await neuron(server, sae, 0, "topTexts { text }"))["topTexts"]) == 2


async def test_columns_are_little_endian_floats(server: AppContext, indexed: Sae) -> None:
    query = """query ($id: ID!) { sae(id: $id) {
      neuronColumns(columns: [DECODER_MAP_Y, MAX_ACTIVATION]) {
        neuronCount columns { column float32 } } } }"""
    found = (await ask(server, query, id=indexed.id))["sae"]["neuronColumns"]
    assert found["neuronCount"] == N
    values = {
        column["column"]: np.frombuffer(base64.b64decode(column["float32"]), "<f4")
        for column in found["columns"]
    }
    assert list(values) == ["DECODER_MAP_Y", "MAX_ACTIVATION"]
    np.testing.assert_array_equal(values["DECODER_MAP_Y"], np.array([1, 3, np.nan, 3], np.float32))
    assert values["MAX_ACTIVATION"].tolist() == [5.75, 0, 31.5, 100]


async def test_a_density_counts_neurons_in_cells(server: AppContext, indexed: Sae) -> None:
    query = """query ($id: ID!, $log: Boolean!) { sae(id: $id) {
      neuronDensity(x: MAX_ACTIVATION, y: DECODER_MAP_Y, bins: 2, log: $log) { xEdges yEdges counts } } }"""
    found = (await ask(server, query, id=indexed.id, log=False))["sae"]["neuronDensity"]
    assert found == {"xEdges": [0, 50, 100], "yEdges": [1, 2, 3], "counts": [[1, 0], [1, 1]]}
    found = (await ask(server, query, id=indexed.id, log=True))["sae"]["neuronDensity"]
    middle = (np.log10(5.75) + 2) / 2
    assert found["xEdges"] == pytest.approx([np.log10(5.75), middle, 2])
    assert found["counts"] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("selection", "path"),
    [
        ("neuron(index: 0) { exampleGroups(bins: 9) { share } }", ["bins"]),
        ("neuron(index: 0) { exampleGroups(perBin: 0) { share } }", ["perBin"]),
        ("neuron(index: 0) { silentTexts(first: 21) { text } }", ["first"]),
        ("neuron(index: 0) { similarNeuronTexts(first: 6) { text { text } } }", ["first"]),
        ("neuron(index: 0) { correlatedNeurons(first: 51) { correlation } }", ["first"]),
        ("neuron(index: 0) { topTexts(contextTokens: 257) { text } }", ["contextTokens"]),
        ("neuron(index: 0) { topTexts(contextTokens: -1) { text } }", ["contextTokens"]),
        ("neuronColumns(columns: []) { neuronCount }", ["columns"]),
        (f"neuronColumns(columns: [{'FREQUENCY ' * 9}]) {{ neuronCount }}", ["columns"]),
        ("neuronDensity(x: FREQUENCY, y: FREQUENCY, bins: 257) { counts }", ["bins"]),
    ],
)
async def test_more_than_there_is_is_refused(
    server: AppContext, indexed: Sae, selection: str, path: list[str]
) -> None:
    error = await first_error(server, f"query ($id: ID!) {{ sae(id: $id) {{ {selection} }} }}", id=indexed.id)
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert error["extensions"]["fields"][0]["path"] == path


@pytest.mark.parametrize(
    ("selection", "cost"),
    [
        # The SAE and the neuron are 1 each; a text of 24 tokens with its own field 1 + 24 * 3 / 3.
        ("neuron(index: 0) { index }", 3),
        ("neuron(index: 0) { topTexts(first: 2) { tokens { token activation } } }", 2 + 2 * (1 + 24 * 3)),
        ("neuron(index: 0) { topTexts(first: 2) { tokenTexts activations } }", 2 + 2 * (1 + 8 + 8)),
        ("neuron(index: 0) { topTexts(first: 5, contextTokens: 116) { textAfter } }", 2 + 5 * 2 + 5 * 2),
        (
            "neuron(index: 0) { exampleGroups(bins: 3, perBin: 2) { share texts { score } } }",
            2 + 3 * (2 + 2 * 2),
        ),
        ("neuron(index: 0) { correlatedNeurons(first: 7) { correlation } }", 2 + 7 * 2),
        ("neuron(index: 0) { silentTexts(first: 7) { score } }", 2 + 7 * 2),
        ("neuron(index: 0) { similarNeuronTexts(first: 3) { text { score } } }", 2 + 3 * 3),
        ("neuron(index: 0) { nextIndex }", 3),
        ("neuron(index: 0) { nextIndex(orderBy: FREQUENCY_ASC) }", 3 + 25),
        ('neuron(index: 0) { previousIndex(filter: {search: "a"}) }', 3 + 25),
        (
            "neuronColumns(columns: [FREQUENCY, DECODER_MAP_X]) { columns { column float32 } }",
            2 + 400 + 2 * 3,
        ),
        ("neuronDensity(x: FREQUENCY, y: FREQUENCY, bins: 100) { xEdges counts }", 2 + 50 + 200),
    ],
)
async def test_what_it_costs(server: AppContext, indexed: Sae, selection: str, cost: int) -> None:
    result = await execute(server, f"query ($id: ID!) {{ sae(id: $id) {{ {selection} }} }}", id=indexed.id)
    assert result.extensions and int(result.extensions["cost"]["estimated"]) == cost
