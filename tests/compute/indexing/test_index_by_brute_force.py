"""Every figure of an index for every neuron, against plain transformers and NumPy, one text at a time."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gql_server.artifacts.datasets import TextDataset, built_in_python_reference
from gql_server.artifacts.manifest import (
    PlannedBatch,
    assemble,
    read_manifest,
    read_plan,
    write_manifest,
    write_plan,
)
from gql_server.artifacts.top_texts import load_tokenizer, read_top_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import MASKS, ActivationStore
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations, IndexNeurons
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.evaluation_by_hand import NumpyAffineSae, NumpySae
from tests.compute.sae_fixtures import LAYER, N_LATENTS, K, make_sae, sae_source

from mi_crow.mechanistic.sae.sae import Sae

Array = NDArray[Any]
MAX_LENGTH = 32
K_TEXTS = 5
TOLERANCE = 1e-4
TEXTS = [
    *(text for text in built_in_python_reference()[60:90]),
    "naïve café, été",
    "a <eos> in between",
    "  two spaces first",
    "line\n\nbreaks\n",
    "😀 and 👩‍👩‍👧 and 😀",
    "",
    "word",
    built_in_python_reference()[61],
    # Twelve times each: as a whole, and up to where it is cut.
    *(text for text in built_in_python_reference()[60:63] for _ in range(11)),
    *(f"{built_in_python_reference()[63]} {number}" for number in range(11)),
    # The same around many a token, not at the end.
    *(f"{built_in_python_reference()[64][:90]} {number}" for number in range(5)),
]


class ByHand:
    """All latents of all texts, in float64: the model runs on one text at a time, without padding."""

    def __init__(self, directory: Path, sae: NumpySae | NumpyAffineSae) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        model: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
        self.latents: dict[int, Array] = {}
        """By row: [n_tokens, n_latents], NaN at special tokens."""
        self.ids: dict[int, list[int]] = {}
        for row, text in enumerate(TEXTS):
            ids = self.tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"]
            with torch.no_grad():
                states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0]
            self.ids[row] = ids
            latents = sae.latents(states.double().numpy())
            latents[np.isin(ids, self.tokenizer.all_special_ids)] = np.nan
            self.latents[row] = latents
        together = np.concatenate(list(self.latents.values()))
        self.counted = together[~np.isnan(together[:, 0])]
        self.peaks = {
            row: np.nanmax(latents, axis=0)
            for row, latents in self.latents.items()
            if not np.isnan(latents).all()
        }

    def stretch(self, row: int, token: int) -> tuple[int, ...]:
        """Return the tokens that are shown around one."""
        return tuple(self.ids[row][max(0, token - 16) : token + 17])

    def top(self, neuron: int) -> list[tuple[float, tuple[int, ...]]]:
        """Return the strongest stretches, each once, with their strengths."""
        found: dict[tuple[int, ...], float] = {}
        for row, peak in self.peaks.items():
            stretch = self.stretch(row, int(np.nanargmax(self.latents[row][:, neuron])))
            found[stretch] = max(float(peak[neuron]), found.get(stretch, 0.0))
        return sorted(((value, one) for one, value in found.items() if value > 0), reverse=True)

    def text_count(self, stretch: tuple[int, ...]) -> int:
        """Return how many texts have a stretch around some token."""
        return sum(
            any(self.stretch(row, token) == stretch for token in range(len(ids)))
            for row, ids in self.ids.items()
            if row in self.peaks
        )


@pytest.fixture
def capture(tiny_source: LanguageModelSource, tmp_path: Path) -> CaptureActivations:
    return capture_task(
        tiny_source, tmp_path, TEXTS, layers=[LAYER], batch_size=7, max_length=MAX_LENGTH, max_texts=1000
    )


@pytest.fixture(params=["TopKSae", "BatchTopKSae", "JumpReLUSae"])
def sae_class(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def sae(sae_class: str, language_models: LanguageModels, tiny_source: LanguageModelSource) -> Sae:
    sae = make_sae(language_models.get(tiny_source), sae_class)
    engine = sae.sae_engine
    with torch.no_grad():
        if sae_class == "TopKSae":
            engine.encoder.final_block[0].bias[-3:] = -1e6  # Dead.
            return sae
        engine.encoder_bias[-3:] = -1e6
        engine.decoder_bias.normal_(generator=torch.Generator().manual_seed(1))
        engine.threshold.copy_(0.7 if engine.threshold.ndim == 0 else torch.linspace(0.2, 1.2, N_LATENTS))
    return sae


@pytest.fixture
def by_hand(tiny_model_dir: Path, sae: Sae, sae_class: str) -> ByHand:
    return ByHand(tiny_model_dir, NumpySae(sae, K) if sae_class == "TopKSae" else NumpyAffineSae(sae))


def pad_left(capture: CaptureActivations, directory: Path) -> None:
    """Put a run into the store, run_a itself, as a capture would whose tokenizer pads left."""
    store = ActivationStore(Path(capture.store_dir))
    manifest = read_manifest(store.manifest_path("run_a"))
    plan = read_plan(store.run_directory("run_a"))
    assert plan is not None
    store.delete_run("run_a")
    tokenizer: Any = AutoTokenizer.from_pretrained(directory, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
    write_plan(store.run_directory("run_a"), plan)
    for batch in manifest.batches:
        texts = [TEXTS[row] for row in batch.rows]
        inputs = tokenizer(texts, truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt")
        places = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        with torch.no_grad():
            states = model(
                inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                position_ids=places,
                output_hidden_states=True,
            ).hidden_states[1]
        special = torch.isin(inputs["input_ids"], torch.tensor(tokenizer.all_special_ids))
        tensors = {
            LAYER: {"activations": states.contiguous()},
            MASKS: {"attention_mask": ~special, "input_ids": inputs["input_ids"]},
        }
        store.put_batch("run_a", batch.index, PlannedBatch(batch.rows, batch.lengths), {}, tensors)
    padded = assemble(store.run_directory("run_a"))
    assert padded is not None
    assert padded.token_count == manifest.token_count
    write_manifest(store.manifest_path("run_a"), padded)


@pytest.fixture(params=["right", "left"])
def index(
    request: pytest.FixtureRequest,
    capture: CaptureActivations,
    sae: Sae,
    sae_class: str,
    tiny_model_dir: Path,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tmp_path: Path,
) -> dict[str, Array]:
    """Capture and index, with batches padded right as ours are, or left."""
    capture_activations(capture, recording_context, language_models)
    if request.param == "left":
        pad_left(capture, tiny_model_dir)
    task = IndexNeurons(
        index_id="idx_a",
        sae=msgspec.structs.replace(sae_source(sae_class), layer=LAYER),
        run_id="run_a",
        store_dir=capture.store_dir,
        dataset_dir=capture.dataset_dir,
        tokenizer_dir=capture.language_model.copy_dir,
        top_texts_per_neuron=K_TEXTS,
        top_texts_path=str(tmp_path / "top_texts.json"),
        language_model=capture.language_model,
    )
    store = ActivationStore(Path(capture.store_dir))
    index_neurons(task, recording_context, sae, store, language_models)
    return load_file(store.index_path("idx_a"))


def test_figures_of_every_neuron(index: dict[str, Array], by_hand: ByHand) -> None:
    values = by_hand.counted
    fired = values > 0
    assert (index["firing_count"][-3:] == 0).all()
    np.testing.assert_array_equal(index["firing_count"], fired.sum(axis=0))
    np.testing.assert_allclose(index["frequency"], fired.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(index["max_activation"], values.max(axis=0), rtol=TOLERANCE)
    means = values.sum(axis=0) / np.maximum(fired.sum(axis=0), 1)
    np.testing.assert_allclose(index["mean_activation"], means, rtol=TOLERANCE)
    for neuron in range(N_LATENTS):
        mine = values[fired[:, neuron], neuron]
        limit = 2.0 ** (np.floor(np.log2(mine.max())) + 1) if len(mine) else 0.0
        assert index["histogram_limit"][neuron] == limit
        counts = np.histogram(mine, 32, (0, limit))[0] if len(mine) else np.zeros(32)
        np.testing.assert_array_equal(index["histogram_counts"][neuron], counts)


def test_top_texts_of_every_neuron(index: dict[str, Array], by_hand: ByHand) -> None:
    counts: set[int] = set()
    for neuron in range(N_LATENTS):
        peaks = {row: peak[neuron] for row, peak in by_hand.peaks.items() if peak[neuron] > 0}
        expected = by_hand.top(neuron)[:K_TEXTS]
        rows = index["top_rows"][neuron][: len(expected)]
        assert len(set(rows.tolist())) == len(expected)
        assert (index["top_rows"][neuron][len(expected) :] == -1).all()
        # Row by row the same strength: where texts are as strong as each other to the last digits but one,
        # either may come first.
        scores = [score for score, _ in expected]
        np.testing.assert_allclose(
            index["top_scores"][neuron][: len(expected)], scores, rtol=TOLERANCE, atol=1e-6
        )
        np.testing.assert_allclose([peaks[row] for row in rows.tolist()], scores, rtol=TOLERANCE, atol=1e-6)
        for place, row in enumerate(rows.tolist()):
            latents = np.nan_to_num(by_hand.latents[row][:, neuron])
            token = index["top_token_index"][neuron, place]
            assert token == latents.argmax()
            start, length = index["window_start"][neuron, place], index["window_length"][neuron, place]
            assert (start, length) == (max(0, token - 16), min(len(latents), token + 17) - max(0, token - 16))
            window = index["window_activations"][neuron, place]
            np.testing.assert_allclose(
                window[:length], latents[start : start + length], rtol=TOLERANCE, atol=1e-5
            )
            assert not window[length:].any()
            assert index["top_text_counts"][neuron, place] == by_hand.text_count(by_hand.stretch(row, token))
            counts.add(int(index["top_text_counts"][neuron, place]))
        shown = [
            by_hand.stretch(row, index["top_token_index"][neuron, place])
            for place, row in enumerate(rows.tolist())
        ]
        assert len(set(shown)) == len(shown)
    assert counts >= {1, 12}


def test_the_marked_token_is_the_one_that_peaks(
    index: dict[str, Array], by_hand: ByHand, capture: CaptureActivations
) -> None:
    path = ActivationStore(Path(capture.store_dir)).index_path("idx_a")
    dataset, tokenizer = (
        TextDataset(Path(capture.dataset_dir)),
        load_tokenizer(Path(capture.language_model.copy_dir)),
    )
    seen = set()
    for neuron in range(N_LATENTS):
        top = read_top_texts(path, neuron, K_TEXTS, dataset, tokenizer, MAX_LENGTH)
        for row, text in zip(index["top_rows"][neuron].tolist(), top, strict=False):
            source = TEXTS[row]
            encoded = by_hand.tokenizer(
                source, truncation=True, max_length=MAX_LENGTH, return_offsets_mapping=True
            )
            begin, end = encoded["offset_mapping"][text.token_index]
            assert text.token != ""
            assert source[begin:end].endswith(text.token)
            decoded = by_hand.tokenizer.decode([encoded["input_ids"][text.token_index]])
            assert decoded == text.token or "\ufffd" in decoded
            assert text.text in source
            marked = max(range(len(text.tokens)), key=lambda place: text.tokens[place][1])
            assert text.peak_index == marked
            assert text.text_count is not None and text.text_count >= 1
            assert marked + max(0, text.token_index - 16) == text.token_index
            assert text.tokens[marked][1] == pytest.approx(text.score)
            seen.add(row)
    assert seen >= {30, 32, 33, 34}, "texts with accents, spaces first, line breaks and emoji"
