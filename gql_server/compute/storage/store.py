"""mi_crow's LocalStore with batches that appear whole, run ids that stay inside it, and masked reading."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from gql_server.artifacts.files import atomic_directory, atomic_file
from gql_server.artifacts.manifest import (
    PLAN_FILE,
    RECORD_FILE,
    BatchRecord,
    ManifestBatch,
    NotFinite,
    PlannedBatch,
    bytes_of,
    read_manifest,
    read_record,
    whole_batch,
)
from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.worker.context import TaskError

from mi_crow.store.local_store import LocalStore
from mi_crow.store.store import TensorMetadata

MASKS = "attention_masks"
"""The "layer" under which a batch's mask and token ids are stored."""


class _OneDirectory(LocalStore):
    """A stock store whose every batch is one given directory: it decides the layout, we decide the place."""

    base_path: Path

    def _run_batch_key(self, run_id: str, batch_index: int) -> Path:
        return self.base_path


class ActivationStore(LocalStore):
    """A LocalStore that a killed process cannot leave with half a batch; stock LocalStore reads it."""

    base_path: Path
    runs_prefix: str
    _last_record: tuple[Path, BatchRecord | None] | None = None

    def run_directory(self, run_id: str) -> Path:
        """Return where a run's batches are. Raises ValueError for an id that is not a plain name."""
        # Upstream puts a run id into a path unchecked: "../../x" would write outside the store.
        if not run_id or Path(run_id).name != run_id or run_id.startswith("."):
            raise ValueError(f"run_id must be a plain name, got: {run_id!r}")
        return self.base_path / self.runs_prefix / run_id

    def batch_directory(self, run_id: str, batch_index: int) -> Path:
        """Return where a captured batch is."""
        return self.run_directory(run_id) / f"batch_{batch_index}"

    def manifest_path(self, run_id: str) -> Path:
        """Return where a run's manifest is."""
        return self.run_directory(run_id) / "manifest.json"

    def index_path(self, index_id: str) -> Path:
        """Return the file that holds what was put as a run's batch 0, such as a neuron index."""
        return self.run_directory(index_id) / "batch_000000.safetensors"

    def has_batch(self, run_id: str, batch_index: int, planned: PlannedBatch) -> bool:
        """Say whether a batch is there as it was planned, and its files have the size that they had."""
        batch = whole_batch(self.batch_directory(run_id, batch_index))
        return batch is not None and (batch.rows, batch.lengths, batch.pieces) == (
            planned.rows,
            planned.lengths,
            planned.pieces,
        )

    def put_batch(
        self,
        run_id: str,
        batch_index: int,
        planned: PlannedBatch,
        metadata: dict[str, Any],
        tensor_metadata: TensorMetadata,
        not_finite: NotFinite | None = None,
    ) -> BatchRecord:
        """Write a captured batch and its record beside their place and rename them; return the record."""
        place = self.batch_directory(run_id, batch_index)
        with atomic_directory(place) as directory:
            _write_batch(directory, metadata, tensor_metadata)
            mask = tensor_metadata[MASKS]["attention_mask"]
            record = BatchRecord(
                ManifestBatch(
                    index=batch_index,
                    rows=planned.rows,
                    lengths=planned.lengths,
                    pieces=planned.pieces,
                    shape=list(mask.shape),
                    token_count=int(mask.sum()),
                    byte_size=bytes_of(directory),
                    not_finite=not_finite,
                ),
                widths={
                    layer: tensors["activations"].shape[-1]
                    for layer, tensors in tensor_metadata.items()
                    if layer != MASKS
                },
                sha256={
                    str(file.relative_to(directory)): _sha256(file)
                    for file in sorted(directory.rglob("*.safetensors"))
                },
            )
            (directory / RECORD_FILE).write_bytes(msgspec.json.encode(record))
        return record

    def check_batches(self, run_id: str) -> None:
        """Raise TaskError where a batch is missing that the run's manifest tells of."""
        try:
            manifest = read_manifest(self.manifest_path(run_id))
        except (OSError, msgspec.DecodeError):
            return  # Stored by mi_crow itself: what is there is all there is to know.
        stored = set(self.list_run_batches(run_id))
        for batch in manifest.batches:
            if batch.index not in stored:
                raise TaskError(
                    f"Batch {batch.index} of the run is missing: delete the run and capture it again."
                )

    def read_activations(self, run_id: str, batch_index: int, layer: str) -> torch.Tensor:
        """Return a batch's activations [n_texts, n_positions, n_inputs], padding and all."""
        return self._tensor(run_id, batch_index, layer, "activations")

    def read_mask(self, run_id: str, batch_index: int) -> torch.Tensor:
        """Return which tokens count, bool [n_texts, n_positions]: neither padding nor special ones."""
        return self._tensor(run_id, batch_index, MASKS, "attention_mask")

    def read_input_ids(self, run_id: str, batch_index: int) -> torch.Tensor:
        """Return a batch's token ids, int64 [n_texts, n_positions]."""
        return self._tensor(run_id, batch_index, MASKS, "input_ids")

    def read_lengths(self, run_id: str, batch_index: int) -> list[int] | None:
        """Return how many tokens each text of a batch has, special ones among them; None where unknown."""
        record = self._record(self.batch_directory(run_id, batch_index))
        return None if record is None else record.batch.lengths

    def read_masked(self, run_id: str, batch_index: int, layer: str) -> torch.Tensor:
        """Return the activations of a batch's counted tokens [n_tokens, n_inputs], text by text."""
        # Upstream stores the mask but nothing in it reads it: padding and special tokens would count as
        # tokens.
        return self.read_activations(run_id, batch_index, layer)[self.read_mask(run_id, batch_index)]

    def put_detector_metadata(
        self, run_id: str, batch_index: int, metadata: dict[str, Any], tensor_metadata: TensorMetadata
    ) -> str:
        """Write a batch beside its place and rename it."""
        # Upstream writes the batch's JSON before its tensors: killed between, it lists a batch without
        # tensors.
        with atomic_directory(self.batch_directory(run_id, batch_index)) as directory:
            _OneDirectory(directory).put_detector_metadata(run_id, batch_index, metadata, tensor_metadata)
        return f"{self.runs_prefix}/{run_id}/batch_{batch_index}"

    def put_run_batch(
        self, run_id: str, batch_index: int, tensors: list[torch.Tensor] | dict[str, torch.Tensor]
    ) -> str:
        """Write a batch's file beside its place and rename it."""
        # Upstream writes into the file that readers already see.
        name = f"batch_{batch_index:06d}.safetensors"
        with atomic_file(self.run_directory(run_id) / name) as temporary:
            save_file(_named(tensors), temporary)
        return f"{self.runs_prefix}/{run_id}/{name}"

    def get_run_batch(self, run_id: str, batch_index: int) -> list[torch.Tensor] | dict[str, torch.Tensor]:
        """Return a batch as upstream does; only the run id is checked."""
        self.run_directory(run_id)
        batch: list[torch.Tensor] | dict[str, torch.Tensor] = super().get_run_batch(run_id, batch_index)
        return batch

    def list_run_batches(self, run_id: str) -> list[int]:
        """Return the indices of the batches that are there whole; ascending."""
        self.run_directory(run_id)
        indices: list[int] = super().list_run_batches(run_id)
        return indices

    def delete_run(self, run_id: str) -> None:
        """Remove a run with its directory."""
        # Upstream leaves the directory, and in it whatever it does not know.
        if self.run_directory(run_id).exists():
            shutil.rmtree(self.run_directory(run_id))

    def _tensor(self, run_id: str, batch_index: int, layer: str, key: str) -> torch.Tensor:
        """Read a tensor; TaskError where it is not there, cannot be read, or is not what was written."""
        directory = self.batch_directory(run_id, batch_index)
        name = f"{layer}/{key}.safetensors"
        try:
            record = self._record(directory)
            if record is None and (self.run_directory(run_id) / PLAN_FILE).exists():
                raise TaskError(_bad(batch_index, RECORD_FILE, "is missing or damaged"))
            if record is not None and record.sha256.get(name) != _sha256(directory / name):
                raise TaskError(_bad(batch_index, name, "has been altered since it was captured"))
            tensor: torch.Tensor = self.get_detector_metadata_by_layer_by_key(run_id, batch_index, layer, key)
        except FileNotFoundError as error:
            raise TaskError(_bad(batch_index, name, "is missing")) from error
        except (OSError, SafetensorError, KeyError) as error:
            raise TaskError(_bad(batch_index, name, "cannot be read")) from error
        return tensor

    def _record(self, directory: Path) -> BatchRecord | None:
        """Return a batch's record; the tensors of one batch are read one after the other."""
        if self._last_record is None or self._last_record[0] != directory:
            self._last_record = (directory, read_record(directory))
        return self._last_record[1]

    def _run_key(self, run_id: str) -> Path:
        return self.run_directory(run_id)


def _write_batch(directory: Path, metadata: dict[str, Any], tensor_metadata: TensorMetadata) -> None:
    """Write a batch's contiguous tensors where mi_crow writes them, which first copies each, with threads."""
    names = {layer: list(tensors) for layer, tensors in tensor_metadata.items() if tensors}
    told = json.dumps({**metadata, "_tensor_metadata_names": names}, ensure_ascii=False, indent=2)
    (directory / "metadata.json").write_text(told, "utf-8")
    for layer, tensors in tensor_metadata.items():
        for key, tensor in tensors.items():
            (directory / layer).mkdir(parents=True, exist_ok=True)
            save_file({"tensor": tensor}, directory / layer / f"{key}.safetensors")


def _named(tensors: list[torch.Tensor] | dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give a list's tensors the names that LocalStore knows again."""
    if isinstance(tensors, dict):
        return tensors
    if not tensors:
        return {"_empty_list": torch.tensor([])}
    return {f"item_{index}": tensor for index, tensor in enumerate(tensors)}


def _bad(batch_index: int, name: str, what: str) -> str:
    return f"The file {name} of the run's batch {batch_index} {what}: delete the run and capture it again."


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
