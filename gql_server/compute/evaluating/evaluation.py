"""Measures an SAE in its layer's place: how near its reconstructions are, and what they do to the model."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from gql_server.artifacts.datasets import TextDataset
from gql_server.artifacts.provenance import LanguageModelProvenance
from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.capturing.capture_plan import SelectedTexts, select_texts
from gql_server.compute.evaluating.measured_tokens import Choice, MeasuredTokens
from gql_server.compute.evaluating.metrics import PredictionMetrics, ReconstructionMetrics, Targets
from gql_server.compute.exclusions import norms_of
from gql_server.compute.language_models.forward import model_device, stopping_after
from gql_server.compute.language_models.layers import check_order
from gql_server.compute.language_models.loading import position_limit, special_token_ids
from gql_server.compute.language_models.padding import PaddedBatch, marks, pad
from gql_server.compute.language_models.text_encoder import CutText, encoder_of
from gql_server.compute.non_finite import cause_in_model
from gql_server.compute.saes.encoding import decode, encode, n_outputs_of, skipped
from gql_server.compute.saes.hooks import MAX_HOOK_LATENTS, ReplacementHook, attached
from gql_server.compute.saes.metadata import note_evaluation
from gql_server.compute.storage.texts import OF_AN_EVALUATION, log_skipped, open_texts
from gql_server.compute.training.metrics import DEFINITIONS_VERSION
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import Log, Progress
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import EvaluatedDataset, EvaluationResult
from gql_server.protocol.tasks import EvaluateSae

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

DEFAULT_MAX_LENGTH = 128
"""Tokens per text where the SAE was trained on no run of this server."""
MAX_LOGITS = 2**24
"""Logits of a batch, unless a single text has more: 64 MB of float32, and two passes' at once."""
MAX_TOKENS = 2048
"""Tokens of a batch, padding included, unless a single text has more; matters for small vocabularies."""

_OUT_OF_RANGE = (
    "With the reconstructions in the layer's place the language model's numbers are out of range, so nothing "
    "can be said of its predictions there."
)


def evaluate_sae(
    task: EvaluateSae,
    context: TaskContext,
    lm: LanguageModel,
    sae: Sae,
    origin: LanguageModelProvenance | None = None,
    check_weights: Callable[[], None] = lambda: None,
) -> EvaluationResult:
    """Measure an SAE on a task's texts, and note the statistics in its metadata.json.

    What is measured, on which tokens, and after whom: docs/evaluation.md. Raises TaskError where the texts
    are not there or have no token that counts, or the SAE does not fit the layer or gives values that are
    not finite. ``origin`` is what the model is; ``check_weights`` raises where it was not that all the time.
    """
    if task.attempt > 1:
        context.emit(Log("An evaluation is made in one go, so it begins anew."))
    dataset = open_texts(Path(task.dataset_dir), OF_AN_EVALUATION)
    max_length, why = _max_length(task, lm)
    stop = task.sample_offset + task.sample_limit

    def token_ids(row: int, texts: list[str]) -> list[CutText]:
        return encoder_of(lm).cut(texts, max_length)

    texts = select_texts(lm, dataset, task.sample_offset, stop, token_ids, context)
    if not len(texts.rows):
        reason = "No text is left to measure on: none of those selected has a token that is not special."
        raise TaskError(reason, "INVALID", ("dataset",))
    log_skipped(dataset, context)
    context.emit(Log(_opening(task, texts, max_length, why)))
    exclusions = _measured(task, lm, sae, texts, dataset, max_length, context)
    evaluation = Evaluation(lm, sae, task.sae.layer, context, exclusions, task.sae.output_layer)
    _pass_over(lm, texts.kept, dataset, max_length, evaluation, context)
    evaluation.tokens.check(task.language_model.dtype)
    check_weights()
    result = msgspec.structs.replace(
        _result(task, texts, dataset, max_length, evaluation), language_model=origin
    )
    noted = note_evaluation(Path(task.sae.directory), result)
    context.emit(Log(_closing(result)))
    if left_out := _left_out(result, task.language_model.dtype):
        context.emit(Log(left_out))
    if result.ce_loss_original is not None and result.ce_loss_reconstructed is None:
        context.emit(Log(_OUT_OF_RANGE))
    if not noted:
        context.emit(Log("The SAE has no metadata.json that the statistics could be written into as well."))
    return result


