"""Prompts going through a language model token by token."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.generating.batching import go_together
from gql_server.compute.generating.model_inputs import ModelInputs
from gql_server.compute.inspection.peaks import PromptLatents
from gql_server.compute.language_models.forward import model_device, stopping_after
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.language_models.padding import marks
from gql_server.compute.language_models.text_encoder import embedding_count
from gql_server.compute.saes.hooks import SaeHook, attached
from gql_server.compute.saes.sparse_latents import SparseLatents

from mi_crow.language_model.language_model import LanguageModel

TOKENS_OF_A_PASS = 4_096
"""Limit on the prompts' tokens in one first pass on a CPU; a GPU takes all prompts at once."""


@dataclass(frozen=True)
class Step:
    """What a forward pass gave for each row."""

    logits: Tensor
    """[n_rows, vocabulary], float32 on the CPU: those of the next token."""
    sparse: SparseLatents | None
    """Latents at each row's last position, before edits, on the CPU; None without a hook."""
    peaks: Sequence[tuple[Tensor, Tensor]] = ()
    """Each prompt's highest latents and their tokens; of the first pass with a hook alone."""

    @classmethod
    def joined(cls, steps: "Sequence[Step]") -> "Step":
        """Put the rows of several steps one after the other."""
        sparse = [step.sparse for step in steps if step.sparse is not None]
        peaks = [peak for step in steps for peak in step.peaks]
        return cls(
            torch.cat([step.logits for step in steps]),
            SparseLatents.joined(sparse) if sparse else None,
            peaks,
        )


class Decoding:
    """Rows that go on together, as many as the model can take so in one pass; rows that are done leave.

    The hook sits on the model during the forward passes only: between them other requests may use the same
    model. ``check`` is called between the first passes of many long prompts.
    """

    def __init__(
        self, lm: LanguageModel, layer: str, hook: SaeHook | None, check: Callable[[], None] = lambda: None
    ) -> None:
        self._lm = lm
        self._layer = layer
        self._hook = hook
        self._check = check
        self._batches: list[_Batch] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> Step:
        """Take in the prompts' token ids."""
        together = len(prompts) == 1 or go_together(self._lm)
        parts = self._together(prompts) if together else [[prompt] for prompt in prompts]
        self._batches = [_Batch(self._lm, self._layer, self._hook, part) for part in parts]
        return Step.joined([self._start(batch) for batch in self._batches])

    def _together(self, prompts: Sequence[Sequence[int]]) -> list[Sequence[Sequence[int]]]:
        is_slow = model_device(self._lm).type == "cpu"
        return in_passes(prompts, TOKENS_OF_A_PASS) if is_slow else [prompts]

    def _start(self, batch: "_Batch") -> Step:
        if batch is not self._batches[0]:
            self._check()
        return batch.start()

    def advance(self, rows: Sequence[int], token_ids: Sequence[int]) -> Step:
        """Go on with some of the rows, each with its next token."""
        return Step.joined([batch.advance(*part) for batch, part in self._parts(rows, token_ids)])

    def look(self, rows: Sequence[int], token_ids: Sequence[int]) -> SparseLatents:
        """Return the latents on next tokens that nothing follows."""
        return SparseLatents.joined([batch.look(*part) for batch, part in self._parts(rows, token_ids)])

    def _parts(
        self, rows: Sequence[int], token_ids: Sequence[int]
    ) -> "list[tuple[_Batch, tuple[Sequence[int], Sequence[int]]]]":
        """Return the batches that go on, with their own numbers of the rows, which are in ascending order."""
        parts: list[tuple[_Batch, tuple[Sequence[int], Sequence[int]]]] = []
        first, seen = 0, 0
        for batch in self._batches:
            after = bisect_left(rows, first + batch.n_rows, lo=seen)
            if after > seen:
                parts.append((batch, ([row - first for row in rows[seen:after]], token_ids[seen:after])))
            first, seen = first + batch.n_rows, after
        self._batches = [batch for batch, _ in parts]
        return parts


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


