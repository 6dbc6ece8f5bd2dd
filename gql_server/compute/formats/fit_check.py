"""Whether an SAE that was imported fits the layer and the model: a look at a few texts, not an evaluation.

Explained variance and L0 are defined as an evaluation's (docs/evaluation.md). Padding and special tokens do
not count, nor do the first position of each text and outliers, which attend to nothing and are far longer
than the rest: an SAE may leave them out, and they would decide the figures.
"""

import math
import statistics
from contextlib import ExitStack
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from gql_server.compute.evaluating.metrics import ReconstructionMetrics
from gql_server.compute.exclusions import DEFAULT_OUTLIERS, norms_of, not_outlying
from gql_server.compute.formats.fit_texts import TEXTS
from gql_server.compute.language_models.forward import model_device, stopping_after
from gql_server.compute.language_models.loading import LanguageModels, position_limit, special_token_ids
from gql_server.compute.language_models.padding import PaddedBatch, marks, pad
from gql_server.compute.language_models.text_encoder import encoder_of
from gql_server.compute.saes.classes import place
from gql_server.compute.saes.encoding import decode, encode, n_outputs_of, skipped
from gql_server.compute.saes.hooks import MAX_HOOK_LATENTS, ReplacementHook, attached
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.formats.sae_sources.description import SaeDescription
from gql_server.model_files.files import name_of
from gql_server.protocol.events import Log, Stage
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.results import SaeFit
from gql_server.protocol.tasks import ImportSae

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

MAX_LENGTH = 128
"""Tokens per text."""
FIRST_POSITIONS = 1
"""Left out of each text."""
LEAST_EXPLAINED_VARIANCE = 0.3
"""Below it something is wrong: published SAEs have 0.5 to 0.95, on other texts a little less."""
MOST_L0_RATIO = 2.0
"""Between L0 here and the one that the source states, either way."""
MOST_NORM_RATIO = 2.0
"""Between the mean norm of scaled inputs and sqrt(n_inputs), either way."""
_STAGE = "checking that it fits"
_BATCH = 4
_BYTES = {"FLOAT32": 4, "FLOAT16": 2, "BFLOAT16": 2}
_MEMORY = Path("/proc/meminfo")


def check_fit(
    task: ImportSae,
    described: SaeDescription,
    sae: Sae,
    context: TaskContext,
    language_models: LanguageModels | None,
) -> SaeFit | None:
    """Measure an SAE on the built-in texts; None, with a sentence in the job's log, where that cannot be.

    Whatever the language model or the SAE lacks, the import goes on. Raises CancelRequested.
    """
    source = task.language_model
    if not task.check_fit or source is None or language_models is None:
        return None
    if not language_models.is_loaded(source) and (lacking := _lacking(task)):
        context.emit(Log(f"Whether it fits was not checked: {lacking}"))
        return None
    try:
        lm = language_models.get(source)
        fit = measure_fit(lm, sae, task, described, context)
    except TaskError as error:
        context.emit(Log(f"Whether it fits could not be checked: {error.reason}"))
        return None
    except (MemoryError, torch.OutOfMemoryError):
        lacking = f"there is no memory for {name_of(source)} beside the SAE."
        context.emit(Log(f"Whether it fits was not checked: {lacking}"))
        return None
    for sentence in (_told(fit), *fit.warnings):
        context.emit(Log(sentence))
    return fit


