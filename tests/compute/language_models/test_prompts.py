"""The tokens of a prompt: every one is there, their texts joined are the prompt, and each can be shown."""

import json
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    ByT5Tokenizer,
    CanineTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from gql_server.compute.language_models.prompts import encode_prompts
from tests.support.tiny_tokenizers import tiny_tokenizer

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.store.local_store import LocalStore

PROMPTS = [
    "a string is not None",
    "naïve 😀 and 日本語 🏳️‍🌈!",
    "  two spaces, and two at the end  ",
    "line\n\n\tends \n",
    "Übergröße ﬁne CAFÉ",
    "broken \N{REPLACEMENT CHARACTER} already",
    "",
]
TEXTS = [topics["booleans"], topics["for"]]


def byte_fallback() -> Any:
    """As Llama 2's: characters that are not in the vocabulary as bytes, ▁ for spaces, one in front."""
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator([text.replace(" ", "▁") for text in TEXTS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    # Byte tokens are ordinary ones.
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] in special]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(values)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def word_piece() -> Any:
    """As BERT's: lowercase, without accents, spaces left out, [UNK] for words with a strange character."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def unigram() -> Any:
    """As T5's: normalized, ▁ for spaces, one in front."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


KINDS: dict[str, Callable[[Path], Any]] = {
    "byte-level": tiny_tokenizer,
    "byte fallback": lambda _: byte_fallback(),
    "word pieces": lambda _: word_piece(),
    "unigram": lambda _: unigram(),
    "ByT5": lambda _: ByT5Tokenizer(),
    "Canine": lambda _: CanineTokenizer(),
}


@pytest.fixture(params=KINDS)
def lm(request: pytest.FixtureRequest, tiny_model_dir: Path, tmp_path: Path) -> LanguageModel:
    """Give a model with an embedding for all that a tokenizer knows."""
    tokenizer = KINDS[request.param](tiny_model_dir)
    config = LlamaConfig(
        vocab_size=130_000 if request.param == "Canine" else 700,
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    torch.manual_seed(0)
    return LanguageModel(LlamaForCausalLM(config), tokenizer, LocalStore(str(tmp_path)), device="cpu")


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_token_is_there_and_their_texts_are_the_prompt(lm: LanguageModel, prompt: str) -> None:
    (encoded,) = encode_prompts(lm, [prompt])
    content = list(lm.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    assert encoded.token_ids[len(encoded.tokens) - len(content) :] == content
    assert [token.index for token in encoded.tokens] == list(range(len(encoded.tokens)))
    own = encoded.tokens[len(encoded.tokens) - len(content) :]
    if content:
        assert "".join(token.text for token in own) == prompt
    assert all(token.label for token in encoded.tokens)


@pytest.mark.parametrize("name", ["byte-level", "byte fallback", "ByT5"])
def test_parts_of_a_character_are_labeled_by_their_bytes_and_the_first_has_it_whole(
    name: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    config = LlamaConfig(
        vocab_size=700, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    model = LlamaForCausalLM(config)
    lm = LanguageModel(model, KINDS[name](tiny_model_dir), LocalStore(str(tmp_path)), device="cpu")
    (encoded,) = encode_prompts(lm, ["x😀語y"])
    shown = [(token.text, token.label) for token in encoded.tokens if not token.special][-9:]
    expected = [("x", "x")] if name != "byte fallback" else [shown[0]]
    for character in "😀語":
        raw = character.encode()
        texts = [character] + [""] * (len(raw) - 1)
        expected += [(text, f"<0x{byte:02X}>") for text, byte in zip(texts, raw, strict=True)]
    assert shown == [*expected, ("y", "y")]
