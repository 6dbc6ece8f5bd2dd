"""What a directory must hold to be a language model, told from its files alone: without torch."""

import json
from pathlib import Path
from typing import Any

from gql_server.artifacts.files import open_plain
from gql_server.model_files.kinds import other_kind
from gql_server.model_files.weights import listed, problem_of_file, problem_of_weights

_ADAPTER_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "pytorch_adapter.bin",
)
_HALVES = ("vocab.json", "merges.txt")
"""Of a byte-pair tokenizer; transformers would make another one of a vocabulary without its merges."""
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tekken.json",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "*.tokenizer",
    "*vocab*",
    "merges.txt",
    "bpe.codes",
    "dict.txt",
)
_JSON_OBJECTS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)
"""What transformers reads beside config.json. tokenizer.json takes seconds to read: the load looks at it."""
_NO_FILES_NEEDED = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers of bytes or code points, which have no vocabulary to keep."""
_HOW_TO_MERGE = "merge it into its base model (merge_and_unload of peft) and save that"


def link_leads_out(name: str) -> str:
    """Return what to say of a link in a model's directory to what may not be read."""
    return (
        f"Its {name} is a link that leads out of this server's model directories: put the file itself there, "
        "or have the server's operator add the directory that it leads to."
    )


def problem_of_directory(directory: Path) -> str | None:
    """Say in a sentence or two why a directory is no whole causal language model, or return None.

    What only transformers can tell is left to the load.
    """
    config = _read(directory / "config.json")
    adapter = _problem_of_adapter(directory, has_config=config is not None)
    if adapter is not None:
        return adapter
    if not isinstance(config, dict):
        return "It has no readable config.json: name a directory in Hugging Face format."
    if "model_type" not in config:
        return "Its config.json names no model_type: name a model in Hugging Face format."
    return (
        other_kind(config)
        or problem_of_weights(directory, config)
        or _problem_of_tokenizer(directory)
        or _problem_of_json(directory)
    )


def _problem_of_adapter(directory: Path, has_config: bool) -> str | None:
    """Say that a directory is an adapter, or that one lies beside a model, which would run without it."""
    found = [name for name in _ADAPTER_FILES if (directory / name).is_file()]
    if not found:
        return None
    adapter = _read(directory / _ADAPTER_FILES[0])
    said = adapter if isinstance(adapter, dict) else {}
    kind = f"{said['peft_type']} adapter" if isinstance(said.get("peft_type"), str) else "adapter"
    if has_config:
        return (
            f"It holds a {kind} ({listed(found)}) beside a language model, which would run without it: "
            f"{_HOW_TO_MERGE}, or take the adapter's files away to use the base model alone."
        )
    base = said.get("base_model_name_or_path")
    named = f" of {Path(base).name if Path(base).is_absolute() else base}" if isinstance(base, str) else ""
    return f"It is a {kind}{named} ({listed(found)}), not a language model: {_HOW_TO_MERGE}."


def _problem_of_tokenizer(directory: Path) -> str | None:
    found = sorted({path for pattern in _TOKENIZER_FILES for path in directory.glob(pattern)})
    damaged = next((problem for path in found if (problem := problem_of_file(path))), None)
    if damaged is not None:
        return damaged
    names = {path.name for path in found}
    if names and names < set(_HALVES):
        missing = next(name for name in _HALVES if name not in names)
        return f"Its tokenizer is half there: beside {', '.join(names)} it needs {missing} or tokenizer.json."
    config = _read(directory / "tokenizer_config.json")
    said = config if isinstance(config, dict) else {}
    if found or said.get("tokenizer_class") in _NO_FILES_NEEDED:
        return None
    alone = " tokenizer_config.json alone has no vocabulary." if config is not None else ""
    return (
        "It has no tokenizer: add the files of the model's tokenizer, such as tokenizer.json, "
        f"tokenizer.model, or vocab.json and merges.txt.{alone}"
    )


def _problem_of_json(directory: Path) -> str | None:
    for path in (directory / name for name in _JSON_OBJECTS):
        if path.is_file() and not isinstance(_read(path), dict):
            return f"Its {path.name} is damaged: it is no JSON object."
    return None


def _read(path: Path) -> Any:
    """Return what a JSON file holds, or None where there is none that can be read."""
    try:
        with open_plain(path) as file:
            return json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None
