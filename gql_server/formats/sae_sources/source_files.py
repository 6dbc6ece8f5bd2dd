"""What lies at a path that a client has named: the files' names, and a way to read a bounded part of each."""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from gql_server.formats.sae_sources.refusing import NotRepresentable, shown
from gql_server.formats.sae_sources.tensor_files import (
    TensorFile,
    read_checkpoint,
    read_npz,
    read_safetensors,
    read_scalar,
)

MAX_JSON_BYTES = 1024 * 1024
"""The largest file of JSON that is read; a real one has one or two thousand bytes."""
CHECKPOINT_SUFFIXES = (".pt", ".pth")

Opener = Callable[[str], AbstractContextManager[BinaryIO]]


class SourceFiles:
    """Files of a directory, or one of them that was named; each is read once."""

    def __init__(self, path: str, names: Sequence[str], chosen: str | None, opener: Opener) -> None:
        """Take what was named, and how its files are opened.

        Args:
            path: As the client has named it; layouts without a configuration say in it what they are.
            names: The files that are there, relative to the directory, in no order.
            chosen: The one of them that was named; None where it was the directory.
            opener: Opens a file by its name; the file has a descriptor.
        """
        self.path, self.names, self.chosen = path, frozenset(names), chosen
        self._opener = opener
        self._json: dict[str, dict[str, Any]] = {}
        self._tensors: dict[str, TensorFile] = {}

    def pick(self, *names: str) -> str | None:
        """Return the first of some names that is there, if it was named or the directory was."""
        return next((name for name in names if name in self.names and self.chosen in (None, name)), None)

    def pick_like(self, pattern: str) -> str | None:
        """Return the file that matches, if it is the only one or was named."""
        names = [self.chosen] if self.chosen else sorted(self.names)
        found = [name for name in names if re.fullmatch(pattern, PurePosixPath(name).name)]
        return found[0] if len(found) == 1 else None

    @property
    def checkpoint(self) -> str | None:
        """The .pt or .pth file, if it is the only one or was named."""
        return self.pick_like(r".+\.pth?")

    def json(self, name: str) -> dict[str, Any]:
        """Return a file's JSON object. NotRepresentable where it has none, or is too large."""
        if name not in self._json:
            with self._opener(name) as file:
                file.seek(0)
                self._json[name] = parse_json(name, file.read(MAX_JSON_BYTES + 1))
        return self._json[name]

    def json_if_any(self, name: str) -> dict[str, Any]:
        """Return a file's JSON object, and an empty one where there is no such file."""
        return self.json(name) if name in self.names else {}

    def tensors(self, name: str) -> TensorFile:
        """Return what a file says of its tensors. NotRepresentable where it is damaged."""
        if name not in self._tensors:
            read = {".safetensors": read_safetensors, ".npz": read_npz}.get(
                PurePosixPath(name).suffix, read_checkpoint
            )
            with self._opener(name) as file:
                self._tensors[name] = read(name, file)
        return self._tensors[name]

    def scalar(self, name: str, tensor: str) -> float:
        """Return the number that a tensor of a file has."""
        found = self.tensors(name).tensors[tensor]
        with self._opener(name) as file:
            return read_scalar(file, found)

    def in_path(self, pattern: str) -> str | None:
        """Return the last group that matches in the path that was named."""
        found = re.findall(pattern, self.path)
        return str(found[-1]) if found else None


def parse_json(name: str, content: bytes) -> dict[str, Any]:
    """Return a JSON object. NotRepresentable where it is none, or too large."""
    if len(content) > MAX_JSON_BYTES:
        raise NotRepresentable(f"{name} is larger than it may be; the limit is {MAX_JSON_BYTES:,} bytes.")
    try:
        found = json.loads(content, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise NotRepresentable(f"{name} is not JSON: name a directory that its library has saved.") from None
    if not isinstance(found, dict):
        raise NotRepresentable(f"{name} is not a JSON object: name a directory that its library has saved.")
    return found


# ------------------------------------------------------------------------------- JSON values


def whole_number(name: str, cfg: dict[str, Any], key: str) -> int:
    """Return a number from 1. NotRepresentable where there is none."""
    value = cfg.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise NotRepresentable(f"{name}: {key} must be a number from 1, not {shown(value)}.")
    return value


def flag(name: str, cfg: dict[str, Any], key: str, *, default: bool) -> bool:
    """Return true or false. NotRepresentable where something else is there."""
    value = cfg.get(key, default)
    if not isinstance(value, bool):
        raise NotRepresentable(f"{name}: {key} must be true or false, not {shown(value)}.")
    return value


def positive(name: str, cfg: dict[str, Any], key: str) -> float:
    """Return a number above 0. NotRepresentable where there is none."""
    value = cfg.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
        raise NotRepresentable(f"{name}: {key} must be a number above 0, not {shown(value)}.")
    return float(value)


def number(cfg: dict[str, Any], key: str) -> int | float | None:
    """Return a number that a file of JSON can have, or None where there is none."""
    value = cfg.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not -1e15 < value < 1e15:
        return None
    return value


def text(cfg: dict[str, Any], key: str) -> str | None:
    """Return a short text, or None where there is none."""
    value = cfg.get(key)
    # JSON can spell half a character, which no file or database takes.
    return value.encode(errors="replace").decode()[:300] if isinstance(value, str) else None
