"""Long texts in captures and indexes, cut or in pieces, against bare transformers on each piece by itself."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer

from gql_server.artifacts.datasets import TextDataset, built_in_python_reference
from gql_server.artifacts.manifest import read_manifest
from gql_server.artifacts.top_texts import load_tokenizer, read_top_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.text_encoder import make_encoder
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.events import Log
from gql_server.protocol.sources import LanguageModelSource
from gql_server.protocol.tasks import CaptureActivations, IndexNeurons
from tests.compute.conftest import RecordingContext, capture_task, interrupted_capture
from tests.compute.evaluation_by_hand import NumpySae
from tests.compute.sae_fixtures import LAYER, N_LATENTS, K, make_sae, sae_source
from tests.support.tiny_tokenizers import tiny_tokenizer, with_template

Array = NDArray[Any]
MAX_LENGTH = 16
TEXTS = [
    " ".join(built_in_python_reference()[70:73]),
    "short",
    "",
    " ".join(f"naïve 😀{number}" for number in range(20)),
    "<eos>" * 20 + " at the end",
    built_in_python_reference()[74],
    "x" * 15,
]


@pytest.fixture
def task(tiny_source: LanguageModelSource, tmp_path: Path) -> CaptureActivations:
    return capture_task(
        tiny_source, tmp_path, TEXTS, layers=[LAYER], batch_size=4, max_length=MAX_LENGTH, long_texts="SPLIT"
    )


class ByHand:
    """The texts' tokens, and what the layer puts out for each piece of 15 of them after a BOS."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        model: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
        self.own = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        self.pieces: dict[tuple[int, int], list[int]] = {}
        self.states: dict[tuple[int, int], Array] = {}
        for row, ids in enumerate(self.own):
            for piece, start in enumerate(range(0, len(ids), MAX_LENGTH - 1)):
                of_piece = [self.tokenizer.bos_token_id, *ids[start : start + MAX_LENGTH - 1]]
                if set(of_piece) <= set(self.tokenizer.all_special_ids):
                    continue
                with torch.no_grad():
                    states = model(torch.tensor([of_piece]), output_hidden_states=True).hidden_states[1][0]
                self.pieces[row, piece], self.states[row, piece] = of_piece, states.double().numpy()


@pytest.fixture(scope="module")
def by_hand(tiny_model_dir: Path) -> ByHand:
    return ByHand(tiny_model_dir)


def logs(context: RecordingContext) -> list[str]:
    return [event.message for event in context.events if isinstance(event, Log)]


