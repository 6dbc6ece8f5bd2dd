"""Importing an SAE: other people's files in, a checkpoint of a class of this server out."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gql_server.artifacts.disk import check_free
from gql_server.artifacts.file_hashes import sha256_of
from gql_server.artifacts.files import TEMPORARY_PREFIX, atomic_file, atomic_write
from gql_server.artifacts.provenance import (
    FileHash,
    HubSaeProvenance,
    LanguageModelProvenance,
    SaeProvenance,
    to_json,
)
from gql_server.compute.downloading.downloaded_saes import downloaded
from gql_server.compute.formats.described_weights import read_weights
from gql_server.compute.formats.fit_check import check_fit
from gql_server.compute.formats.import_notes import notes_on
from gql_server.compute.formats.mi_crow_checkpoints import read_checkpoint
from gql_server.compute.formats.norm_gains import fold_gain
from gql_server.compute.formats.refusals import as_task_errors
from gql_server.compute.formats.source_files import TakenFile, check_size, opened, take
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.provenance.provenance import versions
from gql_server.compute.saes.classes import CHECKPOINT, SaeClasses
from gql_server.compute.saes.encoding import n_outputs_of
from gql_server.compute.training.metrics import DEFINITIONS_VERSION
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.compute.worker.stages import stage
from gql_server.formats.input_normalizations import InputNormalization
from gql_server.formats.sae_sources import registry
from gql_server.formats.sae_sources.description import SaeDescription, check_written
from gql_server.formats.sae_sources.input_processing import centers, folded
from gql_server.formats.sae_sources.source_files import MAX_JSON_BYTES, Opener, SourceFiles
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.results import ImportResult, SaeFit
from gql_server.protocol.tasks import ImportSae

from mi_crow.mechanistic.sae.sae import Sae

_COPIES = 3
"""Disk space in sizes of the source: its copy, and a checkpoint twice as large if it is in half precision."""


@dataclass(frozen=True)
class _Imported:
    sae_class: str
    sae: Sae
    k: int | None
    notes: list[str]
    metadata: dict[str, Any]
    """What the source says of itself."""
    input_normalization: InputNormalization
    described: SaeDescription


def import_sae(
    task: ImportSae, context: TaskContext, classes: SaeClasses, language_models: LanguageModels | None = None
) -> ImportResult:
    """Check somebody else's SAE and write it as sae.pt and metadata.json.

    Nothing is left where it fails. Raises TaskError with why it cannot be taken over.
    """
    with _working_directory(Path(task.sae_dir)) as beside, _with_files(task) as (task, hub):
        taken = _take_all(task, beside, context)
        imported = _read(task, taken, classes, context, language_models)
        for note in imported.notes:
            context.emit(Log(note))
        context.check()
        fit = check_fit(task, imported.described, imported.sae, context, language_models)
        source = task.language_model
        origin = language_models.identify(source, context.check) if source and language_models else None
        provenance = _write(task, imported, taken, classes, beside, origin, hub, fit, context)
    sizes_of = imported.sae.context
    written = f", a transcoder that writes {task.output_layer}" if task.output_layer else ""
    context.emit(Log(f"Imported {sizes_of.n_latents:,} neurons over {sizes_of.n_inputs:,} inputs{written}."))
    return ImportResult(
        imported.sae_class,
        sizes_of.n_inputs,
        sizes_of.n_latents,
        imported.k,
        provenance,
        imported.input_normalization,
        fit,
    )


@contextmanager
def _working_directory(directory: Path) -> Iterator[Path]:
    """Give a temporary directory in the SAE's, without what a killed attempt has left there."""
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=directory) as beside:
            yield Path(beside)
    finally:
        if not any(directory.iterdir()):
            directory.rmdir()


@contextmanager
def _with_files(task: ImportSae) -> Iterator[tuple[ImportSae, HubSaeProvenance | None]]:
    """Give a task that names its files, and where on the Hub they are from.

    What was downloaded goes once it is used or refused; it stays where another attempt can do with it.
    """
    if task.download is None:
        yield task, None
        return
    directory, source = Path(task.download.directory), task.download.source
    found = downloaded(directory)
    if found is None:
        raise TaskError("Its files are not here, and this server takes none from the Hugging Face Hub.")
    files = {name: str(directory / found.commit / name) for name in found.files}
    named = msgspec.structs.replace(task, format=found.format, files=files, roots=[str(directory)])
    try:
        yield named, HubSaeProvenance(source.repository, source.path, found.commit)
    except TaskError:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


def _describe(task: ImportSae, opener: Opener) -> SaeDescription:
    """Describe the files of a task; raises TaskError with why they cannot be taken over."""
    chosen = Path(task.source).name
    files = SourceFiles(task.source, list(task.files), chosen if chosen in task.files else None, opener)
    with as_task_errors():
        found = registry.describe(task.format, files)
        found.check_fits(task.n_inputs, task.max_latents, task.n_outputs)
        check_written(found, task.output_layer)
        return folded(found, task.input_scale, _centers(task, found))


def _centers(task: ImportSae, described: SaeDescription) -> bool:
    return centers(described, task.center_inputs, task.kind, task.has_layer_norms)


