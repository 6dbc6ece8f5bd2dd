"""Generating text, steered through an SAE or not, and telling which neurons fire meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import msgspec
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating.baselines import BaselineKey, Baselines
from gql_server.compute.generating.batch import Step
from gql_server.compute.generating.decoding import Decoding, RunningBatches
from gql_server.compute.generating.output import Output, Variant
from gql_server.compute.generating.sampling import Sampler
from gql_server.compute.generating.texts import write_generation_texts
from gql_server.compute.inspection.peaks import Peaks
from gql_server.compute.inspection.ranking import strongest_per_row
from gql_server.compute.language_models.layers import check_order
from gql_server.compute.language_models.loading import position_limit, special_token_ids
from gql_server.compute.language_models.prompts import EncodedPrompt, encode_prompts
from gql_server.compute.language_models.token_text import StopStrings, TokenTexts
from gql_server.compute.non_finite import cause_in_model
from gql_server.compute.saes.hooks import SaeHook
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import TaskContext, TaskError
from gql_server.protocol.events import (
    GeneratedToken,
    GenerationStarted,
    NeuronActivationMessage,
    OutputFinished,
    TokenGenerated,
    TokenProbability,
)
from gql_server.protocol.results import GenerateResult
from gql_server.protocol.tasks import Generate

from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae


class Generations:
    """What the generations of one worker share: the batches that go on, by language model, and baselines."""

    def __init__(self) -> None:
        self.baselines = Baselines()
        self._running: WeakKeyDictionary[nn.Module, RunningBatches] = WeakKeyDictionary()

    def running(self, lm: LanguageModel) -> RunningBatches:
        """Return the batches that go on with a language model."""
        return self._running.setdefault(lm.model, RunningBatches())


def generate(
    task: Generate,
    context: TaskContext,
    lm: LanguageModel,
    sae: Sae | None,
    generations: Generations | None = None,
) -> GenerateResult:
    """Generate for every prompt: the baseline unless only steering is asked for, and the steered variant.

    Both start from the same random streams, and go through the model together. Emits GenerationStarted,
    TokenGenerated as tokens are made, and OutputFinished prompt by prompt, the baseline before the steered.
    TaskError (INVALID) with a path where a prompt, an edit or a watched neuron does not fit.
    """
    prompts = _encode(task, lm)
    _check_neurons(task)
    context.emit(GenerationStarted(task.seed, [prompt.tokens for prompt in prompts]))
    run = _Run(task, context, lm, sae, generations or Generations())
    run.run(prompts)
    written = task.top_texts_path is not None and task.sae is not None
    if task.top_texts_path is not None and task.sae is not None:
        write_generation_texts(task.top_texts_path, task.sae.id, task.prompts, run.outputs, task.top_neurons)
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


def _check_neurons(task: Generate) -> None:
    if task.sae is None:
        return
    asked: list[tuple[tuple[str, ...], int]] = [
        (("edits", str(number), "neuronIndex"), edit.neuron_index)
        for number, edit in enumerate(task.edits or [])
    ]
    asked += [(("watchNeurons", str(number)), neuron) for number, neuron in enumerate(task.watch_neurons)]
    for path, neuron in asked:
        if not 0 <= neuron < task.sae.n_latents:
            reason = f"The SAE's neurons are 0 to {task.sae.n_latents - 1}; there is no {neuron}."
            raise TaskError(reason, "INVALID", path)


class _InOrder:
    """Sends finished outputs in their final order, each as soon as those before it are there."""

    def __init__(self, context: TaskContext, order: list[tuple[int, Variant]]) -> None:
        self._context = context
        self._order = order
        self._n_sent = 0
        self._waiting: dict[tuple[int, Variant], OutputFinished] = {}

    def add(self, output: OutputFinished) -> None:
        """Take in an output that is finished now."""
        self._waiting[output.prompt_index, output.variant] = output
        while self._n_sent < len(self._order) and self._order[self._n_sent] in self._waiting:
            output = self._waiting.pop(self._order[self._n_sent])
            self._n_sent += 1
            self._context.emit(output)


@dataclass
class _Row:
    """A prompt in one variant."""

    output: Output
    sampler: Sampler
    texts: TokenTexts
    token_ids: list[int]
    """The prompt's ids, then the output's."""
    last_token_fed: bool = False
    """Whether a finished row stayed for one more pass, so that its last token's latents are seen."""


