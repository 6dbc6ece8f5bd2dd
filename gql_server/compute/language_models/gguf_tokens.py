"""Control tokens of GGUF files, some of which a conversion would lose."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers.integrations.gguf.reader import read_gguf_metadata

from gql_server.artifacts.files import atomic_write

CONTROL_FILE = "control_token_ids.json"
"""In the converted copy: the ids of the tokens that the GGUF file marks as control tokens."""
_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_CONTROL, _USER_DEFINED = 3, 4


def keep_marks(file: Path, tokenizer: Any, directory: Path) -> None:
    """Give a converted tokenizer the tokens that the file marks, and write down which are control tokens.

    Byte-level vocabularies are spelled in GPT-2's alphabet, but some marked tokens are not (DeepSeek's, with
    wide bars), and transformers leaves those out: a text with one would fall to pieces. It also adds tokens
    of its own (<|endoftext|>) that the file does not have, nor the model an embedding for.
    """
    metadata, _ = read_gguf_metadata(str(file), (_TOKENS,))
    tokens, types = metadata.get(_TOKENS) or [], metadata.get(_TYPES) or []
    marked = {place: kind for place, kind in enumerate(types) if kind in (_CONTROL, _USER_DEFINED)}
    control = {place for place, kind in marked.items() if kind == _CONTROL}
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if isinstance(content["model"]["vocab"], dict):
        _keep_own(content, tokens)
        known = {token["id"] for token in content["added_tokens"]}
        _add(content, {place: tokens[place] for place in marked if place not in known}, control)
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    atomic_write(directory / CONTROL_FILE, json.dumps(sorted(control)).encode())


def control_ids_of(directory: Path) -> list[int]:
    """Return what a conversion has written down; nothing for what is none, or one of an earlier version."""
    try:
        return list(json.loads((directory / CONTROL_FILE).read_text()))
    except FileNotFoundError:
        return []


def _keep_own(content: dict[str, Any], tokens: list[str]) -> None:
    """Take out added tokens that the file does not have."""
    content["added_tokens"] = [
        token
        for token in content["added_tokens"]
        if token["id"] < len(tokens) and token["content"] == tokens[token["id"]]
    ]


def _add(content: dict[str, Any], lost: dict[int, str], control: set[int]) -> None:
    """Add tokens under the ids that they have in the file.

    The vocabulary has them under another spelling; it gets the right one, as an added token must be in it.
    One that words are merged into is no marker and stays.
    """
    vocabulary = content["model"]["vocab"]
    merged = _merged(content["model"].get("merges") or []) if lost else set()
    spelled = {place: name for name, place in vocabulary.items() if place in lost and name not in merged}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for place, name in spelled.items():
        if not (text := lost[place]) or text in vocabulary:
            continue
        del vocabulary[name]
        vocabulary[text] = place
        token = {"id": place, "content": text, "special": place in control} | flags
        content["added_tokens"].append(token)
    content["added_tokens"].sort(key=lambda token: token["id"])


def _merged(merges: list[Any]) -> set[str]:
    """Return all that merges are made of and make."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return {name for pair in pairs for name in (*pair, "".join(pair))}
