"""The tiny model beside tokenizers of other kinds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gql_server.protocol.sources import LanguageModelSource


def tiny_tokenizer(tiny_model_dir: Path) -> Any:
    """Return the tiny model's tokenizer, to be changed."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir)


def with_template(tokenizer: Any, template: str) -> Any:
    """Return the tokenizer with another template of what stands around a text, such as <bos> $A <eos>."""
    from tokenizers import processors

    names = {word for word in template.split() if word != "$A"}
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    )
    return tokenizer


def save_with(
    tokenizer: Any, tiny_model_dir: Path, directory: Path, *, rows: int | None = None, **options: Any
) -> LanguageModelSource:
    """Save the tiny model with a tokenizer, its embedding of so many rows; return it as a task names it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    if rows is not None:
        torch.manual_seed(3)
        model.resize_token_embeddings(rows, mean_resizing=False)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return LanguageModelSource(
        id=f"lm_{directory.name}",
        kind="DIRECTORY",
        location=str(directory),
        revision=None,
        dtype="FLOAT32",
        copy_dir=str(directory.with_name(f"{directory.name}-copy")),
        **options,
    )


def mark_added(directory: Path, tokens: Sequence[str], special: bool) -> None:
    """Rewrite the special flag of added tokens in a saved tokenizer.json."""
    file = directory / "tokenizer.json"
    content = json.loads(file.read_text())
    for added in content["added_tokens"]:
        if added["content"] in tokens:
            added["special"] = special
    file.write_text(json.dumps(content))
