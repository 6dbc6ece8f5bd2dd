"""Files of tensors, written without another copy of them in memory."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from gql_server.compute.formats.source_files import CHUNK_BYTES

_DTYPES = {torch.float32: "F32"}
_ALIGNMENT = 8


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], check: Callable[[], None]) -> None:
    """Write what safetensors' ``save_file`` writes of float32 tensors, byte by byte, a part at a time.

    No more than a part is in memory beside the tensors, of which ``save_file`` makes a copy. A transposed
    view is written in the order of its own rows.

    Args:
        path: The file.
        tensors: By name, in float32 and on the CPU.
        check: Called between parts; what it raises ends the writing.
    """
    names, header, end = sorted(tensors), dict[str, object](), 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        for name in names:
            tensor = tensors[name].detach()
            rows = tensor if tensor.dim() else tensor.reshape(1)
            n_bytes = max(1, rows[0].numel() * rows.element_size()) if len(rows) else 1
            for part in rows.split(max(1, CHUNK_BYTES // n_bytes)):
                check()
                file.write(part.contiguous().numpy().data)


def write_state_dict(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a plain state dict with torch.save, which writes each tensor's memory as it is.

    A transposed view keeps its strides; torch, and ``load_state_dict``, read it as what it is.
    """
    torch.save({name: _alone(tensor.detach()) for name, tensor in tensors.items()}, path)


def _alone(tensor: Tensor) -> Tensor:
    """Return a tensor that shares its memory with nothing else that would be written with it."""
    is_alone = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if is_alone else tensor.clone()
