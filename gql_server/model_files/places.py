"""Where language models lie under the server's model directories."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

MAX_FOUND = 100
MAX_LOOKED_AT = 10_000
"""Entries of directories; more are not looked at, such as a data set's that lie in a model directory."""
DEPTH = 2
"""Directories below a model directory that are looked into: owner/name has two."""


def places(model_dirs: Sequence[Path]) -> list[str]:
    """Return directories with a config.json, and GGUF files, sorted, at most ``MAX_FOUND``.

    Whether each is a whole language model is not looked at. Links are not followed.
    """
    entries = (entry for root in model_dirs for entry in _walk(root.resolve(), DEPTH))
    models = [entry for entry in islice(entries, MAX_LOOKED_AT) if _is_model(entry)]
    return sorted({str(path.parent if path.name == "config.json" else path) for path in models})[:MAX_FOUND]


def _is_model(path: Path) -> bool:
    return (path.name == "config.json" or path.suffix == ".gguf") and path.is_file()


def _walk(directory: Path, depth: int) -> Iterator[Path]:
    """Give the entries of a directory and of those in it."""
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return
    yield from entries
    if depth:
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                yield from _walk(entry, depth - 1)
