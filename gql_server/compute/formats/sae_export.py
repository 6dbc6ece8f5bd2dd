"""Exporting an SAE: a ZIP file with what another library reads."""

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from safetensors.torch import save_file

from gql_server.artifacts.disk import check_free
from gql_server.artifacts.files import TEMPORARY_PREFIX, atomic_file
from gql_server.compute.formats.sae_lens import cfg_of, tensors_of
from gql_server.compute.formats.source_files import CHUNK_BYTES
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.metadata import read_metadata
from gql_server.compute.saes.weights import SaeWeights
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.formats.sae_classes import EXPORTED_AS
from gql_server.formats.sae_lens_config import CFG_FILE, TEXT_METADATA, WEIGHTS_FILE
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.results import ExportResult
from gql_server.protocol.tasks import ExportSae

from mi_crow.mechanistic.sae.sae import Sae

_WRITTEN_TWICE = 2
"""Copies on the disk at once: the directory, and the ZIP file of it."""


def export_sae(task: ExportSae, context: TaskContext, sae: Sae) -> ExportResult:
    """Write the ZIP file, whole; one from before stays until then.

    Raises TaskError where the SAE's class cannot be written in the format.
    """
    engine = engine_of(sae)
    if engine is None or task.sae.sae_class not in EXPORTED_AS:
        raise TaskError(f"What {type(sae).__name__} computes cannot be written in another library's format.")
    weights = engine.weights()
    path = Path(task.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{TEMPORARY_PREFIX}*"):  # Of an attempt that was killed.
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    check_free(path.parent, _WRITTEN_TWICE * _byte_size(weights), task.min_free_bytes)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=path.parent) as beside:
        _write_sae_lens(task, weights, Path(beside))
        with atomic_file(path) as temporary:
            _pack(Path(beside), temporary, context)
            byte_size = temporary.stat().st_size
    context.emit(Log(f"Wrote {byte_size:,} bytes for SAELens."))
    return ExportResult(byte_size)


def _byte_size(weights: SaeWeights) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(weights).values())


def _write_sae_lens(task: ExportSae, weights: SaeWeights, directory: Path) -> None:
    given = task.metadata | _of_the_texts(Path(task.sae.directory))
    metadata = {name: value for name, value in given.items() if value is not None}
    content = json.dumps(cfg_of(weights, metadata), indent=2)
    (directory / CFG_FILE).write_text(content)
    save_file(tensors_of(weights), directory / WEIGHTS_FILE)


def _of_the_texts(sae_directory: Path) -> dict[str, Any]:
    """Return what came with an imported SAE of the texts that it was trained on."""
    source = (read_metadata(sae_directory) or {}).get("source", {})
    came_with: dict[str, Any] = source.get("metadata") or {}
    return {name: came_with[name] for name in TEXT_METADATA if came_with.get(name) is not None}


def _pack(directory: Path, path: Path, context: TaskContext) -> None:
    """Put a directory's files into a ZIP file, which is the same whenever the files are."""
    files = sorted(directory.iterdir())
    done, total = 0, sum(file.stat().st_size for file in files)
    context.emit(Progress(0, total))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            # Dated as ZIP's own beginning: ZipInfo's default.
            with file.open("rb") as source, _entry(archive, file) as target:
                while piece := source.read(CHUNK_BYTES):
                    context.check()
                    target.write(piece)
                    done += len(piece)
                    context.emit(Progress(done, total))


def _entry(archive: zipfile.ZipFile, file: Path) -> BinaryIO:
    info = zipfile.ZipInfo(file.name)
    info.file_size = file.stat().st_size
    info.external_attr = 0o644 << 16
    return archive.open(info, "w")  # type: ignore[return-value]
