"""Loads a model's tokenizer, and refuses one that is missing, half there, or another model's."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from gql_server.compute.language_models.load_failures import NotLoadable, sentences_of
from gql_server.compute.language_models.sentencepiece_tokenizers import as_sentencepiece, sentencepiece_file

_SMALLEST_SHARE = 0.5
"""Of the embedding's rows, how many the tokenizer has tokens for at least; most pad by a few percent."""


def load_tokenizer(place: str, n_rows: int, **options: Any) -> Any:
    """Load the tokenizer of a directory, or of a GGUF file in it, for an embedding of ``n_rows`` tokens.

    Raises NotLoadable where transformers makes none, or would make one of half of the files.
    """
    pieces = None if "gguf_file" in options else sentencepiece_file(Path(place))
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
    except Exception as error:
        if pieces is None or isinstance(error, MemoryError):
            raise NotLoadable(f"Its tokenizer could not be made: {sentences_of(error)}") from error
        tokenizer = None
    if pieces is not None:
        tokenizer = as_sentencepiece(tokenizer, pieces)
    _check_vocabulary(tokenizer, n_rows)
    return tokenizer


def _check_vocabulary(tokenizer: Any, n_rows: int) -> None:
    n_tokens = len(tokenizer)
    if n_tokens < _SMALLEST_SHARE * n_rows or n_tokens <= len(tokenizer.all_special_ids):
        raise NotLoadable(
            f"Its tokenizer knows {n_tokens:,} tokens and the model {n_rows:,}: its files are incomplete or "
            "another model's. Add those that belong to the model, such as tokenizer.json."
        )