def measure_fit(
    lm: LanguageModel, sae: Sae, task: ImportSae, described: SaeDescription, context: TaskContext
) -> SaeFit:
    """Run the built-in texts through the model, and the SAE over what its layer puts out.

    A transcoder's reconstructions are compared with what its output layer puts out.

    Raises TaskError where the layer gives nothing that the SAE takes, or values are not finite.
    """
    place(sae, "cpu")
    rows, wanted = _activations(lm, sae, task, context)
    if not len(rows):
        raise TaskError("The layer gives no finite activations on the built-in texts.", "CONFLICT")
    metrics = ReconstructionMetrics(sae.context.n_latents)
    with torch.inference_mode():
        size = max(1, MAX_HOOK_LATENTS // sae.context.n_latents)
        for part, there in zip(rows.split(size), wanted.split(size), strict=True):
            latents = encode(sae, part)
            x_hat = decode(sae, latents, of=part)
            if (skip := skipped(sae, part)) is not None:
                x_hat = x_hat + skip
            metrics.update(there, x_hat, latents)
    found = metrics.summary()
    stated = stated_l0(described) or task.stated_l0
    mean_norm = float(norms_of(rows).mean())
    fit = SaeFit(
        explained_variance=found.explained_variance,
        l0=found.l0,
        stated_l0=stated,
        mean_norm=mean_norm,
        text_count=len(TEXTS),
        token_count=found.token_count,
    )
    return _with_warnings(fit, task, described)


def stated_l0(described: SaeDescription) -> float | None:
    """Return the active neurons per token that the source states: k, or L0 of its path or configuration."""
    if described.k is not None:
        return float(described.k)
    try:
        stated = float(described.metadata["l0"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return stated if math.isfinite(stated) and stated > 0 else None


def _activations(lm: LanguageModel, sae: Sae, task: ImportSae, context: TaskContext) -> tuple[Tensor, Tensor]:
    """Return what is read and what is to be written at the tokens that count: float32 [n, width] on the CPU.

    Both are the same but for a transcoder.
    """
    most = min(MAX_LENGTH, position_limit(lm) or MAX_LENGTH)
    encoded = [ids.tolist() for ids in encoder_of(lm).encode(TEXTS, most) if len(ids)]
    read, written = list[Tensor](), list[Tensor]()
    for start in range(0, len(encoded), _BATCH):
        # Other requests may run inside a check, so no hook is on the model then.
        context.check()
        context.emit(Stage(_STAGE, start, len(encoded)))
        batch = pad(encoded[start : start + _BATCH], "right", model_device(lm))
        x, y = _put_out(lm, batch, task.layer, task.output_layer or task.layer)
        _check_width(x, batch, sae.context.n_inputs, task.layer)
        _check_width(y, batch, n_outputs_of(sae), task.output_layer or task.layer)
        counted = batch.attention_mask.bool() & ~marks(batch.input_ids, special_token_ids(lm))
        counted &= batch.text_positions >= FIRST_POSITIONS
        read.append(x[counted.to(x.device)].to("cpu", torch.float32))
        written.append(y[counted.to(y.device)].to("cpu", torch.float32))
    context.emit(Stage(_STAGE, len(encoded), len(encoded)))
    x, y = torch.cat(read), torch.cat(written)
    finite = x.isfinite().all(dim=-1) & y.isfinite().all(dim=-1)
    x, y = x[finite], y[finite]
    if not len(x):
        return x, y
    median = statistics.median(norms_of(x).tolist())
    kept = not_outlying(Exclusions(outliers=DEFAULT_OUTLIERS, median_norm=median), x)
    return x[kept], y[kept]


def _put_out(lm: LanguageModel, batch: PaddedBatch, layer: str, output_layer: str) -> tuple[Tensor, Tensor]:
    """Return what two layers, the later one last, put out for a batch."""
    reads, writes = ReplacementHook(len(batch.input_ids)), ReplacementHook(len(batch.input_ids))
    with torch.inference_mode(), ExitStack() as hooks:
        hooks.enter_context(attached(lm, layer, reads))
        if output_layer != layer:
            hooks.enter_context(attached(lm, output_layer, writes))
        hooks.enter_context(stopping_after(lm, output_layer))
        lm.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    x, y = reads.output, (writes if output_layer != layer else reads).output
    if x is None or y is None:
        raise TaskError(f"No text goes from {layer} to {output_layer}.", "CONFLICT")
    return x, y


def _check_width(values: Tensor, batch: PaddedBatch, width: int, layer: str) -> None:
    if values.shape != (*batch.input_ids.shape, width):
        reason = f"The layer {layer} does not give {width} numbers per token, as the SAE has them."
        raise TaskError(reason, "CONFLICT")


def _with_warnings(fit: SaeFit, task: ImportSae, described: SaeDescription) -> SaeFit:
    """Return a fit with what is far off in it, in sentences."""
    warnings = []
    variance = fit.explained_variance
    if variance is None or variance < LEAST_EXPLAINED_VARIANCE:
        what = "no defined share" if variance is None else f"only {variance:.3f}"
        warnings.append(
            f"Its reconstructions explain {what} of the variance of what {task.layer} puts out on the"
            f" built-in texts, where an SAE that fits explains at least {LEAST_EXPLAINED_VARIANCE}."
            f" {_reasons(task, described)}"
        )
    if fit.l0 is not None and fit.stated_l0 is not None and not _near(fit.l0, fit.stated_l0, MOST_L0_RATIO):
        warnings.append(
            f"{fit.l0:.1f} of its neurons are active per token on the built-in texts, and its source states"
            f" {fit.stated_l0:g}. {_reasons(task, described)}"
        )
    norm, usual = fit.mean_norm, math.sqrt(described.n_inputs)
    if task.input_scale is not None and norm and not _near(norm * task.input_scale, usual, MOST_NORM_RATIO):
        warnings.append(
            f"Times inputScale, activations of the built-in texts are {norm * task.input_scale:.3g} long on"
            f" average, where such a factor makes them about {usual:.3g}, the square root of their width:"
            f" {usual / norm:.3g} would do that here."
        )
    return msgspec.structs.replace(fit, warnings=warnings)


def _near(found: float, expected: float, ratio: float) -> bool:
    return expected / ratio <= found <= expected * ratio


def _reasons(task: ImportSae, described: SaeDescription) -> str:
    """Return likely reasons, those for which something speaks first."""
    place = f" (its source names {described.place})" if described.place else ""
    reasons = [
        f"it is for another layer{place}",
        "it is for another model, or for other weights of this one",
        "its inputs were scaled or centered by a factor or a mean that its files leave out",
    ]
    trained_with = described.prepends_bos
    if trained_with is not None and task.writes_bos is not None and trained_with != task.writes_bos:
        own, here = ("with a", "none is") if trained_with else ("without a", "one is")
        reasons.insert(0, f"it was trained on texts {own} BOS before them, and {here} written here")
    return f"Likely reasons: {'; '.join(reasons)}."


def _told(fit: SaeFit) -> str:
    variance = "undefined" if fit.explained_variance is None else f"{fit.explained_variance:.4f}"
    stated = "" if fit.stated_l0 is None else f" (its source states {fit.stated_l0:g})"
    return (
        f"On {fit.token_count:,} tokens of {fit.text_count} built-in texts, explained variance is {variance}"
        f" and {fit.l0 or 0.0:.1f} neurons are active per token{stated}."
    )


def _lacking(task: ImportSae) -> str | None:
    """Say why the language model had better not be loaded here; None where nothing speaks against it.

    Only what is known to be too large is left out: a worker that runs out of memory would be killed, and the
    import with it.
    """
    source = task.language_model
    if source is None or task.parameter_count is None or not _MEMORY.exists() or torch.cuda.is_available():
        return None
    needed = task.parameter_count * _BYTES.get(source.dtype, 4)
    found = [line.split() for line in _MEMORY.read_text().splitlines() if line.startswith("MemAvailable:")]
    available = int(found[0][1]) * 1024 if found else None
    if available is None or needed <= available:
        return None
    return (
        f"{name_of(source)} is not loaded and takes {needed / 1e9:.1f} GB, of which"
        f" {available / 1e9:.1f} GB are free."
    )