class _Batch:
    """Rows that go through the model in the same passes."""

    def __init__(
        self, lm: LanguageModel, layer: str, hook: SaeHook | None, prompts: Sequence[Sequence[int]]
    ) -> None:
        self._lm = lm
        self._layer = layer
        self._hook = hook
        self._special = special_token_ids(lm)
        self._n_embeddings = embedding_count(lm)
        self._lengths = [len(prompt) for prompt in prompts]
        self.n_rows = len(prompts)
        """That go on."""
        self._inputs = ModelInputs(lm, prompts, all_logits=hook is not None and _is_head(lm, layer))

    def start(self) -> Step:
        inputs = self._inputs.next()
        seen = self._positions(inputs)
        latents = self._latents(seen)
        step = self._forward(inputs, seen, latents)
        if latents is None:
            return step
        width = max(self._lengths)
        peaks = [
            (values, (places - (width - length)).clamp(min=0))
            for values, places, length in zip(*latents.peaks(), self._lengths, strict=True)
        ]
        return Step(step.logits, step.sparse, peaks)

    def advance(self, rows: Sequence[int], token_ids: Sequence[int]) -> Step:
        inputs = self._append(rows, token_ids)
        seen = self._positions(inputs)
        return self._forward(inputs, seen, self._latents(seen) if seen.width > 1 else None)

    def look(self, rows: Sequence[int], token_ids: Sequence[int]) -> SparseLatents:
        inputs = self._append(rows, token_ids)
        seen = self._positions(inputs)
        latents = self._latents(seen) if seen.width > 1 else None
        with self._passing(seen, latents), stopping_after(self._lm, self._layer):
            self._lm.model(**inputs)
        sparse = self._last_latents(latents)
        assert sparse is not None
        return sparse

    def _append(self, rows: Sequence[int], token_ids: Sequence[int]) -> dict[str, Any]:
        self.n_rows = len(rows)
        self._inputs.append(rows, token_ids)
        return self._inputs.next()

    def _forward(self, inputs: dict[str, Any], seen: "_Positions", latents: PromptLatents | None) -> Step:
        with self._passing(seen, latents):
            output = self._lm.model(**inputs)
            self._inputs.took(output)
            # A head with more rows than the embedding gives scores to tokens that cannot be fed again.
            logits = output.logits[:, -1, : self._n_embeddings]
        logits = logits if self._inputs.all_go_on else logits[self._inputs.rows]
        return Step(logits.float().cpu(), self._last_latents(latents))

    def _latents(self, seen: "_Positions") -> PromptLatents | None:
        """Return what takes in the latents of a pass over several positions."""
        if self._hook is None:
            return None
        context = self._hook.sae.context
        return PromptLatents(seen.countable, context.n_latents, torch.device(context.device))

    def _last_latents(self, latents: PromptLatents | None) -> SparseLatents | None:
        if self._hook is None:
            return None
        sparse = self._hook.sparse if latents is None else latents.last
        assert sparse is not None
        return (sparse if self._inputs.all_go_on else sparse.of_rows(self._inputs.rows.tolist())).to("cpu")

    @contextmanager
    def _passing(self, seen: "_Positions", latents: PromptLatents | None) -> Iterator[None]:
        """Hold the hook on the model for one pass; edits leave out padding and special tokens."""
        with torch.inference_mode():
            if self._hook is None:
                yield
                return
            hook = self._hook
            hook.edit_mask, hook.report_mask, hook.n_after = seen.countable, seen.is_real, seen.n_after
            hook.positions = seen.positions
            hook.reader = None if latents is None else latents.add
            try:
                with attached(self._lm, self._layer, hook):
                    yield
            finally:
                hook.reader = None

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

    @property
    def width(self) -> int:
        """Return how many there are in a row."""
        return self.is_real.shape[1]


def _is_head(lm: LanguageModel, layer: str) -> bool:
    """Say whether a layer comes after the model's body, where few positions may be left."""
    module = lm.layers.name_to_layer.get(layer)
    body = getattr(lm.model, lm.model.base_model_prefix, None)
    in_body = isinstance(body, torch.nn.Module) and any(part is module for part in body.modules())
    return module is lm.model.get_output_embeddings() or (body is not None and not in_body)