def _take_all(task: ImportSae, beside: Path, context: TaskContext) -> dict[str, TakenFile]:
    done, taken = 0, dict[str, TakenFile]()

    def tell(more: int) -> None:
        nonlocal done
        done += more
        context.check()
        context.emit(Progress(done, total))

    with ExitStack() as stack:
        roots = [Path(root) for root in task.roots]
        sources = {
            name: stack.enter_context(opened(name, Path(path), roots)) for name, path in task.files.items()
        }
        # What they say now tells how much is worth copying. What counts are the copies: nobody changes them.
        described = _describe(task, lambda name: nullcontext(sources[name].file))
        total = sum(source.byte_size for source in sources.values())
        tell(0)
        for place, source in enumerate(sources.values()):
            is_json = source.name.endswith(".json")
            check_size(source, MAX_JSON_BYTES if is_json else described.most_bytes)
            # Nobody else writes to what was downloaded: it is read where it is.
            is_ours = task.download is not None
            check_free(beside, (_COPIES - is_ours) * source.byte_size, task.min_free_bytes)
            taken[source.name] = take(source, None if is_ours else beside / f"source_{place}", tell)
    return taken


def _read(
    task: ImportSae,
    taken: dict[str, TakenFile],
    classes: SaeClasses,
    context: TaskContext,
    language_models: LanguageModels | None,
) -> _Imported:
    described = _describe(task, lambda name: taken[name].path.open("rb"))
    notes, how = notes_on(task, described), described.input_normalization
    reading = stage(context, "reading the weights")
    reading(0, 1)
    if described.weights is None:
        path = taken[described.files[0]].path
        found = read_checkpoint(path, classes, task.n_inputs, task.max_latents)
        return _Imported(found.sae_class, found.sae, found.k, [*notes, *found.notes], {}, how, described)
    weights = read_weights(described, taken[described.weights.file].path, reading)
    if described.reads_before_gain:
        if task.language_model is None or language_models is None:
            raise TaskError("It reads a norm's value before its gain, and the language model is not known.")
        weights = fold_gain(weights, language_models.get(task.language_model), task.layer)
    # On no device: an SAE with weights of its own would take as much memory again.
    sae = classes.get(described.sae_class).build(described.n_latents, described.n_inputs, described.k, "meta")
    sae.sae_engine.load_weights(weights)
    found_in = dict(described.metadata)
    return _Imported(described.sae_class, sae, described.k, notes, found_in, how, described)


def _write(
    task: ImportSae,
    imported: _Imported,
    taken: dict[str, TakenFile],
    classes: SaeClasses,
    beside: Path,
    origin: LanguageModelProvenance | None,
    hub: HubSaeProvenance | None,
    fit: SaeFit | None,
    context: TaskContext,
) -> SaeProvenance:
    imported.sae.context.lm_layer_signature = task.layer
    imported.sae.context.model_id = task.language_model_id
    stage(context, "writing the checkpoint")(0, 1)
    saved = classes.get(imported.sae_class).save(imported.sae, beside, imported.k)
    directory = Path(task.sae_dir)
    stage(context, "hashing the checkpoint")(0, 1)
    provenance = SaeProvenance(
        sae_class=imported.sae_class,
        n_inputs=imported.sae.context.n_inputs,
        n_latents=imported.sae.context.n_latents,
        layer=task.layer,
        checkpoint_sha256=sha256_of(saved, context.check),
        activation_run_id=None,
        run=None,
        training=None,
        metric_definitions_version=DEFINITIONS_VERSION,
        versions=versions(),
        source_files=[FileHash(file.name, file.byte_size, file.sha256) for file in taken.values()],
        language_model=origin,
        source_format=task.format,
        hugging_face=hub,
        source_prepends_bos=imported.described.prepends_bos,
        writes_bos=task.writes_bos,
        input_scale=task.input_scale,
        inputs_centered=_centers(task, imported.described),
    )
    content = json.dumps(
        _metadata(task, imported, taken, provenance) | _noted(fit), indent=2, allow_nan=False
    )
    atomic_write(directory / "metadata.json", content.encode())
    with atomic_file(directory / CHECKPOINT) as temporary:
        saved.rename(temporary)
    return provenance


def _noted(fit: SaeFit | None) -> dict[str, Any]:
    return {} if fit is None else {"fit": msgspec.to_builtins(fit)}


def _metadata(
    task: ImportSae, imported: _Imported, taken: dict[str, TakenFile], provenance: SaeProvenance
) -> dict[str, Any]:
    return {
        "sae_id": task.sae_id,
        "name": task.name,
        "origin": "IMPORTED",
        "sae_class": imported.sae_class,
        "n_inputs": imported.sae.context.n_inputs,
        "n_latents": imported.sae.context.n_latents,
        "k": imported.k,
        "input_normalization": imported.input_normalization,
        "layer": task.layer,
        "output_layer": task.output_layer or task.layer,
        "n_outputs": n_outputs_of(imported.sae),
        "language_model_id": task.language_model_id,
        "source": {
            "format": task.format,
            "path": task.source,
            **({"hugging_face": to_json(provenance.hugging_face)} if provenance.hugging_face else {}),
            "files": [
                {"name": file.name, "byte_size": file.byte_size, "sha256": file.sha256}
                for file in taken.values()
            ],
            "metadata": imported.metadata,
        },
        "provenance": to_json(provenance),
        "created_at": datetime.now(UTC).isoformat(),
    }
