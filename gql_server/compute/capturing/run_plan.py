"""A run's plan: made by the first attempt at a capture, taken up by the later ones."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import torch

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.manifest import (
    FORMAT_VERSION,
    Manifest,
    ManifestDataset,
    ManifestLanguageModel,
    ManifestLayer,
    RunPlan,
    read_plan,
    write_plan,
)
from gql_server.artifacts.provenance import LanguageModelProvenance, RunProvenance
from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.capturing.batch_sizes import tokens_per_pass
from gql_server.compute.capturing.capture_plan import CapturePlan, plan_capture
from gql_server.compute.capturing.token_ids import TokenIds
from gql_server.compute.language_models.forward import model_device
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.language_models.text_encoder import PADDING_SIDE, encoder_of
from gql_server.compute.provenance.provenance import dataset_provenance, versions
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.storage.texts import log_skipped
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.model_files.identity import conflict_with_batches, same
from gql_server.protocol.events import Log
from gql_server.protocol.tasks import CaptureActivations

from mi_crow.language_model.language_model import LanguageModel


def run_plan(
    task: CaptureActivations,
    lm: LanguageModel,
    origin: LanguageModelProvenance,
    layers: list[str],
    dataset: TextDataset,
    store: ActivationStore,
    context: TaskContext,
    token_ids: TokenIds,
) -> RunPlan:
    """Return the plan of an earlier attempt, or make one; batches of any other plan are removed.

    Making one tokenizes the texts into ``token_ids``.

    Raises TaskError INVALID where no text is left to capture, CONFLICT where the batches that are there
    are of other weights.
    """
    directory = store.run_directory(task.run_id)
    earlier = read_plan(directory)
    manifest = _manifest(task, lm, layers, dataset)
    stored = store.list_run_batches(task.run_id)
    if earlier is not None and stored:
        _check_same_model(earlier.manifest, origin)
    if earlier is not None and _same(earlier.manifest, manifest, origin):
        return earlier
    if stored:
        context.emit(
            Log("The batches of an earlier attempt are of another plan, so the capture begins anew.")
        )
        store.delete_run(task.run_id)
    capture = plan_capture(task, lm, dataset, context, token_ids)
    log_skipped(dataset, context)
    _log_start(task, capture, context)
    manifest = msgspec.structs.replace(
        manifest,
        dataset=msgspec.structs.replace(manifest.dataset, sha256=capture.sha256),
        truncated_text_count=capture.cut.text_count,
        provenance=_provenance(task, manifest, origin, capture, encoder_of(lm).add_bos),
    )
    plan = RunPlan(manifest, capture.batches, tokens_per_pass(model_device(lm)))
    write_plan(directory, plan)
    return plan


def _check_same_model(earlier: Manifest, origin: LanguageModelProvenance) -> None:
    """Refuse to go on with other weights: a run is of one model, and what is there is not thrown away."""
    if earlier.provenance is None:
        return
    sentence = conflict_with_batches(earlier.provenance.language_model, origin)
    if sentence is not None:
        raise TaskError(sentence, "CONFLICT")


def _same(earlier: Manifest, now: Manifest, origin: LanguageModelProvenance) -> bool:
    """Whether an earlier attempt wants the same of the same language model, so that its batches count."""
    if earlier.provenance is not None:
        if not same(earlier.provenance.language_model, origin):
            return False
        if earlier.provenance.matmul_precision != torch.get_float32_matmul_precision():
            return False
    return _asks_for(earlier) == _asks_for(now)


def _asks_for(manifest: Manifest) -> Manifest:
    """Return a manifest's part that decides what is stored: not the texts' hash, versions and times."""
    dataset = msgspec.structs.replace(manifest.dataset, sha256="")
    return msgspec.structs.replace(
        manifest, dataset=dataset, versions={}, created_at="", provenance=None, truncated_text_count=None
    )


def _provenance(
    task: CaptureActivations,
    manifest: Manifest,
    origin: LanguageModelProvenance,
    plan: CapturePlan,
    add_bos: bool | None,
) -> RunProvenance:
    return RunProvenance(
        language_model=origin,
        dataset=dataset_provenance(task, plan.sha256, manifest.dataset.skipped_row_count),
        layers=[layer.name for layer in manifest.layers],
        max_length=task.max_length,
        batch_size=task.batch_size,
        dtype=task.dtype,
        padding_side=PADDING_SIDE,
        special_token_ids=manifest.special_token_ids,
        versions=versions(),
        matmul_precision=torch.get_float32_matmul_precision(),
        long_texts=task.long_texts,
        truncated_text_count=plan.cut.text_count,
        add_bos=add_bos,
        begin_token_ids=manifest.begin_token_ids,
    )


def _manifest(
    task: CaptureActivations, lm: LanguageModel, layers: list[str], dataset: TextDataset
) -> Manifest:
    """Return the manifest without what only the texts and stored batches tell."""
    source = task.language_model
    return Manifest(
        format_version=FORMAT_VERSION,
        run_id=task.run_id,
        language_model=ManifestLanguageModel(
            source.id, source.kind, source.location, source.revision, source.dtype
        ),
        layers=[ManifestLayer(name, None) for name in layers],
        dataset=ManifestDataset(
            kind=task.dataset_kind,
            description=task.dataset_description,
            sha256="",
            sample_offset=task.sample_offset,
            sample_limit=task.sample_limit,
            sample_count=len(dataset),
            directory=Path(task.dataset_dir).name,
            skipped_row_count=dataset.skipped.count,
        ),
        max_length=task.max_length,
        batch_size=task.batch_size,
        dtype=task.dtype,
        special_token_ids=sorted(special_token_ids(lm)),
        sample_count=0,
        token_count=0,
        byte_size=0,
        batches=[],
        versions={name: version(name) for name in ("mi-crow", "torch", "transformers")},
        created_at=datetime.now(UTC).isoformat(),
        long_texts=task.long_texts,
        begin_token_ids=list(encoder_of(lm).edges.begin),
    )


def _log_start(task: CaptureActivations, plan: CapturePlan, context: TaskContext) -> None:
    layers = "1 layer" if len(task.layers) == 1 else f"{len(task.layers)} layers"
    dropped = f"; {plan.dropped_count} without a token left out" if plan.dropped_count else ""
    texts = f"{plan.text_count:,} texts"
    if task.long_texts == "SPLIT":
        texts = f"{sum(len(batch.rows) for batch in plan.batches):,} pieces of {texts}"
    context.emit(Log(f"Capturing {layers} over {texts} in {len(plan.batches):,} batches{dropped}."))
    if cut := plan.cut.told(task.max_length):
        context.emit(Log(f"{cut} longTexts: SPLIT captures them in pieces."))
