"""The tokens of a stored activation run that count, stored batch by stored batch."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.exclusions import norms_of, positions_of, token_mask
from gql_server.compute.non_finite import MAX_SHARE
from gql_server.compute.storage.store import MASKS, ActivationStore
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.exclusions import Exclusions

from mi_crow.store.store import Store

MASKS_KEY = "attention_mask"
ACTIVATIONS_KEY = "activations"
_BYTES_PER_VALUE = 4
Read = TypeVar("Read")


@dataclass(frozen=True)
class StoredTokens:
    """A stored batch's tokens that are neither padding nor special, and finite."""

    rows: Tensor
    """Activations, float32 [n, n_inputs]."""
    positions: Tensor
    """Each token's position in its text [n]."""
    non_finite_count: int
    """How many further tokens are not finite."""


class StoredRows:
    """One layer's activations without padding, special tokens and exclusions, from any Store.

    All is read once at the start: ``exclusions`` have the median norm then. Of values that are NaN or
    infinite, which captures of earlier versions have stored, some may be left out.

    Every failure to read is a TaskError. Trap: after a FileNotFoundError mi_crow's StoreDataloader silently
    takes another layer's activations, or skips the batch. ``check`` is called before each batch.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        layer: str,
        check: Callable[[], None],
        exclusions: Exclusions = Exclusions(),  # noqa: B008 (it is frozen)
        keep_bytes: int = 0,
    ) -> None:
        """Read everything; TaskError where nothing can be read, or too much of it is not finite.

        What counts is kept as ``everything`` where it takes at most ``keep_bytes`` with the exclusions.
        """
        self._store, self._run_id, self._layer, self._check = store, run_id, layer, check
        self.exclusions = msgspec.structs.replace(exclusions, median_norm=None)
        self.everything: Tensor | None = None
        self.non_finite_count = self.n_inputs = 0
        in_masks = self._count()
        self._counts = self._look(in_masks, keep_bytes)
        self.all_indices = list(in_masks)
        """The stored batches that have tokens, be they all excluded."""
        self.token_count = sum(in_masks.values()) - self.non_finite_count
        """How many tokens are finite and neither padding nor special."""
        self.excluded_count = self.token_count - self.count

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

    def read_tokens(self, index: int) -> StoredTokens:
        """Return a stored batch's tokens, those among them that are excluded."""
        self._check()
        return self._tokens(index)

    def read_ahead(self, indices: Iterable[int]) -> Iterator[Tensor]:
        """Give some stored batches' rows; while one is used, a thread reads the next."""
        return self._ahead(self._read, indices)

    def _ahead(self, read: Callable[[int], Read], indices: Iterable[int]) -> Iterator[Read]:
        with ThreadPoolExecutor(1, "read-ahead") as reader:
            coming: Future[Read] | None = None
            for index in indices:
                here, coming = coming, reader.submit(read, index)
                if here is not None:
                    self._check()
                    yield here.result()
            if coming is not None:
                self._check()
                yield coming.result()

    def _read(self, index: int) -> Tensor:
        tokens = self._tokens(index)
        kept = token_mask(self.exclusions, tokens.positions, tokens.rows)
        return tokens.rows if bool(kept.all()) else tokens.rows[kept]

    def _tokens(self, index: int) -> StoredTokens:
        stored = self._tensor(index, self._layer, ACTIVATIONS_KEY, f"activations of layer {self._layer}")
        mask = self._mask(index)
        rows, places = stored.reshape(-1, stored.shape[-1]), mask.flatten()
        if len(rows) != len(places):
            raise TaskError(
                f"Batch {index} of the activation run has {len(rows)} activations of layer {self._layer}, "
                f"but a mask of {len(places)} positions; capture it again."
            )
        kept, positions = rows[places].float(), positions_of(mask, self._lengths(index)).flatten()[places]
        finite = kept.isfinite().all(dim=1)
        if bool(finite.all()):
            return StoredTokens(kept, positions, 0)
        return StoredTokens(kept[finite], positions[finite], int((~finite).sum()))

    def _look(self, in_masks: dict[int, int], keep_bytes: int) -> dict[int, int]:
        """Find out the median norm, and how many tokens of each batch count."""
        seen: dict[int, tuple[Tensor, Tensor]] = {}
        kept = _Kept(sum(in_masks.values()), keep_bytes)
        for index, tokens in zip(in_masks, self._ahead(self._tokens, in_masks), strict=True):
            self.n_inputs = tokens.rows.shape[1]
            self.non_finite_count += tokens.non_finite_count
            # A number or two of each token: exact, and little beside its activations.
            seen[index] = norms_of(tokens.rows), tokens.positions
            kept.add(tokens.rows)
        self._check_finite(sum(in_masks.values()))
        norms = np.concatenate([of_batch.numpy() for of_batch, _ in seen.values()]) if seen else np.zeros(0)
        if len(norms):
            self.exclusions = msgspec.structs.replace(self.exclusions, median_norm=float(np.median(norms)))
        limit = self.exclusions.norm_limit
        chosen = {
            index: (positions >= self.exclusions.first_positions)
            & (torch.ones_like(positions, dtype=torch.bool) if limit is None else of_batch <= limit)
            for index, (of_batch, positions) in seen.items()
        }
        self.everything = kept.chosen(list(chosen.values()))
        counts = {index: int(of_batch.sum()) for index, of_batch in chosen.items()}
        return {index: count for index, count in counts.items() if count}

    def _count(self) -> dict[int, int]:
        counts = {}
        for index in self._store.list_run_batches(self._run_id):
            self._check()
            counts[index] = int(self._mask(index).sum())
        return {index: count for index, count in counts.items() if count}

    def _check_finite(self, token_count: int) -> None:
        if self.non_finite_count > MAX_SHARE * token_count:
            raise TaskError(
                f"The activation run has values that are NaN or infinite at {self.non_finite_count:,} of "
                f"{token_count:,} tokens, and {MAX_SHARE:.0%} may be left out. {CAPTURE_AGAIN}"
            )

    def _mask(self, index: int) -> Tensor:
        return self._tensor(index, MASKS, MASKS_KEY, "attention mask").bool()

    def _lengths(self, index: int) -> list[int] | None:
        store = self._store
        return store.read_lengths(self._run_id, index) if isinstance(store, ActivationStore) else None

    def _tensor(self, index: int, layer: str, key: str, what: str) -> Tensor:
        try:
            tensor: Tensor = self._store.get_detector_metadata_by_layer_by_key(
                self._run_id, index, layer, key
            )
        except (OSError, KeyError) as error:
            reason = f"Batch {index} of the activation run has no {what} that can be read; capture it again."
            raise TaskError(reason) from error
        return tensor