def test_all_of_a_long_text_is_captured_in_pieces(
    task: CaptureActivations,
    by_hand: ByHand,
    language_models: LanguageModels,
    recording_context: RecordingContext,
) -> None:
    result = capture_activations(task, recording_context, language_models)
    store = ActivationStore(Path(task.store_dir))
    manifest = read_manifest(store.manifest_path("run_a"))
    stored = {}
    for batch in manifest.batches:
        ids = store.read_input_ids("run_a", batch.index)
        activations = store.read_activations("run_a", batch.index, LAYER)
        for place, length in enumerate(batch.lengths):
            key = (batch.rows[place], batch.pieces[place])
            stored[key] = ids[place, :length].tolist()
            np.testing.assert_allclose(activations[place, :length], by_hand.states[key], atol=1e-5)
    assert stored == by_hand.pieces
    assert (4, 0) not in stored and (4, 1) in stored, "a piece of special tokens alone is left out"
    special = set(by_hand.tokenizer.all_special_ids)
    counted = sum(token not in special for ids in by_hand.pieces.values() for token in ids)
    assert (result.sample_count, result.piece_count) == (len(TEXTS) - 1, len(by_hand.pieces))
    assert (result.token_count, result.truncated_text_count) == (counted, 0)
    assert (manifest.long_texts, manifest.sample_count, manifest.piece_count) == (
        "SPLIT",
        result.sample_count,
        result.piece_count,
    )
    assert result.provenance is not None
    assert (result.provenance.long_texts, result.provenance.truncated_text_count) == ("SPLIT", 0)
    pieces = f"{len(by_hand.pieces)} pieces of {len(TEXTS) - 1} texts"
    batches = -(-len(by_hand.pieces) // 4)
    assert f"Capturing 1 layer over {pieces} in {batches} batches; 1 without a token left out." in logs(
        recording_context
    )


def test_texts_that_are_cut_are_counted_and_told_of(
    task: CaptureActivations,
    by_hand: ByHand,
    language_models: LanguageModels,
    recording_context: RecordingContext,
) -> None:
    cut = msgspec.structs.replace(task, long_texts="TRUNCATE")
    result = capture_activations(cut, recording_context, language_models)
    room = MAX_LENGTH - 1
    n_cut = sum(len(ids) > room for ids in by_hand.own)
    share = 100 * sum(max(0, len(ids) - room) for ids in by_hand.own) / sum(map(len, by_hand.own))
    manifest = read_manifest(ActivationStore(Path(task.store_dir)).manifest_path("run_a"))
    assert result.truncated_text_count == manifest.truncated_text_count == n_cut >= 3
    assert all(batch.pieces == [] for batch in manifest.batches)
    assert (result.sample_count, result.piece_count) == (len(TEXTS) - 2, len(TEXTS) - 2)
    sentence = (
        f"{n_cut} texts are longer than 16 tokens and cut there, which leaves out {share:.3g} % of all "
        "tokens. longTexts: SPLIT captures them in pieces."
    )
    assert sentence in logs(recording_context)
    # A text of exactly as many tokens as there is room for is whole.
    longest = max(map(len, by_hand.own)) + 1
    whole = msgspec.structs.replace(cut, run_id="run_b", max_length=longest)
    if longest <= 64:
        assert capture_activations(whole, RecordingContext(), language_models).truncated_text_count == 0


def test_offset_and_limit_count_texts_and_not_their_pieces(
    task: CaptureActivations,
    by_hand: ByHand,
    language_models: LanguageModels,
    recording_context: RecordingContext,
) -> None:
    some = msgspec.structs.replace(task, sample_offset=3, sample_limit=2)
    result = capture_activations(some, recording_context, language_models)
    expected = [key for key in by_hand.pieces if key[0] in (3, 4)]
    assert (result.sample_count, result.piece_count) == (2, len(expected))


@pytest.mark.parametrize("n_batches", [0, 2])
def test_a_capture_in_pieces_goes_on_where_it_was_interrupted(
    task: CaptureActivations, language_models: LanguageModels, tmp_path: Path, n_batches: int
) -> None:
    whole = msgspec.structs.replace(task, store_dir=str(tmp_path / "whole"))
    expected = capture_activations(whole, RecordingContext(), language_models)
    directory = interrupted_capture(task, language_models, n_batches)
    context = RecordingContext()
    again = msgspec.structs.replace(task, attempt=2)
    assert capture_activations(again, context, language_models) == expected
    other = ActivationStore(Path(whole.store_dir)).run_directory("run_a")
    for file in sorted(directory.rglob("*.safetensors")):
        assert file.read_bytes() == (other / file.relative_to(directory)).read_bytes()
    assert any("batches are there" in log for log in logs(context)) == (n_batches > 0)
    # What was captured in pieces is none of a capture that cuts.
    shutil.rmtree(directory / "batch_0")
    cut = msgspec.structs.replace(task, long_texts="TRUNCATE", attempt=3)
    assert capture_activations(cut, context, language_models).piece_count == len(TEXTS) - 2
    assert any("of another plan" in log for log in logs(context))


def test_more_pieces_than_texts_may_be_are_refused(
    task: CaptureActivations, language_models: LanguageModels, recording_context: RecordingContext
) -> None:
    with pytest.raises(TaskError, match="more than 8 pieces") as raised:
        capture_activations(msgspec.structs.replace(task, max_texts=8), recording_context, language_models)
    assert raised.value.code == "INVALID"


def test_top_texts_quote_the_place_of_the_long_text(
    task: CaptureActivations,
    by_hand: ByHand,
    language_models: LanguageModels,
    recording_context: RecordingContext,
    tmp_path: Path,
) -> None:
    capture_activations(task, recording_context, language_models)
    lm = language_models.get(task.language_model)
    sae = make_sae(lm, "TopKSae")
    index = IndexNeurons(
        index_id="idx_a",
        sae=msgspec.structs.replace(sae_source("TopKSae"), layer=LAYER),
        run_id="run_a",
        store_dir=task.store_dir,
        dataset_dir=task.dataset_dir,
        tokenizer_dir=task.language_model.copy_dir,
        top_texts_per_neuron=4,
        top_texts_path=str(tmp_path / "top_texts.json"),
    )
    store = ActivationStore(Path(task.store_dir))
    index_neurons(index, recording_context, sae, store, language_models)
    tensors = load_file(store.index_path("idx_a"))
    numpy_sae = NumpySae(sae, K)
    latents = {}
    for key, states in by_hand.states.items():
        latents[key] = numpy_sae.latents(states)
        special = np.isin(by_hand.pieces[key], by_hand.tokenizer.all_special_ids)
        latents[key][special] = 0.0
    written = msgspec.json.decode(Path(index.top_texts_path).read_bytes())["neurons"]
    dataset, tokenizer = TextDataset(Path(task.dataset_dir)), load_tokenizer(Path(index.tokenizer_dir))
    seen = set()
    for neuron in range(N_LATENTS):
        best: dict[tuple[int, ...], float] = {}
        for key, of_piece in latents.items():
            token = int(of_piece[:, neuron].argmax())
            if of_piece[token, neuron] > 0:
                stretch = tuple(by_hand.pieces[key])  # A piece is no longer than a stretch.
                best[stretch] = max(best.get(stretch, 0.0), float(of_piece[token, neuron]))
        top = read_top_texts(store.index_path("idx_a"), neuron, 4, dataset, tokenizer, MAX_LENGTH)
        expected = sorted(best.values(), reverse=True)[:4]
        np.testing.assert_allclose([text.score for text in top], expected, rtol=1e-4)
        for place, text in enumerate(top):
            key = (text.row, text.piece)
            seen.add(key)
            assert tensors["top_rows"][neuron, place] == text.row
            assert latents[key][text.token_index, neuron] == pytest.approx(text.score, rel=1e-4)
            values = [value for _, value in text.tokens]
            np.testing.assert_allclose(values, latents[key][: len(values), neuron], atol=1e-5)
            assert values[text.peak_index] == max(values)
            assert text.text in TEXTS[text.row]
            before = by_hand.own[text.row][: text.piece * (MAX_LENGTH - 1)]
            begin = len(by_hand.tokenizer.decode(before).encode(errors="replace"))
            found = TEXTS[text.row].encode().find(text.text.encode(), max(0, begin - 4))
            assert 0 <= found - begin + 4 <= 8, "at its place, give or take half a character"
            assert written[neuron]["texts"][place]["text"] == text.text
            assert written[neuron]["texts"][place]["piece_index"] == text.piece
    assert {row for row, piece in seen if piece > 0} >= {0, 3, 5}


@pytest.mark.parametrize("template", ["<bos> $A", "<bos> $A <eos>", "$A <eos> <eos>", "$A"])
@pytest.mark.parametrize("max_length", [4, 9])
def test_pieces_have_around_them_what_the_tokenizer_writes_and_miss_nothing(
    tiny_model_dir: Path, tmp_path: Path, template: str, max_length: int
) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), template)
    tokenizer.save_pretrained(tmp_path)
    encoder, texts = make_encoder(tokenizer), [*TEXTS, "<bos> at the start"]
    shown = load_tokenizer(tmp_path, list(encoder.edges.begin)).cut(texts, max_length, split=True)
    for text, cut, text_shown in zip(texts, encoder.cut(texts, max_length, split=True), shown, strict=True):
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        begin, end = list(encoder.edges.begin), list(encoder.edges.end)
        found = []
        for number, ids in enumerate(cut.pieces):
            piece = ids.tolist()
            assert len(piece) <= max_length
            assert piece[: len(begin)] == begin and piece[len(piece) - len(end) :] == end
            found += piece[len(begin) : len(piece) - len(end)]
            assert len(piece) == max_length or number == len(cut.pieces) - 1
            assert text_shown.piece(number).ids == piece
        if text.startswith("<bos>") and begin:
            found = begin + found  # A text's own, which gets no second one.
        assert found == own
        assert (cut.token_count, cut.left_out_count) == (len(own), 0)


def test_a_slow_tokenizer_gives_pieces_too() -> None:
    tokenizer = ByT5Tokenizer()
    (cut,) = make_encoder(tokenizer).cut(["naïve and longer"], 6, split=True)
    own = tokenizer("naïve and longer", add_special_tokens=False)["input_ids"]
    expected = [
        tokenizer.build_inputs_with_special_tokens(own[start : start + 5]) for start in range(0, len(own), 5)
    ]
    assert [ids.tolist() for ids in cut.pieces] == expected


def test_a_stretch_that_begins_inside_a_character_shows_the_whole_of_it(tiny_model_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    (text,) = tokenizer.tokenize(["a 😀 b"], 32)
    offsets = AutoTokenizer.from_pretrained(tiny_model_dir)("a 😀 b", return_offsets_mapping=True)
    inside = [
        place
        for place, (begin, end) in enumerate(offsets["offset_mapping"])
        if "😀" in "a 😀 b"[begin:end] and place and offsets["offset_mapping"][place - 1][1] == end
    ]
    assert inside, "the tokenizer splits the character"
    for place in inside:
        assert text.stretch(place, 20) == "😀 b"
        assert "".join(text.tokens(place, 20)) == "😀 b"
