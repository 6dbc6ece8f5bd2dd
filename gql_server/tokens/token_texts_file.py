"""What each token stands for, in a file beside a language model whose tokenizer has no tokenizer.json."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

TOKEN_TEXTS_FILE = "token_texts.json"


def token_texts(directory: Path, token_ids: Sequence[int]) -> list[str | None]:
    """Return what tokens stand for; None where there is no file, or no such token in it."""
    path = directory / TOKEN_TEXTS_FILE
    try:
        texts = _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return [None] * len(token_ids)
    return [texts[token_id] if 0 <= token_id < len(texts) else None for token_id in token_ids]


@lru_cache(maxsize=4)
def _read(path: Path, _written_at: int) -> list[str]:
    texts: list[str] = json.loads(path.read_bytes())
    return texts
