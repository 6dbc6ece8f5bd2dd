"""Loading tokenizers: whole ones, as their own libraries split text, or none."""

import json
import shutil
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import sentencepiece
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer, LlamaConfig, LlamaForCausalLM

from gql_server.compute.language_models.load_failures import NotLoadable
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.special_tokens import facts_of_model
from gql_server.compute.language_models.tokenizer_loading import load_tokenizer
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.sources import LanguageModelSource

TEXTS = [
    "if x in range(10):",
    "  two  spaces\nand a line\n",
    "a naïve 😀 text",
    "Hello, 日本",
    "<tag>and\ta <tag> in<tag>it",
    "<start_of_turn>user\nfor x",
]


@pytest.fixture(scope="module")
def pieces_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give bpe.model, as Llama has one, and unigram.model, as T5 has one."""
    directory = tmp_path_factory.mktemp("pieces")
    text = directory / "text.txt"
    text.write_text("\n".join(topics[name] for name in ("booleans", "for", "strings", "lambda")))
    llama = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "byte_fallback": True}
    plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    for name, options in (
        ("bpe", llama | plain),
        ("bpe-defined", llama | plain | {"user_defined_symbols": ["<tag>", "<start_of_turn>", "\n"]}),
        ("unigram", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}),
        ("unigram-defined", {"user_defined_symbols": ["<tag>"]}),
        ("unigram-spaces", {"normalization_rule_name": "identity"}),
    ):
        sentencepiece.SentencePieceTrainer.train(
            input=str(text),
            model_prefix=str(directory / name),
            model_type=name.split("-")[0],
            vocab_size=500,
            minloglevel=2,
            **options,
        )
    return directory


@pytest.mark.parametrize(
    ("kind", "name", "tokenizer_class"),
    [
        ("bpe", "tokenizer.model", "LlamaTokenizer"),
        ("bpe", "tokenizer.model", None),
        ("bpe", "spiece.model", None),
        ("unigram", "tokenizer.model", "LlamaTokenizer"),
        ("unigram", "tokenizer.model", None),
        ("unigram", "spiece.model", "T5Tokenizer"),
        ("unigram", "spiece.model", "BigBirdTokenizer"),
        ("bpe-defined", "tokenizer.model", "LlamaTokenizer"),
        ("bpe-defined", "tokenizer.model", None),
        ("unigram-defined", "spiece.model", "T5Tokenizer"),
        ("unigram-defined", "spiece.model", "AlbertTokenizer"),
        ("unigram-spaces", "spiece.model", "T5Tokenizer"),
    ],
)
def test_a_sentencepiece_model_alone_splits_text_as_sentencepiece_does(
    pieces_dir: Path, tmp_path: Path, kind: str, name: str, tokenizer_class: str | None
) -> None:
    LlamaConfig(vocab_size=500).save_pretrained(tmp_path)
    shutil.copy(pieces_dir / f"{kind}.model", tmp_path / name)
    if tokenizer_class:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))
    tokenizer = load_tokenizer(str(tmp_path), 500)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(pieces_dir / f"{kind}.model"))
    # What the API process splits text with is made of the backend alone.
    alone = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    for text in TEXTS:
        expected = processor.encode(text)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == expected
        assert alone.encode(text, add_special_tokens=False).ids == expected
    assert tokenizer.decode(processor.encode(TEXTS[0])) == TEXTS[0]


def test_a_sentencepiece_model_that_its_class_numbers_otherwise_is_refused(
    pieces_dir: Path, tmp_path: Path
) -> None:
    LlamaConfig(vocab_size=500).save_pretrained(tmp_path)
    shutil.copy(pieces_dir / "bpe.model", tmp_path / "sentencepiece.bpe.model")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "XGLMTokenizer"}')
    with pytest.raises(NotLoadable, match="save the tokenizer as"):
        load_tokenizer(str(tmp_path), 500)


def test_markers_that_a_sentencepiece_model_alone_never_splits_do_not_count(
    pieces_dir: Path, tmp_path: Path
) -> None:
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=500, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    ).save_pretrained(tmp_path)
    shutil.copy(pieces_dir / "bpe-defined.model", tmp_path / "tokenizer.model")
    source = LanguageModelSource("lm_x", "DIRECTORY", str(tmp_path), None, "FLOAT32", f"{tmp_path}-copy")
    facts = facts_of_model(LanguageModels(device="cpu").get(source))
    assert facts is not None
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    reasons = {token.text: (token.token_id, token.reason) for token in facts.special_tokens}
    assert reasons["<start_of_turn>"] == (processor.piece_to_id("<start_of_turn>"), "FORM")
    assert "<tag>" not in reasons


def gpt2_dir(tiny_model_dir: Path, directory: Path) -> LanguageModelSource:
    """Save a GPT-2 with vocab.json and merges.txt."""
    GPT2LMHeadModel(GPT2Config(vocab_size=600, n_embd=8, n_layer=1, n_head=1)).save_pretrained(directory)
    backend = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))
    assert isinstance(backend.model, BPE)
    backend.model.save(str(directory))
    return LanguageModelSource("lm_x", "DIRECTORY", str(directory), None, "FLOAT32", f"{directory}-copy")


def reason_of(source: LanguageModelSource) -> str:
    with pytest.raises(TaskError) as raised:
        LanguageModels(device="cpu").get(source)
    assert raised.value.code == "CONFLICT"
    return raised.value.reason


def test_a_vocabulary_with_its_merges_is_enough(tiny_model_dir: Path, tmp_path: Path) -> None:
    source = gpt2_dir(tiny_model_dir, tmp_path / "model")
    tokenizer = LanguageModels(device="cpu").get(source).tokenizer
    expected = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))
    assert isinstance(tokenizer, GPT2Tokenizer)
    assert tokenizer("for x in y")["input_ids"] == expected.encode("for x in y", add_special_tokens=False).ids


@pytest.mark.parametrize("missing", ["merges.txt", "vocab.json"])
def test_half_a_tokenizer_is_refused_with_the_file_that_is_missing(
    tiny_model_dir: Path, tmp_path: Path, missing: str
) -> None:
    source = gpt2_dir(tiny_model_dir, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    reason = reason_of(source)
    assert "Its tokenizer is half there: beside " in reason and f" it needs {missing} or" in reason


@pytest.mark.parametrize("config", [None, {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}])
def test_weights_without_a_tokenizer_are_refused(
    tiny_model_dir: Path, tmp_path: Path, config: dict[str, str] | None
) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_model_dir / name, directory)
    if config is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
    reason = reason_of(
        LanguageModelSource("lm_x", "DIRECTORY", str(directory), None, "FLOAT32", f"{directory}-c")
    )
    assert "could not be loaded: It has no tokenizer: add the files of the model's tokenizer" in reason


def test_a_vocabulary_far_smaller_than_the_embedding_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    source = gpt2_dir(tiny_model_dir, tmp_path / "model")
    vocabulary = json.loads((tmp_path / "model" / "vocab.json").read_text())
    few = dict(sorted(vocabulary.items(), key=lambda item: item[1])[:200])
    (tmp_path / "model" / "vocab.json").write_text(json.dumps(few))
    (tmp_path / "model" / "merges.txt").write_text("#version: 0.2\n")
    assert "Its tokenizer knows 201 tokens and the model 600" in reason_of(source)


@pytest.mark.parametrize("content", ["{}", '{"version": "1.0"}'])
def test_a_tokenizer_file_without_a_model_is_damaged(
    tiny_model_dir: Path, tmp_path: Path, content: str
) -> None:
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    (directory / "tokenizer.json").write_text(content)
    source = LanguageModelSource("lm_x", "DIRECTORY", str(directory), None, "FLOAT32", f"{directory}-copy")
    assert "Its tokenizer.json is damaged: it has no model" in reason_of(source)


def test_a_damaged_tokenizer_is_told_as_one(tiny_model_dir: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    file = directory / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:2000])
    source = LanguageModelSource("lm_x", "DIRECTORY", str(directory), None, "FLOAT32", f"{directory}-copy")
    assert "Its tokenizer.json is damaged: it is no JSON object." in reason_of(source)


def test_a_tokenizer_of_another_kind_of_model_that_cannot_take_text_is_refused(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    source = LanguageModelSource("lm_x", "DIRECTORY", str(directory), None, "FLOAT32", f"{directory}-copy")
    assert "a BertTokenizer, cannot take ordinary text such as 'The word'" in reason_of(source)


@pytest.mark.parametrize(("tokenizer_class", "differs"), [("GPT2Tokenizer", True), (None, False)])
def test_it_is_said_where_a_class_takes_texts_apart_in_another_way_than_the_file(
    tiny_model_dir: Path, tmp_path: Path, tokenizer_class: str | None, differs: bool
) -> None:
    directory = shutil.copytree(tiny_model_dir, tmp_path / "model")
    content = json.loads((directory / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (directory / "tokenizer.json").write_text(json.dumps(content))
    config = {} if tokenizer_class is None else {"tokenizer_class": tokenizer_class}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    source = LanguageModelSource("lm_x", "DIRECTORY", str(directory), None, "FLOAT32", f"{directory}-copy")
    models = LanguageModels(device="cpu")
    tokenizer = models.get(source).tokenizer
    by_file = Tokenizer.from_file(str(directory / "tokenizer.json"))
    assert (tokenizer("THE")["input_ids"] != by_file.encode("THE").ids) == differs
    notes = [note for note in models.notes(source) if "not quite those of its tokenizer.json" in note]
    assert len(notes) == differs
