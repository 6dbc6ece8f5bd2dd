"""Importing an SAE: other people's files in, a checkpoint of a class of this server out."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gql_server.artifacts.disk import check_free
from gql_server.artifacts.file_hashes import sha256_of
from gql_server.artifacts.files import TEMPORARY_PREFIX, atomic_file, atomic_write
from gql_server.artifacts.provenance import FileHash, LanguageModelProvenance, SaeProvenance, to_json
from gql_server.compute.formats import sae_lens
from gql_server.compute.formats.mi_crow_checkpoints import read_checkpoint
from gql_server.compute.formats.source_files import TakenFile, check_size, opened, take
from gql_server.compute.language_models.loading import LanguageModels
from gql_server.compute.provenance.provenance import versions
from gql_server.compute.saes.classes import CHECKPOINT, SaeClasses
from gql_server.compute.saes.weights import SaeWeights, check_finite
from gql_server.compute.training.metrics import DEFINITIONS_VERSION
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.formats.sae_classes import IMPORTED_AS
from gql_server.formats.sae_lens_config import (
    CFG_FILE,
    MAX_CFG_BYTES,
    MODEL_ARGUMENTS,
    WEIGHTS_FILE,
    NotRepresentable,
    SaeLensConfig,
    read_file,
)
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.results import ImportResult
from gql_server.protocol.tasks import ImportSae

from mi_crow.mechanistic.sae.sae import Sae

_COPIES = 3
"""Disk space in sizes of the source: its copy, and a checkpoint twice as large if it is in half precision."""
_WIDEST = 2**17
"""Assumed limit on the layer's width where it is not known."""


@dataclass(frozen=True)
class _Imported:
    sae_class: str
    sae: Sae
    k: int | None
    notes: list[str]
    metadata: dict[str, Any]
    """What the source says of itself."""


def import_sae(
    task: ImportSae, context: TaskContext, classes: SaeClasses, language_models: LanguageModels | None = None
) -> ImportResult:
    """Check somebody else's SAE and write it as sae.pt and metadata.json.

    Nothing is left where it fails. Raises TaskError with why it cannot be taken over.
    """
    with _working_directory(Path(task.sae_dir)) as beside:
        taken = _take_all(task, beside, context)
        imported = _read(task, taken, classes)
        for note in imported.notes:
            context.emit(Log(note))
        context.check()
        source = task.language_model
        origin = language_models.identify(source, context.check) if source and language_models else None
        provenance = _write(task, imported, taken, classes, beside, origin)
    sizes_of = imported.sae.context
    context.emit(Log(f"Imported {sizes_of.n_latents:,} neurons over {sizes_of.n_inputs:,} inputs."))
    return ImportResult(imported.sae_class, sizes_of.n_inputs, sizes_of.n_latents, imported.k, provenance)


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


def _most_bytes(task: ImportSae, name: str, taken: dict[str, TakenFile]) -> int:
    """Return how large a file can be that is still worth copying, by what those before it say."""
    if name == CFG_FILE:
        return MAX_CFG_BYTES
    if task.format == "SAE_LENS":
        return sae_lens.most_bytes(_config(task, taken[CFG_FILE].path))
    width = task.n_inputs or _WIDEST
    return 4 * (2 * width + 8) * task.max_latents + 64 * 1024 * 1024


def _config(task: ImportSae, path: Path) -> SaeLensConfig:
    try:
        config = read_file(path)
    except NotRepresentable as error:
        raise TaskError(error.reason) from error
    if task.n_inputs not in (None, config.n_inputs):
        raise TaskError(
            f"The SAE is for activations of width {config.n_inputs}; the layer's are {task.n_inputs} wide."
        )
    if config.n_latents > task.max_latents:
        raise TaskError(f"The SAE has {config.n_latents:,} neurons; this server takes {task.max_latents:,}.")
    return config


def _take_all(task: ImportSae, beside: Path, context: TaskContext) -> dict[str, TakenFile]:
    done, taken = 0, dict[str, TakenFile]()

    def tell(more: int) -> None:
        nonlocal done
        done += more
        context.check()
        context.emit(Progress(done, total))

    with ExitStack() as stack:
        # cfg.json first: its copy says how large the weights can be.
        names = sorted(task.files, key=lambda name: name != CFG_FILE)
        roots = [Path(root) for root in task.roots]
        sources = [stack.enter_context(opened(name, Path(task.files[name]), roots)) for name in names]
        total = sum(source.byte_size for source in sources)
        tell(0)
        for place, source in enumerate(sources):
            check_size(source, _most_bytes(task, source.name, taken))
            check_free(beside, _COPIES * source.byte_size, task.min_free_bytes)
            taken[source.name] = take(source, beside / f"source_{place}", tell)
    return taken


