"""Generating text, steered through an SAE or not, and telling which neurons fire meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating.decoding import Decoding
from gql_server.compute.generating.output import Output, Variant
from gql_server.compute.generating.sampling import Sampler
from gql_server.compute.generating.texts import write_generation_texts
from gql_server.compute.inspection.peaks import Peaks
from gql_server.compute.inspection.ranking import strongest_per_row
from gql_server.compute.language_models.loading import position_limit, special_token_ids
from gql_server.compute.language_models.prompts import EncodedPrompt, encode_prompts
from gql_server.compute.language_models.token_text import StopStrings, TokenTexts
from gql_server.compute.non_finite import cause_in_model
from gql_server.compute.saes.hooks import SaeHook
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import (
    GeneratedToken,
    NeuronActivationMessage,
    TokenGenerated,
    TokenProbability,
)
from gql_server.protocol.results import GenerateResult
from gql_server.protocol.tasks import Generate

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae


def generate(task: Generate, context: TaskContext, lm: LanguageModel, sae: Sae | None) -> GenerateResult:
    """Generate for every prompt: the baseline unless only steering is asked for, then the steered variant.

    Both start from the same random streams. Emits TokenGenerated as tokens are made, and OutputFinished
    prompt by prompt, the baseline before the steered. TaskError (INVALID) with a path where a prompt or an
    edit does not fit.
    """
    prompts = _encode(task, lm)
    _check_edits(task)
    variants = _variants(task, sae)
    finished = _InOrder(context, task, [(i, v) for i in range(len(prompts)) for v in variants])
    for variant in variants:
        _VariantRun(task, context, lm, sae, variant, finished).run(prompts)
    written = task.top_texts_path is not None and task.sae is not None
    if task.top_texts_path is not None and task.sae is not None:
        write_generation_texts(
            task.top_texts_path, task.sae.id, task.prompts, finished.outputs, task.top_neurons
        )
    return GenerateResult(top_texts_written=written)


def _variants(task: Generate, sae: Sae | None) -> list[Variant]:
    if sae is None or task.edits is None:
        return ["BASELINE"]
    return ["BASELINE", "STEERED"] if task.compare_to_baseline else ["STEERED"]


def _encode(task: Generate, lm: LanguageModel) -> list[EncodedPrompt]:
    prompts = encode_prompts(lm, task.prompts, task.chats)
    limit = position_limit(lm)
    for index, encoded in enumerate(prompts):
        n_tokens = len(encoded.tokens)
        if n_tokens == 0:
            raise TaskError(
                f"Prompt {index} has no tokens; write something.", "INVALID", ("prompts", str(index))
            )
        if limit is not None and n_tokens + task.max_new_tokens > limit:
            reason = (
                f"Prompt {index} has {n_tokens} tokens and the language model takes {limit} in all, "
                f"so at most {limit - n_tokens} can be generated."
            )
            raise TaskError(reason, "INVALID", ("maxNewTokens",))
    return prompts


def _check_edits(task: Generate) -> None:
    for number, edit in enumerate(task.edits or []):
        if task.sae is not None and not 0 <= edit.neuron_index < task.sae.n_latents:
            reason = f"The SAE's neurons are 0 to {task.sae.n_latents - 1}; there is no {edit.neuron_index}."
            raise TaskError(reason, "INVALID", ("edits", str(number), "neuronIndex"))


class _InOrder:
    """Sends finished outputs in their final order, each as soon as those before it are there."""

    def __init__(self, context: TaskContext, task: Generate, order: list[tuple[int, Variant]]) -> None:
        self.outputs: list[Output] = []
        self._context = context
        self._top_neurons = task.top_neurons
        self._order = order
        self._waiting: dict[tuple[int, Variant], Output] = {}

    def add(self, output: Output) -> None:
        """Take in an output that is finished now."""
        output.close()
        self._waiting[output.prompt_index, output.variant] = output
        while len(self.outputs) < len(self._order) and self._order[len(self.outputs)] in self._waiting:
            output = self._waiting.pop(self._order[len(self.outputs)])
            self.outputs.append(output)
            self._context.emit(output.message(self._top_neurons))


@dataclass
class _Row:
    """A prompt in the batch."""

    output: Output
    sampler: Sampler
    texts: TokenTexts
    token_ids: list[int]
    """The prompt's ids, then the output's."""
    last_token_fed: bool = False
    """Whether a finished row stayed for one more pass, so that its last token's latents are seen."""


