"""A request's prompts going through a language model token by token, beside those of other requests."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import structlog

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating.batch import Batch, Part, Step
from gql_server.compute.generating.batching import go_together
from gql_server.compute.language_models.forward import model_device
from gql_server.compute.saes.hooks import SaeHook

from mi_crow.language_model.language_model import LanguageModel

log = structlog.get_logger(__name__)

TOKENS_OF_A_PASS = 4_096
"""Limit on the prompts' tokens, padding among them, in one first pass on a CPU: it cannot be broken off."""
TOKENS_OF_A_FAST_PASS = 65_536
"""The same on a GPU: as many as a request may have by default, were they without padding."""


class RunningBatches:
    """The batches that go on with one language model."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []

    def admit(self, batch: Batch) -> None:
        """Have a batch that has started go on with another, where the two can, or by itself."""
        for other in self._batches:
            if other.takes(batch):
                try:
                    other.take_in(batch)
                except (RuntimeError, MemoryError):
                    # Such as want of memory, on whatever device; the others go on as they were.
                    log.warning("generation goes on by itself", exc_info=True)
                    break
                return
        self._batches.append(batch)

    def leave(self, part: Part) -> None:
        """Have a part's rows leave its batch."""
        part.leave()
        if part.batch.is_over and part.batch in self._batches:
            self._batches.remove(part.batch)


class Decoding:
    """A request's rows. Others' rows go on in the same passes, where the model can take them so.

    ``check`` is called between the first passes of many long prompts, before each further pass, and while
    others of the same batch have not come as far: it lets them go on.
    """

    def __init__(
        self,
        lm: LanguageModel,
        layer: str,
        hooks: Sequence[SaeHook] = (),
        check: Callable[[], None] = lambda: None,
        running: RunningBatches | None = None,
        watch: Sequence[int] = (),
    ) -> None:
        """``hooks`` are each prompt's, which may share them, or none at all; ``watch`` are neurons."""
        self._lm = lm
        self._layer = layer
        self._hooks = hooks
        self._check = check
        self._running = running or RunningBatches()
        self._watch = watch
        self._parts: list[Part] = []
        """Those with rows that go on."""

    def start(self, prompts: Sequence[Sequence[int]]) -> Step:
        """Take in the prompts' token ids."""
        together = len(prompts) == 1 or go_together(self._lm)
        parts = self._together(prompts) if together else [[prompt] for prompt in prompts]
        started: list[Batch] = []
        steps: list[Step] = []
        for prompts_of_pass in parts:
            if started:
                self._check()
            first = sum(part.n_rows for batch in started for part in batch.parts)
            hooks = self._hooks[first : first + len(prompts_of_pass)]
            started.append(Batch(self._lm, self._layer, hooks, prompts_of_pass, self._watch))
            steps.append(started[-1].start())
        self._parts = [part for batch in started for part in batch.parts]
        for batch in started:
            self._running.admit(batch)
        return Step.joined(steps)

    def _together(self, prompts: Sequence[Sequence[int]]) -> list[Sequence[Sequence[int]]]:
        is_slow = model_device(self._lm).type == "cpu"
        return in_passes(prompts, TOKENS_OF_A_PASS if is_slow else TOKENS_OF_A_FAST_PASS)

    def advance(self, rows: Sequence[int], token_ids: Sequence[int], *, only_look: bool = False) -> Step:
        """Go on with some of the rows, in ascending order, each with its next token; the others leave.

        ``only_look`` says that latents are enough, as nothing follows.
        """
        parts, first, seen = [], 0, 0
        for part in self._parts:
            after = bisect_left(rows, first + part.n_rows, lo=seen)
            if after > seen:
                own = [row - first for row in rows[seen:after]]
                part.ask(own, token_ids[seen:after], only_look=only_look)
                parts.append(part)
            else:
                self._running.leave(part)
            first, seen = first + part.n_rows, after
        self._parts = parts
        self._check()
        return Step.joined([self._answer(part) for part in parts])

    def _answer(self, part: Part) -> Step:
        while part.answer is None:
            if part.batch.all_have_asked:
                part.batch.advance()
            else:
                self._check()
        answer, part.answer = part.answer, None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Have all rows leave."""
        for part in self._parts:
            self._running.leave(part)
        self._parts = []


def in_passes(prompts: Sequence[Sequence[int]], n_tokens: int) -> list[Sequence[Sequence[int]]]:
    """Split prompts, in their order, into those that take their first pass together.

    A pass cannot be broken off, so it is of ``n_tokens`` at most, padding among them, or of one prompt.
    """
    parts: list[Sequence[Sequence[int]]] = []
    first, longest = 0, 0
    for number, prompt in enumerate(prompts):
        longest = max(longest, len(prompt))
        if number > first and (number + 1 - first) * longest > n_tokens:
            parts.append(prompts[first:number])
            first, longest = number, len(prompt)
    return [*parts, prompts[first:]]