def _max_length(task: EvaluateSae, lm: LanguageModel) -> tuple[int, str]:
    """Choose where texts are cut, and say why there: an SAE knows the positions that it was trained on."""
    limit = position_limit(lm)
    if task.trained_max_length is not None:
        chosen, why = task.trained_max_length, "as in the run that it was trained on"
    else:
        chosen, why = DEFAULT_MAX_LENGTH, "as it was trained on no run of this server"
    if limit is not None and limit < chosen:
        return limit, "which is as many as the language model takes"
    return chosen, why


class Evaluation:
    """Takes texts batch by batch, in three passes each: the model as it is, reconstructed, zero-ablated."""

    def __init__(
        self,
        lm: LanguageModel,
        sae: Sae,
        layer: str,
        context: TaskContext,
        exclusions: Exclusions = Exclusions(),  # noqa: B008 (it is frozen)
        output_layer: str | None = None,
    ) -> None:
        """``output_layer`` is the one that a transcoder writes, whose place its reconstructions take."""
        self._lm, self._sae, self._layer, self._context = lm, sae, layer, context
        self._written = output_layer or layer
        check_order(lm, layer, output_layer)
        self.tokens = MeasuredTokens(exclusions)
        self.reconstructions = ReconstructionMetrics(sae.context.n_latents)
        self.predictions = PredictionMetrics()

    def add(self, batch: PaddedBatch) -> None:
        """Measure a batch; where it is padded, and where a token does not count, all stays as it is."""
        hook = ReplacementHook(len(batch.input_ids))
        reading = hook if self._written == self._layer else ReplacementHook(len(batch.input_ids))
        own = self._logits(batch, hook, reading)
        x, y = self._checked(reading.output, batch), self._checked_output(hook.output, batch)
        with torch.inference_mode():
            chosen = self.tokens.choose(
                x, batch.text_positions, self._plain(batch), None if reading is hook else y
            )
            targets = Targets.of(batch, chosen.measured.to(batch.input_ids.device))
            targets = self.predictions.predictable(targets, own)
        hook.replacement = self._reconstruct(x, y, chosen)
        reconstructed = self._logits(batch, hook)
        with torch.inference_mode():
            self.predictions.update(own, reconstructed, targets)
        del own, reconstructed
        hook.replacement = y.masked_fill(chosen.measured[:, :, None].to(y.device), 0.0)
        zero_ablated = self._logits(batch, hook)
        with torch.inference_mode():
            self.predictions.update_zero_ablated(zero_ablated, targets)

    def norms(self, batch: PaddedBatch) -> Tensor:
        """Return the lengths of the tokens' activations that are finite, float64 [n] on the CPU."""
        self._context.check()
        hook = ReplacementHook(len(batch.input_ids))
        with (
            torch.inference_mode(),
            attached(self._lm, self._layer, hook),
            stopping_after(self._lm, self._layer),
        ):
            self._lm.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        x = self._checked(hook.output, batch)
        norms = norms_of(x[self._plain(batch).to(x.device)]).cpu()
        return norms[norms.isfinite()]

    def _plain(self, batch: PaddedBatch) -> Tensor:
        """Return where there is neither padding nor a special token: bool [n_texts, n_positions]."""
        return batch.attention_mask.bool() & ~marks(batch.input_ids, special_token_ids(self._lm))

    def _logits(
        self, batch: PaddedBatch, hook: ReplacementHook, reading: ReplacementHook | None = None
    ) -> Tensor:
        """Run the model with the hook on the layer; return its logits [n_texts, n_positions, vocabulary].

        ``reading``, where it is another one, is on the layer that a transcoder reads.
        """
        # Other requests may run inside a check, so no hook is on the model and no inference mode on.
        self._context.check()
        with torch.inference_mode(), ExitStack() as hooks:
            hooks.enter_context(attached(self._lm, self._written, hook))
            if reading not in (None, hook):
                hooks.enter_context(attached(self._lm, self._layer, reading))
            output = self._lm.model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
            )
        logits: Tensor = output.logits
        return logits

    def _checked(self, x: Tensor | None, batch: PaddedBatch) -> Tensor:
        n_inputs = self._sae.context.n_inputs
        if x is None or x.shape != (*batch.input_ids.shape, n_inputs):
            reason = f"The layer {self._layer} does not give {n_inputs} numbers per token, as the SAE takes."
            raise TaskError(reason, "CONFLICT")
        return x

    def _checked_output(self, y: Tensor | None, batch: PaddedBatch) -> Tensor:
        n_outputs = n_outputs_of(self._sae)
        if y is None or y.shape != (*batch.input_ids.shape, n_outputs):
            reason = (
                f"The layer {self._written} does not give {n_outputs} numbers per token, as the SAE writes."
            )
            raise TaskError(reason, "CONFLICT")
        return y

    def _reconstruct(self, x: Tensor, y: Tensor, chosen: Choice) -> Tensor:
        """Return the layer's output y with the SAE's in its place where tokens are measured; measure that."""
        with torch.inference_mode():
            result = y.clone()
            rows, given = result.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
            device = self._sae.context.device
            size = max(1, MAX_HOOK_LATENTS // self._sae.context.n_latents)
            for places in chosen.finite.flatten().nonzero().flatten().split(size):
                measured = chosen.measured.flatten()[places].to(device)
                activations = given[places].to(device, torch.float32)
                # Of a plain SAE that is the same.
                there = places.to(rows.device)
                wanted = rows[there].to(device, torch.float32)
                latents = encode(self._sae, activations, measured)
                x_hat = decode(self._sae, latents, measured, of=activations)
                if (skip := skipped(self._sae, activations)) is not None:
                    x_hat = x_hat + skip
                self.tokens.update(wanted, x_hat, chosen.typical.flatten()[places].to(device))
                wanted, latents, x_hat = wanted[measured], latents[measured], x_hat[measured]
                self.reconstructions.update(wanted, x_hat, latents)
                rows[there[measured.to(there.device)]] = x_hat.to(rows.device, rows.dtype)
        return result


def _measured(
    task: EvaluateSae,
    lm: LanguageModel,
    sae: Sae,
    texts: SelectedTexts,
    dataset: TextDataset,
    max_length: int,
    context: TaskContext,
) -> Exclusions:
    """Return the exclusions, with the median norm of these texts where one is needed and not known."""
    if task.exclusions.outliers is None or task.exclusions.median_norm is not None:
        return task.exclusions
    context.emit(Log("Looking first how long activations are on these texts, as the SAE does not know."))
    evaluation = Evaluation(lm, sae, task.sae.layer, context)
    norms = [evaluation.norms(batch) for _, batch in _padded(lm, texts.kept, dataset, max_length)]
    together = torch.cat(norms)
    median = float(np.median(together.numpy())) if len(together) else None
    return msgspec.structs.replace(task.exclusions, median_norm=median)


def _pass_over(
    lm: LanguageModel,
    kept: Sequence[tuple[int, int]],
    dataset: TextDataset,
    max_length: int,
    evaluation: Evaluation,
    context: TaskContext,
) -> None:
    start, done = time.monotonic(), 0
    for n_texts, batch in _padded(lm, kept, dataset, max_length):
        evaluation.add(batch)
        done += n_texts
        context.emit(Progress(done, len(kept), done / max(time.monotonic() - start, 1e-9)))


def _padded(
    lm: LanguageModel, kept: Sequence[tuple[int, int]], dataset: TextDataset, max_length: int
) -> Iterator[tuple[int, PaddedBatch]]:
    """Give the texts in batches, and how many each has."""
    for rows in _batches(kept, lm.model.config.get_text_config().vocab_size):
        texts = [dataset[row] for row in rows]
        token_ids = encoder_of(lm).encode(texts, max_length)
        yield len(rows), pad([ids.tolist() for ids in token_ids], "right", model_device(lm))


def _batches(kept: Sequence[tuple[int, int]], n_vocabulary: int) -> Iterator[list[int]]:
    """Put rows into batches by length, longest first, so that what a batch takes stays within bounds."""
    batch: list[int] = []
    longest, most = 0, min(MAX_TOKENS, MAX_LOGITS // n_vocabulary)
    for row, length in sorted(kept, key=lambda pair: -pair[1]):
        if batch and (len(batch) + 1) * longest > most:
            yield batch
            batch = []
        longest = length if not batch else longest
        batch.append(row)
    yield batch


def _result(
    task: EvaluateSae, texts: SelectedTexts, stored: TextDataset, max_length: int, evaluation: Evaluation
) -> EvaluationResult:
    tokens = evaluation.tokens
    near, predicted = evaluation.reconstructions.summary(), evaluation.predictions.summary()
    known = task.dataset_sample_count
    dataset = EvaluatedDataset(
        kind=task.dataset_kind,
        description=task.dataset_description,
        sample_count=len(stored) if known is None else known,
        sample_offset=task.sample_offset,
        sample_limit=task.sample_limit,
        sha256=texts.sha256,
        skipped_row_count=stored.skipped.count,
    )
    return EvaluationResult(
        dataset=dataset,
        sample_count=len(texts.rows),
        max_length=max_length,
        token_count=near.token_count,
        predicted_token_count=predicted.token_count,
        mse=near.mse,
        explained_variance=near.explained_variance,
        l0=near.l0,
        dead_fraction=near.dead_fraction,
        dead_window_tokens=near.token_count,
        cosine_similarity=near.cosine_similarity,
        relative_reconstruction_bias=near.relative_reconstruction_bias,
        ce_loss_original=predicted.original,
        ce_loss_reconstructed=predicted.reconstructed,
        ce_loss_zero_ablated=predicted.zero_ablated,
        ce_loss_recovered=predicted.recovered,
        kl_divergence_reconstructed=predicted.kl_divergence,
        metric_definitions_version=DEFINITIONS_VERSION,
        evaluated_at=datetime.now(UTC).isoformat(),
        truncated_text_count=texts.cut.text_count,
        exclude_first_positions=tokens.exclusions.first_positions,
        exclude_outliers=tokens.exclusions.outliers,
        median_norm=tokens.exclusions.median_norm,
        excluded_token_count=tokens.excluded_count,
        non_finite_token_count=tokens.non_finite_count,
        outlier_count=tokens.outlier_count,
        explained_variance_with_outliers=tokens.explained_variance_with_outliers,
        explained_variance_without_outliers=tokens.explained_variance_without_outliers,
    )


def _opening(task: EvaluateSae, texts: SelectedTexts, max_length: int, why: str) -> str:
    dropped = f"; {texts.dropped_count:,} without a token left out" if texts.dropped_count else ""
    cut = f" {told}" if (told := texts.cut.told(max_length)) else ""
    return (
        f"Measuring {task.sae.sae_class} with {task.sae.n_latents:,} neurons in the place of "
        f"{task.sae.writes} on {len(texts.rows):,} texts, cut at {max_length} tokens, {why}{dropped}.{cut}"
    )


def _closing(result: EvaluationResult) -> str:
    return (
        f"Measured on {result.token_count:,} tokens: explained variance {_shown(result.explained_variance)}, "
        f"{_shown(result.l0, 1)} active neurons per token, {_shown(result.dead_fraction)} of the neurons "
        f"dead; on {result.predicted_token_count:,} predicted tokens: cross-entropy "
        f"{_shown(result.ce_loss_original)} as it is, {_shown(result.ce_loss_reconstructed)} reconstructed, "
        f"{_shown(result.ce_loss_zero_ablated)} zeroed, {_shown(result.ce_loss_recovered)} recovered."
    )


def _left_out(result: EvaluationResult, dtype: str) -> str | None:
    """Say what was not measured on, and what outliers do to the explained variance; None where nothing is."""
    parts = []
    if result.outlier_count:
        parts.append(
            f"Explained variance is {_shown(result.explained_variance_with_outliers)} with and "
            f"{_shown(result.explained_variance_without_outliers)} without the {result.outlier_count:,} "
            "tokens that are excluded or far longer than the median."
        )
    if result.non_finite_token_count:
        parts.append(
            f"{result.non_finite_token_count:,} tokens were left out, as their activations are NaN or "
            f"infinite. {cause_in_model(dtype)}"
        )
    return " ".join(parts) or None


def _shown(value: float | None, digits: int = 4) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"
