"""Whether a directory's weights are all there and whole, told from the files alone: without torch."""

import json
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from gql_server.artifacts.files import open_plain

_SINGLE_OR_INDEX = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What transformers looks for, the first that there is."""
_OTHER_WEIGHTS = (
    "*.safetensors",
    "*.bin",
    "*.pth",
    "*.pt",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.gguf",
)
_LFS_POINTER = b"version https://git-lfs"
_MAX_HEADER_BYTES = 100_000_000
"""That of the safetensors library."""
_SHOWN = 5


def problem_of_weights(directory: Path, config: dict[str, Any]) -> str | None:
    """Say what is wrong with the files that transformers would load weights from, or return None."""
    asked = config.get("transformers_weights")
    names = [asked] if isinstance(asked, str) else _SINGLE_OR_INDEX
    name = next((name for name in names if (directory / name).is_file()), None)
    if name is None:
        return _no_weights(directory, names)
    if not name.endswith(".index.json"):
        return problem_of_file(directory / name)
    try:
        with open_plain(directory / name) as file:
            index = json.loads(file.read())
        shards = sorted(set(index["weight_map"].values()))
        outside = [shard for shard in shards if _is_outside(shard)]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return f"Its {name} is damaged: it does not say which weights are in which file."
    if not isinstance(index.get("metadata"), dict):
        return f"Its {name} is damaged: it has no metadata, without which transformers does not read it."
    if outside:
        return f"Its {name} names files outside the directory: {listed(outside)}."
    missing = [shard for shard in shards if not (directory / shard).is_file()]
    if missing:
        of = f"{len(missing)} of the {len(shards)} files of weights"
        return f"It lacks {of} that {name} names: {listed(missing)}."
    problems = (problem_of_file(directory / shard) for shard in shards)
    return next((problem for problem in problems if problem), None)


def problem_of_file(path: Path) -> str | None:
    """Say why a file cannot be whole: empty, cut off, or a stand-in that Git left for it."""
    size = path.stat().st_size
    if not size:
        return f"Its {path.name} is empty."
    with open_plain(path) as file:
        start = file.read(len(_LFS_POINTER))
        if start == _LFS_POINTER:
            return f"Its {path.name} is not the file itself but a Git LFS pointer to it: run git lfs pull."
        if path.suffix == ".safetensors":
            expected = _safetensors_size(file)
            if expected is None:
                return f"Its {path.name} is no safetensors file, or its beginning is damaged."
            if expected != size:
                return (
                    f"Its {path.name} is cut off or damaged: it has {size:,} bytes instead of {expected:,}."
                )
    if path.suffix == ".bin" and start[:2] == b"PK" and not zipfile.is_zipfile(path):
        return f"Its {path.name} is cut off: the end of the archive is missing."
    return None


def listed(names: Iterable[str]) -> str:
    """Join names for a sentence: the first few, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _no_weights(directory: Path, names: Iterable[str]) -> str:
    found = sorted({path.name for pattern in _OTHER_WEIGHTS for path in directory.glob(pattern)})
    if any("-of-0" in name for name in found):
        index = f"{_SINGLE_OR_INDEX[1]} or {_SINGLE_OR_INDEX[3]}"
        return f"It has no index of its weights ({index}), which says what is in which of {listed(found)}."
    only = f"; there is only {listed(found)}" if found else ""
    return f"It has no weights that can be loaded ({', '.join(names)}){only}."


def _is_outside(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _safetensors_size(file: BinaryIO) -> int | None:
    """Return how many bytes a safetensors file has by its own header, or None where that is none."""
    file.seek(0)
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MAX_HEADER_BYTES:
            return None
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return 8 + int(length) + int(max(ends, default=0))
    except (struct.error, ValueError, RecursionError, KeyError, TypeError, AttributeError, IndexError):
        return None
