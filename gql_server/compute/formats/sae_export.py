"""Exporting an SAE: a ZIP file with what another library reads."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from gql_server.artifacts.disk import check_free
from gql_server.artifacts.files import TEMPORARY_PREFIX, atomic_file
from gql_server.compute.formats.neuron_export import write_neuronpedia, write_parquet
from gql_server.compute.formats.neuron_records import NeuronRecords
from gql_server.compute.formats.other_layouts import write_dictionary_learning, write_sparsify
from gql_server.compute.formats.sae_lens import cfg_of, tensors_of
from gql_server.compute.formats.source_files import CHUNK_BYTES
from gql_server.compute.formats.tensor_writing import write_safetensors
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.metadata import read_metadata
from gql_server.compute.saes.weights import SaeWeights
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.compute.worker.stages import stage
from gql_server.formats.sae_lens_config import CFG_FILE, TEXT_METADATA, WEIGHTS_FILE
from gql_server.formats.sae_targets import TARGETS, problem
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.results import ExportResult
from gql_server.protocol.tasks import ExportSae

from mi_crow.mechanistic.sae.sae import Sae

NEURONS_FILE = "neurons.parquet"
_WRITTEN_TWICE = 2
"""Copies on the disk at once: the directory, and the ZIP file of it."""


def export_sae(task: ExportSae, context: TaskContext, sae: Sae) -> ExportResult:
    """Write the ZIP file, whole; one from before stays until then.

    Raises TaskError where the SAE's class cannot be written in the format.
    """
    engine = engine_of(sae)
    if engine is None or not any(task.sae.sae_class in target.classes for target in TARGETS.values()):
        raise TaskError(f"What {type(sae).__name__} computes cannot be written in another library's format.")
    if (refused := problem(task.format, task.sae.sae_class, engine.input_normalization)) is not None:
        raise TaskError(refused)
    weights = engine.weights()
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(weights).values())
    byte_size = _write_zip(task, n_bytes, context, partial(_write, task, weights, context))
    context.emit(Log(f"Wrote {byte_size:,} bytes for {TARGETS[task.format].library}."))
    return ExportResult(byte_size)


def export_neurons(task: ExportSae, context: TaskContext) -> ExportResult:
    """Write the ZIP file of an SAE's neurons, whole; one from before stays until then.

    Raises TaskError where the index is not there any more.
    """
    assert task.neurons is not None
    try:
        records = NeuronRecords(task.neurons)
    except (OSError, SafetensorError):
        reason = "The neuron index is gone or damaged; run indexNeurons again."
        raise TaskError(reason, "CONFLICT") from None
    tell = stage(context, "writing neurons")

    def write(directory: Path) -> None:
        if task.format == "PARQUET":
            write_parquet(records, directory / NEURONS_FILE, tell)
        else:
            model, source = _names_on_neuronpedia(task)
            hook_name = task.metadata.get("hook_name")
            write_neuronpedia(records, directory, model, source, str(hook_name) if hook_name else None, tell)

    # What is written is packed; the index has the numbers as they are.
    n_bytes = Path(task.neurons.index_path).stat().st_size
    byte_size = _write_zip(task, n_bytes, context, write)
    Path(task.neurons.names_path).unlink(missing_ok=True)
    without = "" if records.has_texts else ", without texts, since the run's are gone"
    context.emit(Log(f"Wrote {records.count:,} neurons{without}: {byte_size:,} bytes."))
    return ExportResult(byte_size)


def _names_on_neuronpedia(task: ExportSae) -> tuple[str, str]:
    """Return Neuronpedia's names of the language model and the SAE: its own, where these are known."""
    assert task.neurons is not None
    own = _came_with(Path(task.sae.directory)).get("neuronpedia_id")
    if isinstance(own, str) and own.count("/") == 1 and all(own.split("/")):
        model, source = own.split("/")
        return model, source
    return str(task.metadata.get("model_name")), task.neurons.source_name


def _write_zip(task: ExportSae, n_bytes: int, context: TaskContext, write: Callable[[Path], None]) -> int:
    """Write the ZIP file of what is written into a directory; return its bytes."""
    path = Path(task.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{TEMPORARY_PREFIX}*"):  # Of an attempt that was killed.
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    check_free(path.parent, _WRITTEN_TWICE * n_bytes, task.min_free_bytes)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=path.parent) as beside:
        write(Path(beside))
        with atomic_file(path) as temporary:
            _pack(Path(beside), temporary, context)
            return temporary.stat().st_size


def _write(task: ExportSae, weights: SaeWeights, context: TaskContext, directory: Path) -> None:
    """Write the files of the format that is asked for."""
    given = task.metadata | _of_the_texts(Path(task.sae.directory))
    metadata = {name: value for name, value in given.items() if value is not None}
    if task.format == "DICTIONARY_LEARNING":
        # Of a JumpReLUSae, k is what training aimed at, which the weights have no part of.
        k = task.sae.k if task.sae.sae_class == "BatchTopKSae" else weights.k
        write_dictionary_learning(weights, k, metadata, directory)
    elif task.format == "SPARSIFY":
        write_sparsify(weights, metadata, directory, context.check)
    else:
        content = json.dumps(cfg_of(weights, metadata), indent=2)
        (directory / CFG_FILE).write_text(content)
        write_safetensors(directory / WEIGHTS_FILE, tensors_of(weights), context.check)


def _of_the_texts(sae_directory: Path) -> dict[str, Any]:
    """Return what came with an imported SAE of the texts that it was trained on."""
    came_with = _came_with(sae_directory)
    return {name: came_with[name] for name in TEXT_METADATA if came_with.get(name) is not None}


def _came_with(sae_directory: Path) -> dict[str, Any]:
    """Return what an imported SAE's files said of it."""
    source = (read_metadata(sae_directory) or {}).get("source", {})
    came_with: dict[str, Any] = source.get("metadata") or {}
    return came_with


def _pack(directory: Path, path: Path, context: TaskContext) -> None:
    """Put a directory's files into a ZIP file, which is the same whenever the files are."""
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    done, total = 0, sum(file.stat().st_size for file in files)
    context.emit(Progress(0, total))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            # Dated as ZIP's own beginning: ZipInfo's default.
            with file.open("rb") as source, _entry(archive, file, directory) as target:
                while piece := source.read(CHUNK_BYTES):
                    context.check()
                    target.write(piece)
                    done += len(piece)
                    context.emit(Progress(done, total))


def _entry(archive: zipfile.ZipFile, file: Path, directory: Path) -> BinaryIO:
    info = zipfile.ZipInfo(file.relative_to(directory).as_posix())
    info.file_size = file.stat().st_size
    info.external_attr = 0o644 << 16
    return archive.open(info, "w")  # type: ignore[return-value]
