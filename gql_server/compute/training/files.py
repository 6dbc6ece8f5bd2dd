"""The files of a trained SAE: checkpoint, history and metadata."""

import json
import math
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch

from gql_server.artifacts.file_hashes import sha256_of
from gql_server.artifacts.files import TEMPORARY_PREFIX, atomic_file, atomic_write
from gql_server.artifacts.provenance import RunProvenance, SaeProvenance, TrainingProvenance, to_json
from gql_server.compute.provenance.provenance import versions
from gql_server.compute.saes.classes import CHECKPOINT, SaeClass
from gql_server.compute.training.metrics import DEFINITIONS_VERSION
from gql_server.compute.training.plan import TrainingPlan
from gql_server.compute.training.report import TrainingReport
from gql_server.compute.training.training_store import TrainingStore
from gql_server.protocol.results import OutlierStatistics
from gql_server.protocol.tasks import TrainSae

from mi_crow.mechanistic.sae.sae import Sae


def write_training(
    task: TrainSae,
    sae: Sae,
    sae_class: SaeClass,
    plan: TrainingPlan,
    report: TrainingReport,
    rows: TrainingStore,
    run: RunProvenance | None,
    measure: Callable[[], OutlierStatistics | None],
) -> tuple[SaeProvenance, OutlierStatistics | None]:
    """Write history.json, metadata.json and sae.pt, each whole and the checkpoint last.

    Returns the provenance that is in metadata.json too, and what ``measure`` finds of the saved SAE.
    Whatever else is in the directory stays: concepts may have been saved there during the training.
    """
    sae.context.lm_layer_signature = task.layer
    sae.context.model_id = task.language_model_id
    history = [_plain(point) for point in report.points]
    directory = Path(task.sae_dir)
    directory.mkdir(parents=True, exist_ok=True)
    # save() takes a directory and names its file itself, so it writes beside and the file is moved.
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=directory) as beside:
        saved = sae_class.save(sae, Path(beside), task.k)
        # Trap: an engine that has been in evaluation mode before it is saved is another in the last bit.
        outliers = measure()
        _write_json(directory / "history.json", history)
        provenance = SaeProvenance(
            sae_class=task.sae_class,
            n_inputs=rows.n_inputs,
            n_latents=task.n_latents,
            layer=task.layer,
            checkpoint_sha256=sha256_of(saved),
            activation_run_id=task.run_id,
            run=run,
            training=_training(plan, report, rows),
            metric_definitions_version=DEFINITIONS_VERSION,
            versions=versions(),
        )
        metadata = _metadata(task, plan, report, rows, provenance)
        metadata["outliers"] = None if outliers is None else _plain(outliers)
        _write_json(directory / "metadata.json", metadata)
        with atomic_file(directory / CHECKPOINT) as temporary:
            saved.rename(temporary)
    return provenance, outliers


def _training(plan: TrainingPlan, report: TrainingReport, rows: TrainingStore) -> TrainingProvenance:
    return TrainingProvenance(
        config=_plain(plan.config),
        shuffle_seed=rows.shuffle_seed,
        shuffle_buffer_rows=rows.buffer_rows,
        activation_scale=plan.activation_scale,
        dead_window=report.dead_window,
        batch_count=rows.batch_count,
        token_count=rows.token_count,
        thread_count=torch.get_num_threads(),
        matmul_precision=torch.get_float32_matmul_precision(),
        excluded_token_count=rows.stored.excluded_count,
        non_finite_token_count=rows.stored.non_finite_count,
    )


def _metadata(
    task: TrainSae,
    plan: TrainingPlan,
    report: TrainingReport,
    rows: TrainingStore,
    provenance: SaeProvenance,
) -> dict[str, Any]:
    return {
        "sae_id": task.sae_id,
        "name": task.name,
        "sae_class": task.sae_class,
        "n_inputs": rows.n_inputs,
        "n_latents": task.n_latents,
        "k": plan.config.k,
        "layer": task.layer,
        "language_model_id": task.language_model_id,
        "run_id": task.run_id,
        "training_config": _plain(plan.config),
        "seed": task.seed,
        "activation_scale": plan.activation_scale,
        "token_count": rows.token_count,
        "tokens_dropped_per_epoch": rows.tokens_dropped_per_epoch,
        "dead_window": report.dead_window,
        "final_metrics": _plain(report.points[-1]),
        "metric_definitions_version": DEFINITIONS_VERSION,
        "versions": {name: version(name) for name in ("mi-crow", "overcomplete", "torch")},
        "provenance": to_json(provenance),
        "created_at": datetime.now(UTC).isoformat(),
    }


def _plain(message: Any) -> dict[str, Any]:
    """Return a message's fields for JSON, which has no NaN: null then."""
    fields = msgspec.structs.asdict(message)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }


def _write_json(path: Path, content: object) -> None:
    atomic_write(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode())
