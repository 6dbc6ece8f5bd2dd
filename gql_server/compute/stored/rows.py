"""The tokens of a stored activation run that count, stored batch by stored batch."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.context import TaskError
from gql_server.compute.stored.store import MASKS

from mi_crow.store.store import Store

MASKS_KEY = "attention_mask"
ACTIVATIONS_KEY = "activations"


class StoredRows:
    """One layer's activations without padding and special tokens, from any Store.

    Every failure to read is a TaskError. Trap: after a FileNotFoundError mi_crow's StoreDataloader silently
    takes another layer's activations, or skips the batch. ``check`` is called before each batch.
    """

    def __init__(self, store: Store, run_id: str, layer: str, check: Callable[[], None]) -> None:
        """Read the masks and count."""
        self._store = store
        self._run_id = run_id
        self._layer = layer
        self._check = check
        self._counts = self._count()

    @property
    def count(self) -> int:
        """How many tokens count."""
        return sum(self._counts.values())

    @property
    def indices(self) -> list[int]:
        """The stored batches that have any of them."""
        return list(self._counts)

    def read(self, index: int) -> Tensor:
        """Return a stored batch's rows that count, float32 [n, n_inputs]."""
        self._check()
        return self._read(index)

    def read_ahead(self, indices: Iterable[int]) -> Iterator[Tensor]:
        """Give some stored batches' rows; while one is used, a thread reads the next."""
        with ThreadPoolExecutor(1, "read-ahead") as reader:
            coming: Future[Tensor] | None = None
            for index in indices:
                here, coming = coming, reader.submit(self._read, index)
                if here is not None:
                    self._check()
                    yield here.result()
            if coming is not None:
                self._check()
                yield coming.result()

    def _read(self, index: int) -> Tensor:
        stored = self._tensor(index, self._layer, ACTIVATIONS_KEY, f"activations of layer {self._layer}")
        mask = self._mask(index)
        rows = stored.reshape(-1, stored.shape[-1])
        if len(rows) != len(mask):
            raise TaskError(
                f"Batch {index} of the activation run has {len(rows)} activations of layer {self._layer}, "
                f"but a mask of {len(mask)} positions; capture it again."
            )
        kept = rows[mask].float()
        if not torch.isfinite(kept).all():
            raise TaskError(f"Batch {index} of the activation run {_not_finite(stored.dtype)}.")
        return kept

    def _count(self) -> dict[int, int]:
        counts = {}
        for index in self._store.list_run_batches(self._run_id):
            self._check()
            counts[index] = int(self._mask(index).sum())
        return {index: count for index, count in counts.items() if count}

    def _mask(self, index: int) -> Tensor:
        return self._tensor(index, MASKS, MASKS_KEY, "attention mask").bool().flatten()

    def _tensor(self, index: int, layer: str, key: str, what: str) -> Tensor:
        try:
            tensor: Tensor = self._store.get_detector_metadata_by_layer_by_key(
                self._run_id, index, layer, key
            )
        except (OSError, KeyError) as error:
            reason = f"Batch {index} of the activation run has no {what} that can be read; capture it again."
            raise TaskError(reason) from error
        return tensor


def _not_finite(dtype: torch.dtype) -> str:
    if dtype == torch.float16:
        return "holds values that do not fit into FLOAT16; capture it again as BFLOAT16 or FLOAT32"
    return "holds values that are not finite, as the language model gave them; capture another layer or texts"
