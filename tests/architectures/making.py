"""Tiny models on disk: random weights, a tokenizer, and two prompts that end at different times."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig

from tests.architectures.bare import Bare
from tests.architectures.configs import architectures, model_class, tiny_config
from tests.architectures.overrides import TOKENIZERS
from tests.architectures.tokenizer_kinds import KINDS, make_tokenizer

MAX_NEW_TOKENS = 10
_PROMPTS = [
    "True and False",
    "for x in range: the items of a sequence",
    "a string is",
    "The values None and 0 are",
    "while the loop is not at its end, strings",
    "if it is empty",
]
_SEEDS = range(12)
_MARGIN = 2e-3
"""Between the two highest logits of every step, by their spread: nothing may hang on the last digits."""
_NOISE = 0.2


@dataclass(frozen=True)
class Made:
    """A tiny model on disk."""

    model_type: str
    class_name: str
    tokenizer: str
    """Which of KINDS."""
    directory: Path
    prompts: tuple[str, str]
    """The first ends at an end-of-text token while the second goes on."""


def tokenizer_of(model_type: str) -> str:
    """Say which kind of tokenizer a model type gets: its own where that matters, else one by its name."""
    return TOKENIZERS.get(model_type, list(KINDS)[number_of(model_type) % len(KINDS)])


def number_of(model_type: str) -> int:
    """Return a number by which choices are made: a model type keeps it when transformers has new ones."""
    return zlib.crc32(model_type.encode())


def make(model_type: str, directory: Path) -> Made:
    """Save a model, with weights of the first seed that makes two prompts end at different times.

    Raises ValueError where none does.
    """
    kind = tokenizer_of(model_type)
    tokenizer = make_tokenizer(kind)
    special = {f"{word}_token_id": getattr(tokenizer, f"{word}_token_id") for word in ("bos", "eos", "pad")}
    config = tiny_config(model_type, len(tokenizer) + 8, special)
    composite = None
    if model_class(model_type).config_class is not CONFIG_MAPPING[model_type]:
        composite, config = config, config.get_text_config()
    for seed in _SEEDS:
        _save(model_type, config, directory, seed)
        if composite is not None:
            composite.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        found = _prompts(directory)
        if found is not None:
            first, second, end = found
            _write_end(directory, [end])
            return Made(model_type, architectures()[model_type], kind, directory, (first, second))
    raise ValueError("no seed makes two prompts end at different times")


def _save(model_type: str, config: PreTrainedConfig, directory: Path, seed: int) -> None:
    torch.manual_seed(seed)
    language_model = model_class(model_type)._from_config(config)
    with torch.no_grad():
        for name, parameter in language_model.named_parameters():
            # Norms and biases that are not those of the start: a mix-up of two would show.
            if parameter.ndim == 1 and name.endswith(("weight", "bias")):
                parameter.add_(_NOISE * torch.randn_like(parameter))
    language_model.save_pretrained(directory)


def _prompts(directory: Path) -> tuple[str, str, int] | None:
    """Return two prompts and a token that ends the first one's text, after two to six others."""
    bare = Bare(directory)
    texts = {prompt: _clear(bare, prompt) for prompt in _PROMPTS}
    found = {prompt: ids for prompt, ids in texts.items() if ids}
    for first, ids in found.items():
        for place in range(2, 7):
            end = ids[place] if place < len(ids) else None
            if end is None or end in ids[:place] or end in bare.special or not _is_plain(bare, end):
                continue
            for second, others in found.items():
                if end not in others and len(others) == MAX_NEW_TOKENS:
                    return first, second, end
    return None


def _is_plain(bare: Bare, token_id: int) -> bool:
    return token_id < len(bare.tokenizer)


def _clear(bare: Bare, prompt: str) -> list[int]:
    """Return what greedy generation writes after a prompt, or nothing where a step is a near tie."""
    ids, logits = bare.generate_with_logits(prompt, MAX_NEW_TOKENS)
    best = logits.topk(2, dim=1).values
    margin = (best[:, 0] - best[:, 1]) / logits.std(dim=1)
    return ids if bool((margin > _MARGIN).all()) and max(ids) < len(bare.tokenizer) else []


def _write_end(directory: Path, ids: list[int]) -> None:
    path = directory / "generation_config.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    before = content.get("eos_token_id")
    content["eos_token_id"] = ids + ([before] if isinstance(before, int) else [])
    path.write_text(json.dumps(content))
