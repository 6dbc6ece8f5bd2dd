"""Small tokenizers of the kinds that decoders come with, trained on a few pages of Python's manual."""

import json
from collections.abc import Callable
from functools import cache
from pydoc_data.topics import topics
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 360
_PAGES = ("booleans", "for", "strings")


def _texts() -> list[str]:
    return [topics[page] for page in _PAGES]


def _byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def _around(tokenizer: Tokenizer, template: str, *tokens: str) -> None:
    """Have the tokenizer write special tokens around a text."""
    special = [(token, tokenizer.token_to_id(token)) for token in tokens]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)


def byte_level_with_bos() -> Any:
    """Make a byte-level BPE that writes <bos>, as Llama 3's does."""
    tokenizer = _byte_level(["<bos>", "<eos>", "<pad>"])
    _around(tokenizer, "<bos> $A", "<bos>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


def byte_level_without_special_tokens() -> Any:
    """Make a byte-level BPE that knows no special token at all."""
    return PreTrainedTokenizerFast(tokenizer_object=_byte_level([]))


def byte_fallback() -> Any:
    """Make a BPE on pieces with ▁ that writes characters it does not know as bytes, as Llama 2's does."""
    special = ["<unk>", "<s>", "</s>"]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY + 60, special_tokens=special + pieces, show_progress=False
    )
    # One word a line: without a pre-tokenizer a whole page would be one word.
    words = [f" {word}" for text in _texts() for word in text.split()]
    tokenizer.train_from_iterator(words, trainer)
    # The trainer makes the bytes special tokens, at which the model's byte fallback does not look.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [one for one in content["added_tokens"] if one["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    _around(tokenizer, "<s> $A", "<s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def unigram_with_eos() -> Any:
    """Make a SentencePiece-like Unigram that appends </s>, as T5's does."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    _around(tokenizer, "$A </s>", "</s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="<pad>"
    )


def word_piece() -> Any:
    """Make a WordPiece with [CLS] and [SEP], as BERT's is."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    _around(tokenizer, "[CLS] $A [SEP]", "[CLS]", "[SEP]")
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)


KINDS: dict[str, Callable[[], Any]] = {
    "byte-level BPE, BOS": byte_level_with_bos,
    "byte-level BPE, no special tokens": byte_level_without_special_tokens,
    "byte-fallback BPE": byte_fallback,
    "Unigram, EOS appended": unigram_with_eos,
    "WordPiece": word_piece,
}


@cache
def make_tokenizer(kind: str) -> Any:
    """Make a tokenizer of a kind, once."""
    return KINDS[kind]()