class _Run:
    """All rows of a request: each prompt's baseline, steered variant or both."""

    def __init__(
        self, task: Generate, context: TaskContext, lm: LanguageModel, sae: Sae | None, shared: Generations
    ) -> None:
        self._task = task
        self._context = context
        self._lm = lm
        self._sae = sae
        self._shared = shared
        self._variants = _variants(task, sae)
        self._special = special_token_ids(lm)
        self._end_ids = _end_ids(lm)
        self._hooks = _hooks(task, sae, self._variants)
        if task.sae is not None:
            check_order(lm, task.sae.layer, task.sae.output_layer)
        self.outputs: list[Output] = []
        """Those that were made, in the order of their ends."""

    def run(self, prompts: Sequence[EncodedPrompt]) -> None:
        """Generate until every row is finished."""
        order = [(index, variant) for index in range(len(prompts)) for variant in self._variants]
        self._finished = _InOrder(self._context, order)
        kept = {index for index, encoded in enumerate(prompts) if self._send_kept(index, encoded)}
        rows = [
            self._row(index, variant, prompts[index])
            for index, variant in order
            if variant == "STEERED" or index not in kept
        ]
        layer = self._task.sae.layer if self._task.sae else ""
        hooks = [self._hooks[row.output.variant] for row in rows] if self._hooks else []
        decoding = Decoding(
            self._lm,
            layer,
            hooks,
            self._context.check,
            self._shared.running(self._lm),
            self._task.watch_neurons,
        )
        try:
            self._decode(rows, decoding)
        finally:
            decoding.close()

    def _decode(self, rows: list[_Row], decoding: Decoding) -> None:
        self._context.check()
        step = decoding.start([row.token_ids for row in rows])
        for row, (values, places), watched in zip(rows, step.peaks, step.watched, strict=bool(step.peaks)):
            row.output.see_prompt(Peaks(values, places, len(row.token_ids)), watched.tolist())
        while rows:
            self._choose_tokens(rows, step)
            kept = [number for number, row in enumerate(rows) if not self._finish_if_done(row)]
            rows = [rows[number] for number in kept]
            if not rows:
                return
            only_look = all(row.output.finish_reason for row in rows)
            step = decoding.advance(kept, [row.token_ids[-1] for row in rows], only_look=only_look)
            if step.sparse is not None:
                self._see_tokens(rows, step.sparse)
            if only_look:
                for row in rows:
                    self._finish(row)
                return

    def _send_kept(self, index: int, encoded: EncodedPrompt) -> bool:
        """Send a baseline that was made before; says whether there is one."""
        if self._variants != ["BASELINE", "STEERED"] or self._task.top_texts_path is not None:
            return False
        output = self._shared.baselines.get(self._lm, self._sae, BaselineKey.of(self._task, index, encoded))
        if output is None:
            return False
        output = msgspec.structs.replace(output, prompt_index=index, elapsed_milliseconds=0.0)
        for token in output.tokens:
            self._context.emit(TokenGenerated(index, "BASELINE", token))
        self._finished.add(output)
        return True

    def _row(self, index: int, variant: Variant, encoded: EncodedPrompt) -> _Row:
        def release(token: GeneratedToken) -> None:
            self._context.emit(TokenGenerated(index, variant, token))

        stops = StopStrings(self._task.stop)
        output = Output(index, variant, encoded, stops, self._task.max_new_tokens, release)
        ids = encoded.token_ids
        return _Row(output, Sampler(self._task, index), TokenTexts(self._lm.tokenizer, ids), list(ids))

    def _see_tokens(self, rows: Sequence[_Row], sparse: SparseLatents) -> None:
        watched = self._watched(sparse)
        for row, (neurons, values), of_row in zip(rows, sparse.by_row(), watched, strict=True):
            row.output.see(neurons, values, of_row, counts=row.token_ids[-1] not in self._special)

    def _watched(self, sparse: SparseLatents) -> list[list[float]]:
        """Return each row's latents of the watched neurons, in their order."""
        if not self._task.watch_neurons:
            return [[]] * sparse.pattern.n_rows
        found = [
            dict(zip(neurons.tolist(), values.tolist(), strict=True)) for neurons, values in sparse.by_row()
        ]
        return [[of_row.get(neuron, 0.0) for neuron in self._task.watch_neurons] for of_row in found]

    def _choose_tokens(self, rows: Sequence[_Row], step: Step) -> None:
        """Give each row that goes on its next token, and send it."""
        self._check_finite(rows, step.logits)
        log_probabilities = step.logits.log_softmax(dim=1)
        neurons: list[list[NeuronActivationMessage]] = [[] for _ in rows]
        watched: list[list[float]] = [[] for _ in rows]
        if step.sparse is not None:
            neurons = strongest_per_row(step.sparse, self._task.top_neurons)
            watched = self._watched(step.sparse)
        for number, row in enumerate(rows):
            if row.output.finish_reason is None:
                token_id = row.sampler.choose(row.token_ids, step.logits[number])
                self._add_token(row, token_id, log_probabilities[number], neurons[number], watched[number])

    def _check_finite(self, rows: Sequence[_Row], logits: Tensor) -> None:
        for row, finite in zip(rows, logits.isfinite().all(dim=1).tolist(), strict=True):
            if row.output.finish_reason is not None or finite:
                continue
            place = f"token {len(row.output.tokens)} of prompt {row.output.prompt_index}"
            if row.output.variant == "STEERED" and self._task.edits:
                reason = f"The edits drive the model's numbers out of range at {place}; "
                raise TaskError(reason + "use smaller multipliers and biases.", "INVALID", ("steering",))
            why = cause_in_model(self._task.language_model.dtype)
            raise TaskError(f"The language model's numbers are out of range at {place}. {why}")

    def _add_token(
        self,
        row: _Row,
        token_id: int,
        log_probabilities: Tensor,
        neurons: list[NeuronActivationMessage],
        watched: list[float],
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
            watched=watched,
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
        if self._hooks and row.output.finish_reason != "END_OF_TEXT" and not row.last_token_fed:
            row.last_token_fed = True
            return False
        self._finish(row)
        return True

    def _finish(self, row: _Row) -> None:
        output = row.output
        output.close()
        self.outputs.append(output)
        message = output.message(self._task.top_neurons)
        if output.variant == "BASELINE":
            key = BaselineKey.of(self._task, output.prompt_index, output.encoded)
            self._shared.baselines.keep(self._lm, self._sae, key, message)
        self._finished.add(message)


def _hooks(task: Generate, sae: Sae | None, variants: Sequence[Variant]) -> dict[Variant, SaeHook]:
    """Return each variant's hook; none at all where nothing is edited or reported."""
    if sae is None or not ("STEERED" in variants or task.top_neurons or task.watch_neurons):
        return {}
    output_layer = task.sae.output_layer if task.sae else None
    steered = SaeHook(sae, task.mode, task.edits or [], task.exclusions, output_layer)
    return {"BASELINE": SaeHook(sae, exclusions=task.exclusions), "STEERED": steered}


def _end_ids(lm: LanguageModel) -> set[int]:
    """Return the ids that end a text, by the model's generation config and the tokenizer."""
    configured = getattr(lm.model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return {token_id for token_id in [*ids, lm.tokenizer.eos_token_id] if token_id is not None}
