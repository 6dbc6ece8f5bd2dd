"""What an SAE is trained on: a stored run's tokens, shuffled, in batches of one size."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.storage.rows import ACTIVATIONS_KEY, StoredRows
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.exclusions import Exclusions

from mi_crow.store.store import Store, TensorMetadata

_BYTES_PER_VALUE = 4
_BATCHES_TO_SAMPLE = 32


class TrainingStore(Store):
    """A Store for SaeTrainer over another Store: each epoch is a new order of the run's tokens that count.

    Trap: mi_crow's StoreDataloader neither shuffles nor masks, cuts stored batches into pieces of uneven size
    and skips what it does not find. It asks for the list of batches at the start of each epoch and then for
    one after the other; here these are virtual batches of exactly ``batch_size`` rows, float32, times
    ``scale``. What an epoch has left below a batch is dropped, another part of the run each epoch.

    The rows come from one permutation of the whole run where that fits into ``buffer_bytes``; otherwise
    stored batches are read in random order into a pool of that size, which is shuffled, half emitted, and
    filled up again. The pool holds at least two batches. ``check`` is called before each batch; it may raise
    to stop the training.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        layer: str,
        *,
        batch_size: int,
        seed: int,
        buffer_bytes: int,
        check: Callable[[], None] = lambda: None,
        exclusions: Exclusions = Exclusions(),  # noqa: B008 (it is frozen)
    ) -> None:
        """Look at the whole run; TaskError where something is missing or the tokens do not fill a batch."""
        super().__init__(store.base_path)
        self.scale = 1.0
        self._wrapped = store
        self._run_id = run_id
        self._layer = layer
        self._batch_size = batch_size
        self._seed = seed
        self._check = check
        self._stored = StoredRows(store, run_id, layer, check, exclusions, keep_bytes=buffer_bytes)
        self.token_count = self._stored.count
        self.steps_per_epoch = self.token_count // batch_size
        if self.steps_per_epoch == 0:
            raise _too_few(self._stored, batch_size)
        self.n_inputs = self._stored.n_inputs
        self._capacity = min(self.token_count, buffer_bytes // (_BYTES_PER_VALUE * self.n_inputs))
        self._everything = self._stored.everything
        self._epoch = 0
        self._first_batch = 0
        self._next_batch = 0
        self._batches: Iterator[Tensor] = iter(())

    @property
    def tokens_dropped_per_epoch(self) -> int:
        """How many tokens each epoch leaves out, because they do not fill a batch."""
        return self.token_count % self._batch_size

    @property
    def buffer_rows(self) -> int:
        """How many rows are shuffled with one another: all of the run's, or as many as the buffer holds."""
        return self._capacity

    @property
    def batch_count(self) -> int:
        """How many stored batches have tokens that count."""
        return len(self._stored.indices)

    @property
    def stored(self) -> StoredRows:
        """The rows by stored batch, unscaled and unshuffled."""
        return self._stored

    @property
    def shuffle_seed(self) -> int:
        """The seed of epoch 0, that is of ``sample``; each epoch, counted from 1, adds its number."""
        return self._seed * 1_000_003 % 2**63

    def start_at(self, epoch: int, batch: int) -> None:
        """Make the next list of batches that of an epoch, counted from 0, without its first ones."""
        self._epoch = epoch
        self._first_batch = batch

    def sample(self, n_rows: int) -> Tensor:
        """Return at most about ``n_rows`` unscaled rows [n, n_inputs] of some stored batches, by the seed."""
        generator = self._generator(0)
        indices = self._shuffled_stored_batches(generator)[:_BATCHES_TO_SAMPLE]
        per_batch = -(-n_rows // len(indices))
        parts = []
        for index in indices:
            rows = self._stored.read(index)
            parts.append(rows[torch.randperm(len(rows), generator=generator)[:per_batch]])
        return torch.cat(parts)

    # ------------------------------------------------------- what the trainer's data loader asks for

    def list_run_batches(self, run_id: str) -> list[int]:
        """Begin the next epoch and list its batches; another run's are the wrapped store's."""
        if run_id != self._run_id:
            return list(self._wrapped.list_run_batches(run_id))
        self._epoch += 1
        self._next_batch, self._first_batch = self._first_batch, 0
        self._batches = self._epoch_batches(self._generator(self._epoch), self._next_batch)
        return list(range(self._next_batch, self.steps_per_epoch))

    def get_detector_metadata_by_layer_by_key(
        self, run_id: str, batch_index: int, layer: str, key: str
    ) -> Tensor:
        """Give the epoch's next batch [batch_size, n_inputs]; ValueError where it is not the next one.

        Other runs, layers and keys are read from the wrapped store as they are.
        """
        if (run_id, layer, key) != (self._run_id, self._layer, ACTIVATIONS_KEY):
            other: Tensor = self._wrapped.get_detector_metadata_by_layer_by_key(
                run_id, batch_index, layer, key
            )
            return other
        if batch_index != self._next_batch:
            raise ValueError(f"batches come in order: {self._next_batch} is next, not {batch_index}")
        self._check()
        self._next_batch += 1
        return next(self._batches) * self.scale

    # ---------------------------------------------------------------------------------- shuffling

    def _epoch_batches(self, generator: torch.Generator, first: int) -> Iterator[Tensor]:
        if self._capacity == self.token_count:
            return self._batches_from_memory(generator, first)
        batches = self._batches_through_pool(generator)
        # What the pool holds at a batch follows from all before it.
        for _ in range(first):
            self._check()
            next(batches)
        return batches

    def _batches_from_memory(self, generator: torch.Generator, first: int) -> Iterator[Tensor]:
        if self._everything is None:
            self._everything = torch.empty(self.token_count, self.n_inputs)
            self._fill(self._everything, 0, self._stored.read_ahead(self._stored.indices), [])
        order = torch.randperm(self.token_count, generator=generator)
        for batch in range(first, self.steps_per_epoch):
            start = batch * self._batch_size
            yield self._everything[order[start : start + self._batch_size]]

    def _batches_through_pool(self, generator: torch.Generator) -> Iterator[Tensor]:
        pool = torch.empty(max(self._capacity, 2 * self._batch_size), self.n_inputs)
        source = self._stored.read_ahead(self._shuffled_stored_batches(generator))
        left_over: list[Tensor] = []
        n_held, n_unread = 0, self.token_count
        while n_held + n_unread >= self._batch_size:
            n_before, n_held = n_held, self._fill(pool, n_held, source, left_over)
            n_unread -= n_held - n_before
            n_out = n_held if n_unread == 0 else max(self._batch_size, n_held // 2)
            n_out -= n_out % self._batch_size
            order = torch.randperm(n_held, generator=generator)
            for start in range(0, n_out, self._batch_size):
                yield pool[order[start : start + self._batch_size]]
            n_held = _close_holes(pool, n_held, order[:n_out])

    def _fill(self, pool: Tensor, n_held: int, source: Iterator[Tensor], left_over: list[Tensor]) -> int:
        """Read stored batches into free rows; what has no room goes to ``left_over``. Returns rows held."""
        while n_held < len(pool):
            rows = left_over.pop() if left_over else next(source, None)
            if rows is None:
                break
            n_new = min(len(rows), len(pool) - n_held)
            pool[n_held : n_held + n_new] = rows[:n_new]
            n_held += n_new
            if n_new < len(rows):
                left_over.append(rows[n_new:])
        return n_held

    def _shuffled_stored_batches(self, generator: torch.Generator) -> list[int]:
        indices = self._stored.indices
        return [indices[place] for place in torch.randperm(len(indices), generator=generator).tolist()]

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.shuffle_seed + epoch) % 2**63)

    # --------------------------------------------------------- the rest of Store: read on, never write

    def get_run_batch(self, run_id: str, batch_index: int) -> list[Tensor] | dict[str, Tensor]:
        """Read from the wrapped store."""
        batch: list[Tensor] | dict[str, Tensor] = self._wrapped.get_run_batch(run_id, batch_index)
        return batch

    def get_run_metadata(self, run_id: str) -> dict[str, Any]:
        """Read from the wrapped store."""
        metadata: dict[str, Any] = self._wrapped.get_run_metadata(run_id)
        return metadata

    def get_detector_metadata(self, run_id: str, batch_index: int) -> tuple[dict[str, Any], TensorMetadata]:
        """Read from the wrapped store."""
        found: tuple[dict[str, Any], TensorMetadata] = self._wrapped.get_detector_metadata(
            run_id, batch_index
        )
        return found

    def put_run_batch(self, run_id: str, batch_index: int, tensors: list[Tensor] | dict[str, Tensor]) -> str:
        """Refuse."""
        raise _read_only()

    def delete_run(self, run_id: str) -> None:
        """Refuse."""
        raise _read_only()

    def put_run_metadata(self, run_id: str, meta: dict[str, Any]) -> str:
        """Refuse."""
        raise _read_only()

    def put_detector_metadata(
        self, run_id: str, batch_index: int, metadata: dict[str, Any], tensor_metadata: TensorMetadata
    ) -> str:
        """Refuse."""
        raise _read_only()

    def put_run_detector_metadata(
        self, run_id: str, metadata: dict[str, Any], tensor_metadata: TensorMetadata
    ) -> str:
        """Refuse."""
        raise _read_only()


def _close_holes(pool: Tensor, n_held: int, emitted: Tensor) -> int:
    """Move rows from the held part's end to where rows were emitted; returns how many rows are held now."""
    gone = torch.zeros(n_held, dtype=torch.bool)
    gone[emitted] = True
    n_kept = n_held - len(emitted)
    holes = gone[:n_kept].nonzero().flatten()
    movers = (~gone[n_kept:]).nonzero().flatten() + n_kept
    pool[holes] = pool[movers]
    return n_kept


def _too_few(stored: StoredRows, batch_size: int) -> TaskError:
    excluded = f" and {stored.excluded_count} that are excluded" if stored.excluded_count else ""
    return TaskError(
        f"The activation run has {stored.count} tokens that count{excluded}, less than one batch of "
        f"{batch_size}; choose a smaller batch size, "
        f"{'exclude less, ' if excluded else ''}or capture more texts."
    )


def _read_only() -> PermissionError:
    return PermissionError("a TrainingStore only reads: a training writes beside the run, not into it")
