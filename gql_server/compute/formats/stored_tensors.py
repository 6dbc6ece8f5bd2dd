"""Reading one tensor of a file piece by piece, so that no more of it is in memory than what comes of it."""

from collections.abc import Callable
from typing import BinaryIO

import torch
from torch import Tensor

from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources.tensor_files import TensorHeader

TYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
PIECE_BYTES = 4 * 1024 * 1024


def silent(n_values: int) -> None:
    """Tell nobody of a piece."""


def read_into(
    target: Tensor, file: BinaryIO, tensor: TensorHeader, tell: Callable[[int], None] = silent
) -> None:
    """Read a tensor's values into another of its shape, widened where that is wider.

    Args:
        target: A scalar, a vector or a matrix; may be a transposed view.
        file: Is read from the tensor's place on.
        tensor: Where it lies.
        tell: Called with the number of values of each piece once that is read; may raise.

    Raises:
        TaskError: The file ends early, or values are NaN, infinite, or more precise than the target.
    """
    stored = target.T if tensor.is_transposed else target
    rows = stored if stored.ndim == 2 else stored.reshape(1, -1)
    dtype = TYPES[tensor.dtype]
    step = max(1, PIECE_BYTES // max(1, rows.shape[1] * dtype.itemsize))
    file.seek(tensor.offset)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        part.copy_(_widened(tensor.name, _read(file, part.numel(), dtype), part.dtype).reshape(part.shape))
        tell(part.numel())


def _read(file: BinaryIO, n_values: int, dtype: torch.dtype) -> Tensor:
    piece = torch.empty(n_values * dtype.itemsize, dtype=torch.uint8)
    if file.readinto(piece.numpy().data) != len(piece):  # type: ignore[attr-defined]
        raise TaskError("A file of weights ends before its tensors do.")
    return piece.view(dtype)


def _widened(name: str, values: Tensor, dtype: torch.dtype) -> Tensor:
    converted = values.to(dtype)
    if not bool(torch.isfinite(values).all()):
        raise TaskError(f"The tensor {name} has values that are NaN or infinite.")
    if values.dtype == torch.float64 and not torch.equal(converted.double(), values):
        raise TaskError(
            f"The tensor {name} is more precise than the float32 in which SAEs are computed here."
        )
    return converted