CAPTURE_AGAIN = (
    "Capture it again: as BFLOAT16 or FLOAT32 where it is stored as FLOAT16, and with the language model "
    "added again as BFLOAT16 or FLOAT32 where that computes in FLOAT16."
)


class _Kept:
    """The rows of all batches, one after the other; given up where they take more than ``most_bytes``."""

    def __init__(self, n_rows: int, most_bytes: int) -> None:
        self._n_rows, self._most_bytes = n_rows, most_bytes
        self._rows: Tensor | None = None
        self._n_held = 0

    def add(self, rows: Tensor) -> None:
        if self._n_rows * rows.shape[1] * _BYTES_PER_VALUE > self._most_bytes:
            return
        if self._rows is None:
            self._rows = torch.empty(self._n_rows, rows.shape[1])
        self._rows[self._n_held : self._n_held + len(rows)] = rows
        self._n_held += len(rows)

    def chosen(self, of_batches: list[Tensor]) -> Tensor | None:
        """Return the rows without those that the batches' masks leave out; None where they take too much."""
        if self._rows is None:
            return None
        start = end = 0
        for mask in of_batches:
            n_chosen = int(mask.sum())
            if start != end or n_chosen < len(mask):
                self._rows[end : end + n_chosen] = self._rows[start : start + len(mask)][mask]
            start, end = start + len(mask), end + n_chosen
        return self._rows[:end]
