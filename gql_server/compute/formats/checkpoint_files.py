"""Files that torch.save wrote: what they describe, and one tensor at a time, without torch's unpickler."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gql_server.compute.formats.refusals import as_task_errors
from gql_server.compute.formats.stored_tensors import TYPES, read_into
from gql_server.compute.worker.context import TaskError
from gql_server.formats.sae_sources.pickles import StoredTensor
from gql_server.formats.sae_sources.tensor_files import CheckpointFile, check_sums, opened_checkpoint


class TorchFile:
    """A file that torch.save wrote."""

    def __init__(self, file: BinaryIO, described: CheckpointFile) -> None:
        self._file, self._described = file, described
        self.root = described.root
        """The name that it was saved under."""
        self.content: Any = described.content
        """Dictionaries of StoredTensors and plain values."""

    def tensor(self, stored: StoredTensor, name: str = "") -> Tensor:
        """Read a tensor, in the type in which it is stored; errors call it ``name``.

        Raises TaskError where the file is damaged, or values are NaN or infinite.
        """
        with as_task_errors():
            header = self._described.header(name, stored)
        if stored.dtype not in TYPES:
            raise TaskError(f"The checkpoint has a tensor of {stored.dtype}, which no weights are.")
        target = torch.empty(stored.shape, dtype=TYPES[stored.dtype])
        read_into(target, self._file, header)
        return target


@contextmanager
def opened(path: Path) -> Iterator[TorchFile]:
    """Open a file that torch.save wrote. Raises TaskError where it is none, or damaged."""
    with path.open("rb") as file, as_task_errors(), opened_checkpoint(file) as described:
        check_sums(file, "The checkpoint")
        yield TorchFile(file, described)
