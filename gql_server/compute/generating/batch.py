"""Rows of any requests that go through a language model in the same passes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating.batching import can_join
from gql_server.compute.generating.model_inputs import ModelInputs
from gql_server.compute.generating.padding import FEW_POSITIONS, MAX_PADDING
from gql_server.compute.inspection.peaks import PromptLatents
from gql_server.compute.language_models.forward import stopping_after
from gql_server.compute.language_models.layers import is_head
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.language_models.padding import marks
from gql_server.compute.language_models.text_encoder import embedding_count
from gql_server.compute.saes.hooks import SaeHook, attached
from gql_server.compute.saes.row_hooks import HookedRows, RowHooks, RowWrites
from gql_server.compute.saes.sparse_latents import SparseLatents

from mi_crow.language_model.language_model import LanguageModel


@dataclass(frozen=True)
class Step:
    """What a forward pass gave for each of a request's rows."""

    logits: Tensor
    """[n_rows, vocabulary], float32 on the CPU: those of the next token. Empty where only latents are."""
    sparse: SparseLatents | None
    """Latents at each row's last position, before edits, on the CPU; None without hooks."""
    peaks: Sequence[tuple[Tensor, Tensor]] = ()
    """Each prompt's highest latents and their tokens; of the first pass with hooks alone."""
    watched: Sequence[Tensor] = ()
    """Each prompt's watched latents at its tokens that count, [n_tokens, n_watched]; likewise."""

    @classmethod
    def joined(cls, steps: "Sequence[Step]") -> "Step":
        """Put the rows of several steps one after the other."""
        if len(steps) == 1:
            return steps[0]
        sparse = [step.sparse for step in steps if step.sparse is not None]
        return cls(
            torch.cat([step.logits for step in steps]),
            SparseLatents.joined(sparse) if sparse else None,
            [peak for step in steps for peak in step.peaks],
            [watched for step in steps for watched in step.watched],
        )


@dataclass(frozen=True)
class _Asked:
    rows: Sequence[int]
    token_ids: Sequence[int]
    only_look: bool


class Part:
    """A request's rows in a batch: those that go on, in order."""

    def __init__(self, batch: "Batch", layer: str, hooks: Sequence[SaeHook], n_rows: int) -> None:
        """Take each row's hook; none at all where no latents are wanted."""
        self.batch = batch
        self.layer = layer
        self.hooks = list(hooks)
        self.n_rows = n_rows
        self.asked: _Asked | None = None
        self.answer: Step | Exception | None = None

    def ask(self, rows: Sequence[int], token_ids: Sequence[int], *, only_look: bool = False) -> None:
        """Say which rows go on in the next pass, each with its next token; the others leave.

        ``only_look`` says that latents are enough, as nothing follows.
        """
        self.asked, self.answer = _Asked(rows, token_ids, only_look), None

    def leave(self) -> None:
        """Have no row go on."""
        self.ask([], [])

    def take_asked(self) -> _Asked:
        """Return what was asked, and forget the rows that do not go on."""
        assert self.asked is not None
        asked, self.asked = self.asked, None
        self.hooks = [self.hooks[row] for row in asked.rows] if self.hooks else []
        self.n_rows = len(asked.rows)
        return asked