def _read(task: ImportSae, taken: dict[str, TakenFile], classes: SaeClasses) -> _Imported:
    if task.format == "MI_CROW":
        (file,) = taken.values()
        found = read_checkpoint(file.path, classes, task.n_inputs, task.max_latents)
        return _Imported(found.sae_class, found.sae, found.k, found.notes, {})
    config = _config(task, taken[CFG_FILE].path)
    weights = sae_lens.read_weights(taken[WEIGHTS_FILE].path, config)
    _check_folded(weights)
    sae_class = IMPORTED_AS[config.architecture]
    sae = classes.get(sae_class).build(weights.n_latents, weights.n_inputs, weights.k, "cpu")
    sae.sae_engine.load_weights(weights)
    return _Imported(
        sae_class,
        sae,
        config.k,
        _notes(task, config),
        {"architecture": config.architecture} | {"dtype": config.dtype} | config.metadata,
    )


def _check_folded(weights: SaeWeights) -> None:
    """Multiplying may have made an infinite value of finite ones."""
    check_finite("W_enc", weights.encoder_weight)
    check_finite("b_enc", weights.encoder_bias)
    check_finite("W_dec", weights.decoder_weight)


def _notes(task: ImportSae, config: SaeLensConfig) -> list[str]:
    notes = []
    if task.n_inputs is None:
        notes.append("The layer's width is not known, so it was not compared with the SAE's.")
    if config.dtype in ("float16", "bfloat16"):
        notes.append(f"SAELens computes it in {config.dtype}; here it is computed in float32.")
    if (hook := _differing_hook(task, config)) is not None:
        notes.append(
            f"Its cfg.json names the hook {hook}, which is another place than the layer {task.layer}: what it"
            " reconstructs there may mean nothing."
        )
    elif (found := config.block_and_place) is not None and found[1] in ("attn_out", "mlp_out"):
        notes.append(
            f"Its cfg.json names the hook {config.metadata['hook_name']}: in models with a norm behind that,"
            " such as Gemma 2, SAELens takes what comes out of the norm, and this server what goes into it."
        )
    notes += _notes_on_bos(task, config)
    if not config.says_unprocessed:
        arguments = config.metadata.get(MODEL_ARGUMENTS)
        said = "none" if arguments is None else json.dumps(arguments)
        notes.append(
            "Its cfg.json does not say that it was trained on a model with unprocessed weights"
            f" ({MODEL_ARGUMENTS}: {said}): its inputs may not be what this server's model gives."
        )
    return notes


def _notes_on_bos(task: ImportSae, config: SaeLensConfig) -> list[str]:
    """Say where the texts that the SAE was trained on began otherwise than those here."""
    trained_with = config.metadata.get("prepend_bos")
    if task.writes_bos is None or trained_with is None or bool(trained_with) == task.writes_bos:
        return []
    if trained_with:
        return [
            "Its cfg.json says that it was trained on texts with a BOS before them (prepend_bos: true), and"
            " nothing is written before texts for this language model: set its addBos to true"
            " (updateLanguageModel) for the same activations."
        ]
    return [
        "Its cfg.json says that it was trained on texts without a BOS before them (prepend_bos: false), and"
        " one is written for this language model: set its addBos to false (updateLanguageModel) for the same"
        " activations."
    ]


def _differing_hook(task: ImportSae, config: SaeLensConfig) -> str | None:
    """Return the source's hook_name where it is known to be another place than the layer."""
    found = config.block_and_place
    if found is None:
        return None
    block, place = found
    here = {
        "resid_post": ("BLOCK", block),
        "resid_pre": ("BLOCK", block - 1),
        "resid_mid": None,
        "attn_out": ("ATTENTION", block),
        "mlp_out": ("MLP", block),
    }[place]
    return None if here == (task.kind, task.depth) else str(config.metadata["hook_name"])


def _write(
    task: ImportSae,
    imported: _Imported,
    taken: dict[str, TakenFile],
    classes: SaeClasses,
    beside: Path,
    origin: LanguageModelProvenance | None,
) -> SaeProvenance:
    imported.sae.context.lm_layer_signature = task.layer
    imported.sae.context.model_id = task.language_model_id
    saved = classes.get(imported.sae_class).save(imported.sae, beside, imported.k)
    directory = Path(task.sae_dir)
    provenance = SaeProvenance(
        sae_class=imported.sae_class,
        n_inputs=imported.sae.context.n_inputs,
        n_latents=imported.sae.context.n_latents,
        layer=task.layer,
        checkpoint_sha256=sha256_of(saved),
        activation_run_id=None,
        run=None,
        training=None,
        metric_definitions_version=DEFINITIONS_VERSION,
        versions=versions(),
        source_files=[FileHash(file.name, file.byte_size, file.sha256) for file in taken.values()],
        language_model=origin,
    )
    content = json.dumps(_metadata(task, imported, taken, provenance), indent=2, allow_nan=False)
    atomic_write(directory / "metadata.json", content.encode())
    with atomic_file(directory / CHECKPOINT) as temporary:
        saved.rename(temporary)
    return provenance


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
        "layer": task.layer,
        "language_model_id": task.language_model_id,
        "source": {
            "format": task.format,
            "path": task.source,
            "files": [
                {"name": file.name, "byte_size": file.byte_size, "sha256": file.sha256}
                for file in taken.values()
            ],
            "metadata": imported.metadata,
        },
        "provenance": to_json(provenance),
        "created_at": datetime.now(UTC).isoformat(),
    }
