"""Which tokens do not count, by the marks in a tokenizer's files and by what people decide."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sentencepiece
from gguf import TokenType
from torch import nn
from transformers import AutoTokenizer

from gql_server.artifacts.manifest import read_manifest
from gql_server.artifacts.top_texts import load_tokenizer
from gql_server.compute.capturing.capture import capture_activations
from gql_server.compute.language_models.loading import LanguageModels, describe
from gql_server.compute.language_models.prompts import encode_prompts
from gql_server.compute.language_models.special_tokens import tokenizer_facts
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.worker.context import TaskError
from gql_server.model_files.chat_templates import chats
from gql_server.protocol.sources import LanguageModelSource
from gql_server.services.tokenizing import TokenizerFiles, token_counts
from tests.compute.conftest import RecordingContext, capture_task
from tests.support.tiny_gguf import make_tiny_gguf
from tests.support.tiny_tokenizers import mark_added, save_with, tiny_tokenizer, with_template

from mi_crow.language_model.language_model import LanguageModel

WORDS = ["photosynthesis", "<b>", "<gene_7>", "[C@@H]", "   ", "\t\t", "[NAME]"]
"""Added to a vocabulary as content."""


def reasons(lm: LanguageModel) -> dict[str, tuple[str, bool]]:
    facts = describe(lm).tokenizer
    assert facts is not None
    return {token.text: (token.reason, token.counts) for token in facts.special_tokens}


def special_texts(lm: LanguageModel, text: str) -> list[str]:
    (prompt,) = encode_prompts(lm, [text])
    return [token.text for token in prompt.tokens if token.special]


def loaded(
    tokenizer: Any, tiny_model_dir: Path, directory: Path, *, not_special: list[str] | None = None
) -> LanguageModel:
    source = save_with(tokenizer, tiny_model_dir, directory, rows=640)
    mark_added(directory, not_special or [], special=False)
    return LanguageModels(device="cpu").get(source)


# ----------------------------------------------------------------------- the files' marks


@pytest.mark.parametrize(
    ("marker", "special", "template", "reason"),
    [
        ("<|eot_id|>", True, None, "ADDED"),
        ("<start_of_turn>", True, None, "ADDED"),
        ("@@sep@@", True, None, "ADDED"),
        ("<|im_start|>", False, None, "FORM"),
        ("<\uff5cUser\uff5c>", False, None, "FORM"),
        ("<end_of_turn>", False, None, "FORM"),
        ("[INST]", False, "[INST] {{ messages[0]['content'] }}[/INST]", "CHAT_TEMPLATE"),
        (
            "<user>",
            False,
            {"default": "hi", "tool_use": "<user>{{ messages[0]['content'] }}"},
            "CHAT_TEMPLATE",
        ),
    ],
)
def test_a_marker_that_is_an_added_token_does_not_count(
    tiny_model_dir: Path, tmp_path: Path, marker: str, special: bool, template: Any, reason: str
) -> None:
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.add_tokens([marker])
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path / "m")
    source = save_with(tokenizer, tiny_model_dir, tmp_path / "m", rows=640)
    mark_added(tmp_path / "m", [marker], special)
    lm = LanguageModels(device="cpu").get(source)
    assert marker not in lm.tokenizer.all_special_tokens
    assert reasons(lm)[marker] == (reason, False)
    assert special_texts(lm, f"a{marker}b") == ["<bos>", marker]
    file = json.loads((Path(source.copy_dir) / "special_token_ids.json").read_text())
    assert file == sorted(lm.context.special_token_ids or ()) and 600 in file


def test_added_words_and_spaces_count_also_where_a_chat_template_says_them(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.add_tokens(WORDS)
    tokenizer.chat_template = "photosynthesis   {{ messages[0]['content'] }}"
    lm = loaded(tokenizer, tiny_model_dir, tmp_path / "m")
    assert not set(WORDS) & reasons(lm).keys()
    assert special_texts(lm, "a".join(WORDS)) == ["<bos>"]
    assert len(encode_prompts(lm, ["a".join(WORDS)])[0].tokens) == 2 * len(WORDS)


def test_the_unknown_token_counts_and_is_listed(tiny_model_dir: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.add_special_tokens({"unk_token": "<unk>"})
    lm = loaded(tokenizer, tiny_model_dir, tmp_path / "m")
    assert "<unk>" in lm.tokenizer.all_special_tokens
    assert reasons(lm)["<unk>"] == ("UNKNOWN", True)
    assert special_texts(lm, "a<unk>b") == ["<bos>"]


def test_a_padding_token_that_is_the_unknown_one_counts_and_a_control_token_that_is_it_does_not(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.add_special_tokens({"unk_token": "<unk>", "pad_token": "<unk>"})
    assert special_texts(loaded(tokenizer, tiny_model_dir, tmp_path / "m"), "a<unk>") == ["<bos>"]
    for place, name in enumerate(["<eos>", "<|endoftext|>"]):
        tokenizer = tiny_tokenizer(tiny_model_dir)
        tokenizer.add_special_tokens({"unk_token": name})
        lm = loaded(tokenizer, tiny_model_dir, tmp_path / f"n{place}")
        assert special_texts(lm, f"a{name}") == ["<bos>", name]


def test_an_added_token_that_ends_texts_by_the_generation_config_does_not_count(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.add_tokens(["ENDE", "WORT"])
    source = save_with(tokenizer, tiny_model_dir, tmp_path / "m", rows=640)
    (tmp_path / "m" / "generation_config.json").write_text('{"eos_token_id": [1, 600, 300]}')
    lm = LanguageModels(device="cpu").get(source)
    assert reasons(lm)["ENDE"] == ("END_OF_TEXT", False)
    assert special_texts(lm, "aENDEbWORT") == ["<bos>", "ENDE"]
    assert 300 not in (lm.context.special_token_ids or ())


def test_control_pieces_of_a_sentence_piece_model_do_not_count(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(["the value of an expression", "a string of words"] * 50))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=60,
        control_symbols=["<turn>"],
        user_defined_symbols=["word"],
        hard_vocab_limit=False,
        minloglevel=2,
    )

    class Pieces:
        """A SentencePiece model as a tokenizer that has added no token."""

        is_fast, unk_token, unk_token_id, bos_token_id = False, "<unk>", 0, 1
        added_tokens_decoder, special_tokens_map = dict[int, str](), {"eos_token": "</s>"}
        all_special_tokens = ("</s>", "<unk>")
        init_kwargs = dict[str, str]()
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))

        def convert_tokens_to_ids(self, token: str) -> int:
            return int(self.pieces.PieceToId(token))

        def convert_ids_to_tokens(self, token_id: int) -> str:
            return str(self.pieces.IdToPiece(token_id))

        def build_inputs_with_special_tokens(self, ids: list[int]) -> list[int]:
            return [1, *ids]

    model = type(
        "Model", (), {"generation_config": None, "get_input_embeddings": lambda self: nn.Embedding(8, 1)}
    )()
    found = {one.text: one.reason for one in tokenizer_facts(model, Pieces(), tmp_path).special_tokens}
    assert found == {
        "<unk>": "UNKNOWN",
        "<s>": "VOCABULARY",
        "</s>": "NAMED",
        "<turn>": "VOCABULARY",
    }


def test_a_gguf_keeps_its_control_tokens_also_those_that_transformers_cannot_spell(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    marked = [
        ("<|im_start|>", TokenType.CONTROL),
        ("<\uff5cUser\uff5c>", TokenType.CONTROL),
        ("[REF]", TokenType.CONTROL),
        ("think", TokenType.USER_DEFINED),
        ("\u4e2d", TokenType.USER_DEFINED),
        ("\u4e2dunk", TokenType.UNKNOWN),
    ]
    save_with(tiny_tokenizer(tiny_model_dir), tiny_model_dir, tmp_path / "m", rows=600 + len(marked))
    tiny_tokenizer(tiny_model_dir).save_pretrained(tmp_path / "m")
    file = make_tiny_gguf(tmp_path / "m", tmp_path / "tiny.gguf", marked=marked)
    source = LanguageModelSource("lm_g", "GGUF", str(file), None, "FLOAT32", str(tmp_path / "copy"))
    for language_models in (LanguageModels(device="cpu"), LanguageModels(device="cpu")):
        lm = language_models.get(source)
        assert lm.context.special_token_ids == {0, 1, 2, 600, 601, 602}
        (prompt,) = encode_prompts(lm, ["<|im_start|>a<\uff5cUser\uff5c>think[REF]b"])
        a, b = tiny_tokenizer(tiny_model_dir).convert_tokens_to_ids(["a", "b"])
        assert prompt.token_ids == [600, a, 601, 603, 602, b]
    assert len(lm.tokenizer) == 600 + len(marked)


# -------------------------------------------------------------------------------- options


def test_people_decide_which_tokens_count(
    tiny_source: LanguageModelSource, language_models: LanguageModels, tmp_path: Path
) -> None:
    plain = language_models.get(tiny_source)
    text = "True and<eos>"
    (word,) = plain.tokenizer(" and", add_special_tokens=False)["input_ids"]
    source = msgspec.structs.replace(tiny_source, token_counts=((1, True), (word, False)))
    lm = language_models.get(source)
    assert special_texts(plain, text) == ["<bos>", "<eos>"]
    assert special_texts(lm, text) == ["<bos>", " and"]
    task = capture_task(source, tmp_path, [text, " and and", "True"])
    result = capture_activations(task, RecordingContext(), language_models)
    store = ActivationStore(tmp_path / "store")
    ids, mask = store.read_input_ids("run_a", 0), store.read_mask("run_a", 0)
    assert result.sample_count == 2 and word not in ids[mask].tolist() and 1 in ids[mask].tolist()
    assert read_manifest(store.manifest_path("run_a")).special_token_ids == sorted({0, 2, word})


@pytest.mark.parametrize(
    ("template", "add_bos", "before"),
    [
        ("<bos> $A <eos>", None, [0]),
        ("<bos> $A <eos>", True, [0]),
        ("<bos> $A <eos>", False, []),
        ("$A <eos>", None, []),
        ("$A <eos>", True, [0]),
        ("$A", True, [0]),
    ],
)
def test_a_bos_is_written_as_the_option_says_by_prompts_and_captures_alike(
    tiny_model_dir: Path, tmp_path: Path, template: str, add_bos: bool | None, before: list[int]
) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), template)
    source = save_with(tokenizer, tiny_model_dir, tmp_path / "m", add_bos=add_bos)
    language_models = LanguageModels(device="cpu")
    lm = language_models.get(source)
    content = tokenizer("True and", add_special_tokens=False)["input_ids"]
    for prompt in encode_prompts(lm, ["True and", *(["<bos>True and"] if before else [])]):
        assert prompt.token_ids == [*before, *content]
    after = [1] if "<eos>" in template else []
    task = capture_task(source, tmp_path, ["True and"])
    capture_activations(task, RecordingContext(), language_models)
    store = ActivationStore(tmp_path / "store")
    assert store.read_input_ids("run_a", 0).tolist() == [[*before, *content, *after]]
    manifest = read_manifest(store.manifest_path("run_a"))
    assert manifest.begin_token_ids == before and manifest.provenance is not None
    assert (manifest.provenance.add_bos, manifest.provenance.begin_token_ids) == (add_bos, before)
    # An index reads the run's tokens as they were captured, whatever the option is by then.
    again = load_tokenizer(Path(source.copy_dir), manifest.begin_token_ids)
    assert again.tokenize(["True and"], 24)[0].ids == [*before, *content, *after]


def test_a_run_of_an_earlier_version_is_read_as_the_tokenizer_wrote_it(
    tiny_source: LanguageModelSource, tiny_model_dir: Path, language_models: LanguageModels
) -> None:
    language_models.get(tiny_source)
    (text,) = load_tokenizer(Path(tiny_source.copy_dir)).tokenize(["<bos>True"], 24)
    assert text.ids == AutoTokenizer.from_pretrained(tiny_model_dir)("<bos>True")["input_ids"]
    assert text.ids[:2] == [0, 0]


def test_a_chat_template_gets_a_bos_where_the_option_asks_for_one_but_no_second(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    for place, (template, add_bos, expected) in enumerate(
        [
            ("{{ messages[0]['content'] }}", None, ["a"]),
            ("{{ messages[0]['content'] }}", True, ["<bos>", "a"]),
            ("{{ bos_token }}{{ messages[0]['content'] }}", None, ["<bos>", "a"]),
            ("{{ bos_token }}{{ messages[0]['content'] }}", True, ["<bos>", "a"]),
        ]
    ):
        tokenizer = tiny_tokenizer(tiny_model_dir)
        tokenizer.chat_template = template
        source = save_with(tokenizer, tiny_model_dir, tmp_path / f"m{place}", add_bos=add_bos)
        lm = LanguageModels(device="cpu").get(source)
        written = chats(Path(source.copy_dir), ["a"])
        assert isinstance(written, list)
        (prompt,) = encode_prompts(lm, ["a"], written)
        assert [token.text for token in prompt.tokens] == expected
        directory = Path(source.copy_dir)
        files = replace(TokenizerFiles(directory), add_bos=add_bos)
        assert token_counts(files, written, are_chats=True) == [len(expected)]


def test_a_bos_that_the_tokenizer_does_not_have_is_a_conflict(tiny_model_dir: Path, tmp_path: Path) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), "$A")
    tokenizer.bos_token = None
    source = save_with(tokenizer, tiny_model_dir, tmp_path / "m", add_bos=True)
    for name in ("config.json", "generation_config.json"):
        if (file := tmp_path / "m" / name).exists():
            file.write_text(json.dumps(json.loads(file.read_text()) | {"bos_token_id": None}))
    with pytest.raises(TaskError, match="has no BOS token: set it to null") as raised:
        LanguageModels(device="cpu").get(source)
    assert raised.value.code == "CONFLICT"


def test_a_bos_that_the_embedding_does_not_have_is_a_conflict(tiny_model_dir: Path, tmp_path: Path) -> None:
    tokenizer = with_template(tiny_tokenizer(tiny_model_dir), "$A")
    tokenizer.add_special_tokens({"bos_token": "<beyond>"})
    directory = tmp_path / "m"
    save_with(tokenizer, tiny_model_dir, directory)
    config = json.loads((directory / "config.json").read_text())
    assert tokenizer.bos_token_id >= config["vocab_size"]
    source = save_with(tokenizer, tiny_model_dir, tmp_path / "other", add_bos=True)
    with pytest.raises(TaskError, match="has no BOS token: set it to null"):
        LanguageModels(device="cpu").get(source)


def test_what_stands_in_the_code_of_a_chat_template_is_no_marker(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer(tiny_model_dir)
    tokenizer.add_tokens(["[INST]", "[0]", "[SYS]", "[note]"])
    tokenizer.chat_template = "{# [note] #}[INST]{{ messages[0]['content'] + '[SYS]' }}"
    marked = reasons(loaded(tokenizer, tiny_model_dir, tmp_path / "m"))
    assert {"[INST]", "[SYS]"} <= marked.keys()
    assert not {"[0]", "[note]"} & marked.keys()
