"""Tiny GPT-2s with activations of extreme size, and a tokenizer that puts no special token first."""

from pathlib import Path
from pydoc_data.topics import topics

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gql_server.protocol.sources import LanguageModelSource

LAYER = "gpt2lmheadmodel_transformer_h_0"
WIDTH = 32
_LARGE = 4e4
"""Twice this is more than FLOAT16 holds."""


def source_of(directory: Path, dtype: str = "FLOAT32") -> LanguageModelSource:
    """Return a saved model as tasks name it."""
    copy = directory.parent / f"copy-{dtype}"
    return LanguageModelSource(f"lm_{dtype}", "DIRECTORY", str(directory), None, dtype, str(copy))


def make_sink(directory: Path, factor: float = 200.0) -> Path:
    """Save a model whose first position has activations far longer than all others: an attention sink."""
    lm, tokenizer = _make()
    with torch.no_grad():
        lm.transformer.wpe.weight[0] *= factor
    return _save(directory, lm, tokenizer)


def make_overflow(directory: Path, word: str = "The") -> Path:
    """Save a model that leaves FLOAT16's range on texts that begin with ``word``, and nowhere else."""
    lm, tokenizer = _make()
    (token_id,) = tokenizer(word)["input_ids"]
    with torch.no_grad():
        lm.transformer.wpe.weight[0, 3] = _LARGE
        lm.transformer.wte.weight[token_id, 3] = _LARGE
    return _save(directory, lm, tokenizer)


def _make() -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([topics["booleans"], topics["for"], topics["strings"]], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=128,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    return GPT2LMHeadModel(config), tokenizer


def _save(directory: Path, lm: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> Path:
    lm.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
