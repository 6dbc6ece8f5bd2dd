"""A Store in memory: what shows that a training needs no file system."""

from typing import Any

from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401

from mi_crow.store.store import Store, TensorMetadata


class MemoryStore(Store):
    """Keeps what detectors put, by run, batch, layer and key."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[str, dict[int, TensorMetadata]] = {}
        self.metadata: dict[str, dict[str, Any]] = {}

    def put_detector_metadata(
        self, run_id: str, batch_index: int, metadata: dict[str, Any], tensor_metadata: TensorMetadata
    ) -> str:
        """Keep a batch's tensors."""
        self.tensors.setdefault(run_id, {})[batch_index] = tensor_metadata
        return f"{run_id}/{batch_index}"

    def get_detector_metadata(self, run_id: str, batch_index: int) -> tuple[dict[str, Any], TensorMetadata]:
        """Give a batch's tensors."""
        return {}, self.tensors[run_id][batch_index]

    def get_detector_metadata_by_layer_by_key(
        self, run_id: str, batch_index: int, layer: str, key: str
    ) -> Tensor:
        """Give one tensor; FileNotFoundError where there is none."""
        try:
            tensor: Tensor = self.tensors[run_id][batch_index][layer][key]
        except KeyError as error:
            raise FileNotFoundError(layer) from error
        return tensor

    def list_run_batches(self, run_id: str) -> list[int]:
        """List a run's batches."""
        return sorted(self.tensors.get(run_id, {}))

    def put_run_metadata(self, run_id: str, meta: dict[str, Any]) -> str:
        """Keep a run's metadata."""
        self.metadata[run_id] = meta
        return run_id

    def get_run_metadata(self, run_id: str) -> dict[str, Any]:
        """Give a run's metadata."""
        return self.metadata.get(run_id, {})

    def delete_run(self, run_id: str) -> None:
        """Forget a run."""
        self.tensors.pop(run_id, None)

    def put_run_batch(self, run_id: str, batch_index: int, tensors: list[Tensor] | dict[str, Tensor]) -> str:
        """Refuse: batches come from detectors."""
        raise NotImplementedError

    def get_run_batch(self, run_id: str, batch_index: int) -> list[Tensor] | dict[str, Tensor]:
        """Refuse: batches come from detectors."""
        raise FileNotFoundError(run_id)

    def put_run_detector_metadata(
        self, run_id: str, metadata: dict[str, Any], tensor_metadata: TensorMetadata
    ) -> str:
        """Refuse: nothing is put for a whole run."""
        raise NotImplementedError
