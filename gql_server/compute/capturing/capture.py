"""Runs texts through a language model and stores what some of its layers put out, at once or in parts."""

from pathlib import Path

from gql_server.artifacts.manifest import Manifest, assemble, write_manifest
from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.capturing.batch_capture import BatchCapture
from gql_server.compute.capturing.non_finite import tell_non_finite
from gql_server.compute.capturing.run_plan import run_plan
from gql_server.compute.capturing.token_ids import TokenIds
from gql_server.compute.language_models.loading import LanguageModels, depth_order, position_limit
from gql_server.compute.language_models.text_encoder import encoder_of
from gql_server.compute.storage.store import ActivationStore
from gql_server.compute.storage.texts import open_texts
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import Log
from gql_server.protocol.results import CapturedLayer, CaptureResult
from gql_server.protocol.tasks import CaptureActivations

from mi_crow.language_model.language_model import LanguageModel


def capture_activations(
    task: CaptureActivations,
    context: TaskContext,
    language_models: LanguageModels,
    store: ActivationStore | None = None,
) -> CaptureResult:
    """Store the layers' activations over the task's texts, and the run's manifest when all batches are there.

    Batches that an earlier attempt has stored are kept. Raises TaskError where the input is at fault.
    """
    store = store or ActivationStore(Path(task.store_dir))
    batches = _prepare(task, context, language_models, store)
    if task.parts == 1:
        batches.log_stored()
    batches.capture()
    del batches
    manifest = assemble(store.run_directory(task.run_id))
    assert manifest is not None
    write_manifest(store.manifest_path(task.run_id), manifest)
    _log_end(manifest, context)
    tell_non_finite(manifest, task, context)
    return CaptureResult(
        layers=[CapturedLayer(layer.name, layer.hidden_size or 0) for layer in manifest.layers],
        dataset_sample_count=manifest.dataset.sample_count,
        sample_count=manifest.sample_count,
        batch_count=len(manifest.batches),
        token_count=manifest.token_count,
        byte_size=manifest.byte_size,
        provenance=manifest.provenance,
        dataset_skipped_count=manifest.dataset.skipped_row_count,
        piece_count=manifest.piece_count,
        truncated_text_count=manifest.truncated_text_count,
    )


def prepare_parts(task: CaptureActivations, context: TaskContext, language_models: LanguageModels) -> None:
    """Write the plan that several parts go by; raises what ``capture_activations`` does."""
    _prepare(task, context, language_models, ActivationStore(Path(task.store_dir))).log_stored()


def capture_part(
    task: CaptureActivations, part: int, context: TaskContext, language_models: LanguageModels
) -> None:
    """Store what is missing of one part's batches; raises what ``capture_activations`` does."""
    _prepare(task, context, language_models, ActivationStore(Path(task.store_dir))).capture(part)


def _prepare(
    task: CaptureActivations, context: TaskContext, language_models: LanguageModels, store: ActivationStore
) -> BatchCapture:
    lm, origin = language_models.get_identified(task.language_model)
    layers = depth_order(lm, list(dict.fromkeys(task.layers)))
    _check_max_length(lm, task.max_length)
    dataset = open_texts(Path(task.dataset_dir))
    token_ids = TokenIds(encoder_of(lm), dataset, task.max_length, split=task.long_texts == "SPLIT")
    plan = run_plan(task, lm, origin, layers, dataset, store, context, token_ids)

    def check_weights() -> None:
        language_models.check_not_overwritten(task.language_model)

    return BatchCapture(task, context, lm, layers, store, token_ids, plan, check_weights)


def _check_max_length(lm: LanguageModel, max_length: int) -> None:
    n_special = encoder_of(lm).around_count
    if max_length <= n_special:
        reason = f"A text gets {n_special} special tokens, which do not count, so maxLength must be higher."
        raise TaskError(reason, "INVALID", ("maxLength",))
    limit = position_limit(lm)
    if limit is not None and max_length > limit:
        reason = f"The language model takes {limit} tokens at most, so maxLength cannot be {max_length}."
        raise TaskError(reason, "INVALID", ("maxLength",))


def _log_end(manifest: Manifest, context: TaskContext) -> None:
    megabytes = manifest.byte_size / 1e6
    sentence = (
        f"Stored {manifest.token_count:,} tokens of {manifest.sample_count:,} texts in "
        f"{len(manifest.batches):,} batches, {megabytes:,.1f} MB."
    )
    context.emit(Log(sentence))
