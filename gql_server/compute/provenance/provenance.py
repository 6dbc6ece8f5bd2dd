"""Where what is computed here comes from, as its provenance says it."""

import platform
from importlib.metadata import version

import msgspec

from gql_server import __version__
from gql_server.artifacts.manifest import read_manifest
from gql_server.artifacts.provenance import (
    DatasetProvenance,
    HubDatasetProvenance,
    RunProvenance,
)
from gql_server.compute.storage.store import ActivationStore
from gql_server.protocol.tasks import CaptureActivations

from mi_crow.store.store import Store

_PACKAGES = ("mi-crow", "overcomplete", "torch", "transformers", "tokenizers", "numpy", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions of this server, of Python, and of the libraries that compute."""
    return {"gql-server": __version__, "python": platform.python_version()} | {
        name: version(name) for name in _PACKAGES
    }


def dataset_provenance(task: CaptureActivations, sha256: str, skipped_row_count: int) -> DatasetProvenance:
    """Say which texts a capture runs over."""
    hub = task.hub_dataset
    return DatasetProvenance(
        kind=task.dataset_kind,
        description=task.dataset_description,
        hugging_face=HubDatasetProvenance(hub.repository, hub.config, hub.split, hub.text_field, hub.revision)
        if hub
        else None,
        python_version=platform.python_version() if task.dataset_kind == "BUILT_IN" else None,
        sample_offset=task.sample_offset,
        sample_limit=task.sample_limit,
        sha256=sha256,
        skipped_row_count=skipped_row_count,
    )


def provenance_of_run(store: Store, run_id: str) -> RunProvenance | None:
    """Return what a stored run says of itself; None for one of an earlier version, or of mi_crow itself."""
    if not isinstance(store, ActivationStore):
        return None
    try:
        return read_manifest(store.manifest_path(run_id)).provenance
    except (OSError, msgspec.DecodeError):
        return None