class Batch:
    """Parts that go on together: once all of them have asked, the next pass is made for all.

    The hooks sit on the model during the forward passes only: between them other requests may use the same
    model.
    """

    def __init__(
        self,
        lm: LanguageModel,
        layer: str,
        hooks: Sequence[SaeHook],
        prompts: Sequence[Sequence[int]],
        watch: Sequence[int] = (),
    ) -> None:
        """Begin with one request's prompts, which are a part; its hooks, if any, are on one layer."""
        self._lm = lm
        self._special = special_token_ids(lm)
        self._n_embeddings = embedding_count(lm)
        self._watch = watch
        self._is_closed = False
        """Whether nothing can follow its last pass, which was broken off."""
        hooked = {layer, *(hook.output_layer or layer for hook in hooks)} if hooks else set()
        self._inputs = ModelInputs(lm, prompts, all_logits=any(is_head(lm, one) for one in hooked))
        self.parts = [Part(self, layer, hooks, len(prompts))]

    def start(self) -> Step:
        """Take in the prompts' tokens."""
        logits, hooked = self._pass(is_first=True)
        (step,) = self._steps(logits, hooked)
        if isinstance(step, Exception):
            raise step
        prompts = sorted((prompt for one in hooked for prompt in one.prompts()), key=itemgetter(0))
        return Step(
            step.logits, step.sparse, [peaks for _, peaks, _ in prompts], [seen for _, _, seen in prompts]
        )

    def takes(self, other: "Batch") -> bool:
        """Whether another batch's rows may go on with these, and without much padding."""
        if self._is_closed:
            return False
        own, others = self._inputs, other._inputs
        n_rows = len(own.ids) + len(others.ids)
        n_positions = n_rows * max(own.ids.shape[1], others.ids.shape[1])
        if n_positions > FEW_POSITIONS:
            n_real = int(own.is_real.sum()) + int(others.is_real.sum())
            if n_positions > MAX_PADDING * n_real:
                return False
        return own.can_join and others.can_join and can_join(self._lm)

    def take_in(self, other: "Batch") -> None:
        """Have another batch's rows go on with these."""
        with torch.inference_mode():
            self._inputs.join(other._inputs)
        for part in other.parts:
            part.batch = self
        self.parts += other.parts

    @property
    def all_have_asked(self) -> bool:
        """Whether the next pass can be made."""
        return all(part.asked is not None for part in self.parts)

    @property
    def is_over(self) -> bool:
        """Whether all rows have left."""
        return all(part.asked is not None and not part.asked.rows for part in self.parts)

    def advance(self) -> None:
        """Make the next pass for all parts; each has its answer then."""
        rows: list[int] = []
        token_ids: list[int] = []
        layers, n_before, only_look = set(), 0, True
        for part in self.parts:
            first, n_before = n_before, n_before + part.n_rows
            asked = part.take_asked()
            rows += [first + row for row in asked.rows]
            token_ids += asked.token_ids
            if asked.rows:
                only_look &= asked.only_look
                layers.add(part.layer)
        self.parts = [part for part in self.parts if part.n_rows]
        try:
            with torch.inference_mode():
                self._inputs.append(rows, token_ids)
            stop_after = layers.pop() if only_look and len(layers) == 1 else None
            self._is_closed = stop_after is not None
            steps: Sequence[Step | Exception] = self._steps(*self._pass(stop_after=stop_after))
        except Exception as error:
            # The pass is everybody's.
            self._is_closed = True
            steps = [error] * len(self.parts)
        for part, step in zip(self.parts, steps, strict=True):
            part.answer = step

    def _pass(
        self, *, is_first: bool = False, stop_after: str | None = None
    ) -> "tuple[Tensor, list[_Hooked]]":
        """Return the logits of the rows that go on, and what the hooks have seen of theirs."""
        with torch.inference_mode():
            inputs = self._inputs.next()
            seen = self._positions(inputs)
            hooked = self._hooked(seen)
            if is_first:
                for one in hooked:
                    one.read_prompts(self._watch)
            logits = torch.empty(len(self._inputs.rows), 0)
            with _attached(self._lm, hooked, seen), ExitStack() as stopping:
                if stop_after is not None:
                    stopping.enter_context(stopping_after(self._lm, stop_after))
                output = self._lm.model(**inputs)
                self._inputs.took(output)
                # A head with more rows than the embedding gives scores to tokens that cannot be fed again.
                logits = output.logits[:, -1, : self._n_embeddings]
                logits = logits if self._inputs.all_go_on else logits[self._inputs.rows]
            return logits.float().cpu(), hooked

    def _steps(self, logits: Tensor, hooked: "Sequence[_Hooked]") -> list[Step | Exception]:
        """Return each part's step, or why there is none."""
        latents: dict[int, tuple[Tensor, Tensor]] = {}
        errors: dict[int, Exception] = {}
        for one in hooked:
            if one.part.error is None:
                latents.update(zip(one.numbers, one.last().by_row(), strict=True))
            else:
                errors.update(dict.fromkeys(one.numbers, one.part.error))
        steps: list[Step | Exception] = []
        first = 0
        for part in self.parts:
            numbers = range(first, first + part.n_rows)
            own, first = logits[first : numbers.stop], numbers.stop
            error = next((errors[number] for number in numbers if number in errors), None)
            sparse = None
            if part.hooks and error is None:
                n_latents = part.hooks[0].sae.context.n_latents
                sparse = SparseLatents.of_pairs([latents[number] for number in numbers], n_latents)
            steps.append(error or Step(own, sparse))
        return steps

    def _hooked(self, seen: "_Positions") -> "list[_Hooked]":
        """Return each hook with the rows that go on under it."""
        found: dict[int, tuple[str, SaeHook, list[int]]] = {}
        first = 0
        for part in self.parts:
            for number, hook in enumerate(part.hooks, first):
                found.setdefault(id(hook), (part.layer, hook, []))[2].append(number)
            first += part.n_rows
        hooked = []
        for layer, hook, numbers in found.values():
            is_all = self._inputs.all_go_on and len(numbers) == first
            rows = None if is_all else self._inputs.rows[numbers]
            hooked.append(_Hooked(layer, HookedRows(hook, rows), numbers, seen))
        return hooked

    def _positions(self, inputs: dict[str, Any]) -> "_Positions":
        given, ids = inputs["input_ids"], self._inputs.ids
        width, n_after = given.shape[1], 0
        if not torch.equal(given, ids[:, -width:]):
            width, n_after = width - 1, 1
        elif self._inputs.goes_on and width == ids.shape[1]:
            width = 1  # CPM-Ant is given all, and leaves out what it has.
        positions = (self._inputs.is_real.cumsum(dim=1) - 1)[:, -width:]
        ids, is_real = ids[:, -width:], self._inputs.is_real[:, -width:]
        return _Positions(is_real & ~marks(ids, self._special), is_real, positions, n_after)


