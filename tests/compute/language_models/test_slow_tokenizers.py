"""Indexes over models whose tokenizers are Python of transformers, with no tokenizer.json."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.top_texts import StoredTopText, read_top_texts
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.indexing.neuron_index import index_neurons
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.storage.store import ActivationStore
from gql_server.protocol.sources import LanguageModelSource, SaeSource
from gql_server.protocol.tasks import IndexNeurons
from gql_server.tokens.token_texts_file import TOKEN_TEXTS_FILE, token_texts
from tests.compute.conftest import RecordingContext, capture_task
from tests.compute.sae_fixtures import make_sae

LAYER = "llamaforcausallm_model_layers_0"
N_LATENTS, MAX_LENGTH = 48, 12
TEXTS = [
    "one two three four",
    "naïve 😀 text",
    "x",
    "The for statement iterates over a sequence.",
    "one two three",
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> LanguageModelSource:
    """Give a tiny Llama with ByT5's tokenizer: a token for each byte, and an EOS behind each text."""
    directory = tmp_path_factory.mktemp("slow")
    tokenizer = ByT5Tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return LanguageModelSource("lm_slow", "DIRECTORY", str(directory), None, "FLOAT32", f"{directory}-copy")


def indexed(
    source: LanguageModelSource, tmp_path: Path, models: LanguageModels, split: bool = False
) -> IndexNeurons:
    """Capture and index with a random SAE; returns the index's task."""
    long_texts = {"long_texts": "SPLIT"} if split else {}
    capture = capture_task(source, tmp_path, TEXTS, layers=[LAYER], max_length=MAX_LENGTH, **long_texts)
    capture_activations(capture, RecordingContext(), models)
    task = IndexNeurons(
        index_id="idx_a",
        sae=SaeSource("sae_a", "TopKSae", "", LAYER, n_inputs=32, n_latents=N_LATENTS, k=6),
        run_id="run_a",
        store_dir=capture.store_dir,
        dataset_dir=capture.dataset_dir,
        tokenizer_dir=source.copy_dir,
        top_texts_per_neuron=4,
        top_texts_path=str(tmp_path / "top_texts" / "idx_a.json"),
        language_model=source,
    )
    store = ActivationStore(Path(task.store_dir))
    index_neurons(task, RecordingContext(), make_sae(models.get(source)), store, models)
    return task


def top_texts(task: IndexNeurons) -> list[list[StoredTopText]]:
    """Read all top texts as the API does, which has no such tokenizer."""
    path = ActivationStore(Path(task.store_dir)).index_path("idx_a")
    dataset = TextDataset(Path(task.dataset_dir))
    return [read_top_texts(path, neuron, 4, dataset, None, MAX_LENGTH) for neuron in range(N_LATENTS)]


@pytest.mark.parametrize("split", [False, True])
def test_top_texts_are_kept_with_the_tokens_that_only_the_worker_can_make(
    split: bool, source: LanguageModelSource, tmp_path: Path, language_models: LanguageModels
) -> None:
    task = indexed(source, tmp_path, language_models, split)
    assert not (Path(source.copy_dir) / "tokenizer.json").exists()
    seen = 0
    for texts in top_texts(task):
        for text in texts:
            # A token is a byte, and each piece but the last has so many of them before its EOS.
            start = text.piece * (MAX_LENGTH - 1)
            raw = TEXTS[text.row].encode()[start : start + MAX_LENGTH - 1]
            own = raw[text.token_index : text.token_index + 1]
            assert text.token == ("ï" if own in b"\xc3\xaf" else "😀" if own >= b"\x80" else own.decode())
            assert "".join(token for token, _ in text.tokens) in (text.text, f"{text.text}</s>")
            assert text.text in TEXTS[text.row]
            assert text.tokens[text.peak_index][1] == pytest.approx(text.score)
            seen += 1
    assert seen > 40
    assert any(text.piece for texts in top_texts(task) for text in texts) == split


def test_the_file_of_top_texts_and_the_promoted_tokens_are_there_too(
    source: LanguageModelSource, tmp_path: Path, language_models: LanguageModels
) -> None:
    task = indexed(source, tmp_path, language_models)
    content = json.loads(Path(task.top_texts_path).read_text())
    for neuron, texts in zip(content["neurons"], top_texts(task), strict=True):
        assert [(one["text"], one["token"]) for one in neuron["texts"]] == [
            (text.text, text.token) for text in texts
        ]
    index = load_file(ActivationStore(Path(task.store_dir)).index_path("idx_a"))
    assert (index["promoted_tokens"] >= 0).any()
    byte_ids = ByT5Tokenizer()("ab ", add_special_tokens=False)["input_ids"]
    found = token_texts(Path(source.copy_dir), [*byte_ids, 1, 10**6])
    assert found == ["a", "b", " ", "</s>", None]
    assert len(json.loads((Path(source.copy_dir) / TOKEN_TEXTS_FILE).read_text())) == len(ByT5Tokenizer())


def test_statistics_are_those_of_the_stored_activations(
    source: LanguageModelSource, tmp_path: Path, language_models: LanguageModels
) -> None:
    task = indexed(source, tmp_path, language_models)
    store = ActivationStore(Path(task.store_dir))
    sae = make_sae(language_models.get(source))
    counts = np.zeros(N_LATENTS, int)
    for batch in store.list_run_batches("run_a"):
        activations, mask = store.read_activations("run_a", batch, LAYER), store.read_mask("run_a", batch)
        counts += (sae.encode(activations[mask.bool()]) > 0).sum(dim=0).numpy()
    np.testing.assert_array_equal(load_file(store.index_path("idx_a"))["firing_count"], counts)


def test_tokens_of_a_model_without_such_a_file_have_no_text(tmp_path: Path) -> None:
    assert token_texts(tmp_path, [1, 2]) == [None, None]
