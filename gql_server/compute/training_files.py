"""The files of a trained SAE: checkpoint, history and metadata."""

import json
import math
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from gql_server.compute.messages import TrainSae
from gql_server.compute.metrics import DEFINITIONS_VERSION
from gql_server.compute.sae_classes import SaeClass
from gql_server.compute.trainer import TrainingReport
from gql_server.compute.training_plan import TrainingPlan
from gql_server.compute.training_store import TrainingStore
from gql_server.files import whole_directory

from mi_crow.mechanistic.sae.sae import Sae


def write_training(
    task: TrainSae,
    sae: Sae,
    sae_class: SaeClass,
    plan: TrainingPlan,
    report: TrainingReport,
    rows: TrainingStore,
) -> None:
    """Write sae.pt, history.json and metadata.json; the directory appears whole or not at all."""
    sae.context.lm_layer_signature = task.layer
    sae.context.model_id = task.language_model_id
    history = [_plain(point) for point in report.points]
    with whole_directory(Path(task.sae_dir)) as directory:
        sae_class.save(sae, directory, task.k)
        _write_json(directory / "history.json", history)
        _write_json(directory / "metadata.json", _metadata(task, plan, report, rows))


def _metadata(
    task: TrainSae, plan: TrainingPlan, report: TrainingReport, rows: TrainingStore
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
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False), encoding="utf-8")
