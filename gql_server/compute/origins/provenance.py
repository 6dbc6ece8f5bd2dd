"""Where what is computed here comes from, as its provenance says it."""

import platform
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import msgspec

from gql_server import __version__
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.language_models.model_files import (
    TOKENIZER_FILE,
    converted_file,
    files_of_model,
    name_of,
)
from gql_server.compute.messages.sources import LanguageModelSource
from gql_server.compute.messages.tasks import CaptureActivations
from gql_server.compute.origins.file_hashes import hash_files, sha256_of
from gql_server.compute.stored.store import ActivationStore
from gql_server.manifest import read_manifest
from gql_server.provenance import (
    DatasetProvenance,
    FileHash,
    HubDatasetProvenance,
    LanguageModelProvenance,
    RunProvenance,
)

from mi_crow.store.store import Store

Check = Callable[[], None]

_PACKAGES = ("mi-crow", "overcomplete", "torch", "transformers", "tokenizers", "numpy", "safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def versions() -> dict[str, str]:
    """Return the versions of this server, of Python, and of the libraries that compute."""
    return {"gql-server": __version__, "python": platform.python_version()} | {
        name: version(name) for name in _PACKAGES
    }


def language_model_provenance(
    source: LanguageModelSource, language_models: LanguageModels, check: Check
) -> LanguageModelProvenance:
    """Say what a model is, as it is loaded; reads its files whole where that has not been done before."""
    place = language_models.place(source)
    tokenizer = Path(source.copy_dir) / TOKENIZER_FILE
    return LanguageModelProvenance(
        source_kind=source.kind,
        source=name_of(source),
        revision=_commit(place) if source.kind == "HUGGING_FACE" else None,
        files=_files(source, check),
        dtype=source.dtype,
        tokenizer_sha256=sha256_of(tokenizer) if tokenizer.exists() else None,
    )


def _commit(place: str) -> str | None:
    """Return the commit of a download: the Hub's cache has a directory for each, named so."""
    name = Path(place).name
    return name if _COMMIT.fullmatch(name) else None


def _files(source: LanguageModelSource, check: Check) -> list[FileHash]:
    if source.kind == "HUGGING_FACE":
        return []
    if source.kind == "GGUF":
        converted = converted_file(source)
        return [converted] if converted else []
    return hash_files(files_of_model(Path(source.location)), Path(source.copy_dir), check)


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