@dataclass(frozen=True)
class _Positions:
    """The text's positions that a pass computes, [n_rows, n_positions] each."""

    countable: Tensor
    """True where a token is neither padding nor special."""
    is_real: Tensor
    """True where a token is not padding."""
    positions: Tensor
    """Counted from each text's own first token."""
    n_after: int
    """How many others follow: XLM and XLNet predict at a token that their methods put after the text."""


class _Hooked:
    """A hook in one pass, and what it sees of its rows; edits leave out padding and special tokens."""

    def __init__(self, layer: str, part: HookedRows, numbers: Sequence[int], seen: _Positions) -> None:
        """``numbers`` are those of its rows among the rows that go on."""
        self.layer, self.part, self.numbers = layer, part, numbers
        hook = part.hook
        self._countable, self._is_real = part.of(seen.countable), part.of(seen.is_real)
        hook.edit_mask, hook.report_mask = self._countable, self._is_real
        hook.positions, hook.n_after = part.of(seen.positions), seen.n_after
        hook.reader = None
        self._latents: PromptLatents | None = None
        if self._countable.shape[1] > 1:
            self.read_prompts(())

    def read_prompts(self, watch: Sequence[int]) -> None:
        """Have the latents of all positions taken in, and those of some neurons kept."""
        context = self.part.hook.sae.context
        self._latents = PromptLatents(self._countable, context.n_latents, torch.device(context.device), watch)
        self.part.hook.reader = self._latents.add

    def last(self) -> SparseLatents:
        """Return the latents at each row's last position, on the CPU."""
        sparse = self.part.hook.sparse if self._latents is None else self._latents.last
        assert sparse is not None
        return sparse.to("cpu")

    def prompts(self) -> Iterator[tuple[int, tuple[Tensor, Tensor], Tensor]]:
        """Give each row's number, its peaks with their tokens, and its watched latents [n_tokens, n]."""
        assert self._latents is not None
        n_padding = (~self._is_real).sum(dim=1).tolist()
        values, places = self._latents.peaks()
        for row, number in enumerate(self.numbers):
            own = (places[row] - n_padding[row]).clamp(min=0)
            yield number, (values[row], own), self._latents.watched[row, n_padding[row] :].cpu()


@contextmanager
def _attached(lm: LanguageModel, hooked: Sequence[_Hooked], seen: _Positions) -> Iterator[None]:
    """Hold the hooks on the model for one pass."""
    layers = dict.fromkeys(one.layer for one in hooked)
    with ExitStack() as stack:
        for layer in layers:
            parts = [one.part for one in hooked if one.layer == layer]
            stack.enter_context(attached(lm, layer, RowHooks(seen.is_real.shape, seen.n_after, parts)))
        written = (one.part.hook.output_layer for one in hooked)
        for layer in dict.fromkeys(name for name in written if name is not None):
            parts = [one.part for one in hooked if one.part.hook.output_layer == layer]
            stack.enter_context(attached(lm, layer, RowWrites(seen.is_real.shape, seen.n_after, parts)))
        try:
            yield
        finally:
            for one in hooked:
                one.part.hook.reader = None