class _VariantRun:
    """One variant of all prompts, as one batch."""

    def __init__(
        self,
        task: Generate,
        context: TaskContext,
        lm: LanguageModel,
        sae: Sae | None,
        variant: Variant,
        finished: _InOrder,
    ) -> None:
        self._task = task
        self._context = context
        self._lm = lm
        self._variant: Variant = variant
        self._finished = finished
        self._special = special_token_ids(lm)
        self._end_ids = _end_ids(lm)
        self._hook = _hook(task, sae, variant)
        self._decoding = Decoding(lm, task.sae.layer if task.sae else "", self._hook, context.check)

    def run(self, prompts: Sequence[EncodedPrompt]) -> None:
        """Generate until every row is finished."""
        rows = [self._row(index, encoded) for index, encoded in enumerate(prompts)]
        self._context.check()
        step = self._decoding.start([row.token_ids for row in rows])
        for row, (values, places) in zip(rows, step.peaks, strict=bool(step.peaks)):
            row.output.peaks = Peaks(values, places, len(row.token_ids))
        while rows:
            self._choose_tokens(rows, step.logits, step.sparse)
            kept = [number for number, row in enumerate(rows) if not self._finish_if_done(row)]
            rows = [rows[number] for number in kept]
            if not rows:
                return
            self._context.check()
            if all(row.output.finish_reason for row in rows):
                self._see_tokens(rows, self._decoding.look(kept, [row.token_ids[-1] for row in rows]))
                for row in rows:
                    self._finished.add(row.output)
                return
            step = self._decoding.advance(kept, [row.token_ids[-1] for row in rows])
            if step.sparse is not None:
                self._see_tokens(rows, step.sparse)

    def _row(self, index: int, encoded: EncodedPrompt) -> _Row:
        def release(token: GeneratedToken) -> None:
            self._context.emit(TokenGenerated(index, self._variant, token))

        output = Output(
            index, self._variant, encoded, StopStrings(self._task.stop), self._task.max_new_tokens, release
        )
        ids = encoded.token_ids
        return _Row(output, Sampler(self._task, index), TokenTexts(self._lm.tokenizer, ids), list(ids))

    def _see_tokens(self, rows: Sequence[_Row], sparse: SparseLatents) -> None:
        for row, (neurons, values) in zip(rows, sparse.by_row(), strict=True):
            assert row.output.peaks is not None
            row.output.peaks.add(neurons, values, row.token_ids[-1] not in self._special)

    def _choose_tokens(self, rows: Sequence[_Row], logits: Tensor, sparse: SparseLatents | None) -> None:
        """Give each row that goes on its next token, and send it."""
        self._check_finite(rows, logits)
        log_probabilities = logits.log_softmax(dim=1)
        neurons: list[list[NeuronActivationMessage]] = [[] for _ in rows]
        if sparse is not None:
            neurons = strongest_per_row(sparse, self._task.top_neurons)
        for number, row in enumerate(rows):
            if row.output.finish_reason is None:
                token_id = row.sampler.choose(row.token_ids, logits[number])
                self._add_token(row, token_id, log_probabilities[number], neurons[number])

    def _check_finite(self, rows: Sequence[_Row], logits: Tensor) -> None:
        for row, finite in zip(rows, logits.isfinite().all(dim=1).tolist(), strict=True):
            if row.output.finish_reason is not None or finite:
                continue
            place = f"token {len(row.output.tokens)} of prompt {row.output.prompt_index}"
            if self._variant == "STEERED" and self._task.edits:
                reason = f"The edits drive the model's numbers out of range at {place}; "
                raise TaskError(reason + "use smaller multipliers and biases.", "INVALID", ("steering",))
            why = cause_in_model(self._task.language_model.dtype)
            raise TaskError(f"The language model's numbers are out of range at {place}. {why}")

    def _add_token(
        self, row: _Row, token_id: int, log_probabilities: Tensor, neurons: list[NeuronActivationMessage]
    ) -> None:
        if token_id in self._end_ids:
            row.output.end(row.texts.rest())
            return
        token = GeneratedToken(
            index=len(row.output.tokens),
            token_id=token_id,
            alternatives=self._alternatives(row.texts, log_probabilities),
            text=row.texts.add(token_id, last=row.output.next_is_last),
            log_probability=float(log_probabilities[token_id]),
            top_neurons=neurons,
        )
        row.token_ids.append(token_id)
        row.output.add(token)

    def _alternatives(self, texts: TokenTexts, log_probabilities: Tensor) -> list[TokenProbability]:
        best = log_probabilities.topk(min(self._task.top_log_probabilities, len(log_probabilities)))
        return [
            TokenProbability(token_id, texts.preview(token_id), value)
            for value, token_id in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def _finish_if_done(self, row: _Row) -> bool:
        """Finish a row that has ended and needs no look at its last token's neurons any more."""
        if row.output.finish_reason is None:
            return False
        if self._hook is not None and row.output.finish_reason != "END_OF_TEXT" and not row.last_token_fed:
            row.last_token_fed = True
            return False
        self._finished.add(row.output)
        return True


def _hook(task: Generate, sae: Sae | None, variant: Variant) -> SaeHook | None:
    if sae is None:
        return None
    if variant == "BASELINE":
        return SaeHook(sae, exclusions=task.exclusions) if task.top_neurons else None
    return SaeHook(sae, task.mode, task.edits or [], task.exclusions)


def _end_ids(lm: LanguageModel) -> set[int]:
    """Return the ids that end a text, by the model's generation config and the tokenizer."""
    configured = getattr(lm.model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return {token_id for token_id in [*ids, lm.tokenizer.eos_token_id] if token_id is not None}
