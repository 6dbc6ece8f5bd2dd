"""Loads a model's tokenizer, and refuses one that is missing, half there, or another model's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gql_server.compute.language_models.load_failures import NotLoadable, sentences_of
from gql_server.compute.language_models.sentencepiece_tokenizers import as_sentencepiece, sentencepiece_file

_SMALLEST_SHARE = 0.5
"""Least share of the embedding's rows that the tokenizer has tokens for; most models pad a few percent."""
_PROBES = (
    "The word",
    "for i in (x_y):\n\n    print(12345)\t# 3.5 %",
    " Ünïcode, nai\u0308ve: 日本語, 🙂\u00a0…",
    "DON'T we'll  see",
)
"""Texts that tokenizers take apart in other ways: spaces, capitals, digits, line ends, rare characters."""


def load_tokenizer(place: str, n_rows: int, **options: Any) -> Any:
    """Load the tokenizer of a directory, or of a GGUF file in it, for an embedding of ``n_rows`` tokens.

    Raises NotLoadable where transformers makes none, makes one of half of the files, or one that cannot take
    ordinary text.
    """
    pieces = None if "gguf_file" in options else sentencepiece_file(Path(place))
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
    except Exception as error:
        if pieces is None or isinstance(error, MemoryError):
            _check_file(Path(place) / "tokenizer.json")
            raise NotLoadable(f"Its tokenizer could not be made: {sentences_of(error)}") from error
        tokenizer = None
    if pieces is not None:
        tokenizer = as_sentencepiece(tokenizer, pieces)
    _check_vocabulary(tokenizer, n_rows)
    _check_encoding(tokenizer)
    return tokenizer


def notes_of_tokenizer(tokenizer: Any, place: Path) -> list[str]:
    """Say where a tokenizer takes texts apart in another way than the tokenizer.json in its directory would.

    transformers takes the vocabulary from that file for many classes, and the rest from the class.
    """
    path = place / "tokenizer.json"
    if not path.is_file() or not isinstance(tokenizer, PreTrainedTokenizerFast):
        return []
    try:
        by_file = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers has no other class of errors.
        return [f"Its tokenizer.json cannot be read as a whole: {sentences_of(error)}"]
    by_file.no_truncation()
    by_file.no_padding()
    for text in _PROBES:
        ours, theirs = tokenizer.encode(text), by_file.encode(text).ids
        if ours != theirs:
            made, meant = _shown(tokenizer, ours), _shown(by_file, theirs)
            return [
                f"Its tokens are those of transformers' {type(tokenizer).__name__}, as tokenizer_config.json"
                f" names it, and not quite those of its tokenizer.json: {text!r} becomes"
                f" {made} instead of {meant}. Where the model was trained with the latter, set"
                " tokenizer_class to PreTrainedTokenizerFast and load it again."
            ]
    return []


def _shown(tokenizer: Any, ids: Sequence[int]) -> str:
    convert = tokenizer.id_to_token if isinstance(tokenizer, Tokenizer) else tokenizer.convert_ids_to_tokens
    return " ".join(str(convert(token_id)) for token_id in ids)


def _check_file(path: Path) -> None:
    """Say what is wrong with a tokenizer.json of which no tokenizer could be made, where that is plain."""
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise NotLoadable("Its tokenizer.json is damaged: it is no JSON object.")
    if "model" not in content:
        raise NotLoadable("Its tokenizer.json is damaged: it has no model.")


def _check_encoding(tokenizer: Any) -> None:
    for text in _PROBES:
        try:
            tokenizer(text)
        except Exception as error:
            raise NotLoadable(
                f"Its tokenizer, a {type(tokenizer).__name__}, cannot take ordinary text such as {text!r}: "
                f"{sentences_of(error)} Its files are incomplete, or the tokenizer_class in "
                "tokenizer_config.json is another model's."
            ) from error


def _check_vocabulary(tokenizer: Any, n_rows: int) -> None:
    n_tokens = len(tokenizer)
    if n_tokens < _SMALLEST_SHARE * n_rows or n_tokens <= len(tokenizer.all_special_ids):
        raise NotLoadable(
            f"Its tokenizer knows {n_tokens:,} tokens and the model {n_rows:,}: its files are incomplete or "
            "another model's. Add those that belong to the model, such as tokenizer.json."
        )
