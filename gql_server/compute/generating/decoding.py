"""A batch of prompts going through a language model token by token, with a key-value cache."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gql_server.compute import upstream  # noqa: F401
from gql_server.compute.language_models.forward import model_device, stopping_after
from gql_server.compute.language_models.loading import special_token_ids
from gql_server.compute.language_models.padding import pad
from gql_server.compute.language_models.text_encoder import embedding_count
from gql_server.compute.looking.peaks import PromptLatents
from gql_server.compute.saes.codes import Codes
from gql_server.compute.saes.hooks import SaeHook, attached

from mi_crow.language_model.language_model import LanguageModel


@dataclass(frozen=True)
class Step:
    """What a forward pass gave for each row of the batch."""

    logits: Tensor
    """[n_rows, vocabulary], float32 on the CPU: those of the next token."""
    codes: Codes | None
    """Before edits, at the last position, on the CPU, a row for each row; None without a hook."""
    prompts: PromptLatents | None = None
    """What the first pass kept of the prompts' latents; positions are padded left."""


class Decoding:
    """Rows of a batch, padded left; rows that are done leave it.

    The hook sits on the model during the forward passes only: between them other requests may use the same
    model.
    """

    def __init__(self, lm: LanguageModel, layer: str, hook: SaeHook | None) -> None:
        self._lm = lm
        self._layer = layer
        self._hook = hook
        self._device = model_device(lm)
        self._special = torch.tensor(sorted(special_token_ids(lm)), dtype=torch.long, device=self._device)
        self._n_embeddings = embedding_count(lm)
        self._attention_mask = torch.zeros(0, 0)
        self._cache: object = None
        parameters = inspect.signature(lm.model.forward).parameters
        self._last_logits_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    def start(self, prompts: Sequence[Sequence[int]]) -> Step:
        """Take in the prompts' token ids."""
        batch = pad(prompts, "left", self._device)
        self._attention_mask = batch.attention_mask
        if self._hook is None:
            return self._forward(batch.input_ids, batch.position_ids)
        context = self._hook.sae.context
        kept = PromptLatents(
            self._countable(batch.input_ids), context.n_latents, torch.device(context.device)
        )
        self._hook.reader = kept.add
        try:
            step = self._forward(batch.input_ids, batch.position_ids)
        finally:
            self._hook.reader = None
        return Step(step.logits, kept.last.to("cpu"), kept)

    def advance(self, rows: Sequence[int], token_ids: Sequence[int]) -> Step:
        """Go on with some rows of the batch, each with its next token."""
        input_ids, position_ids = self._next(rows, token_ids)
        return self._forward(input_ids, position_ids)

    def look(self, rows: Sequence[int], token_ids: Sequence[int]) -> Codes:
        """Return the codes on next tokens that nothing follows."""
        input_ids, position_ids = self._next(rows, token_ids)
        with self._passing(input_ids), stopping_after(self._lm, self._layer):
            self._call(input_ids, position_ids)
        assert self._hook is not None
        assert self._hook.codes is not None
        return self._hook.codes.to("cpu")

    def _next(self, rows: Sequence[int], token_ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        if len(rows) < len(self._attention_mask):
            kept = torch.tensor(rows, device=self._device)
            with torch.inference_mode():
                self._cache.batch_select_indices(kept)  # type: ignore[attr-defined]
            self._attention_mask = self._attention_mask[kept]
        position_ids = self._attention_mask.sum(dim=1, keepdim=True)
        one = torch.ones_like(self._attention_mask[:, :1])
        self._attention_mask = torch.cat([self._attention_mask, one], dim=1)
        return torch.tensor(token_ids, device=self._device)[:, None], position_ids

    def _forward(self, input_ids: Tensor, position_ids: Tensor) -> Step:
        with self._passing(input_ids):
            logits = self._call(input_ids, position_ids)
        # None where the hook tells a reader: one position a row is what a step has.
        codes = self._hook.codes if self._hook else None
        return Step(logits.float().cpu(), None if codes is None else codes.to("cpu"))

    def _call(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        output = self._lm.model(
            input_ids=input_ids,
            attention_mask=self._attention_mask,
            position_ids=position_ids,
            past_key_values=self._cache,
            use_cache=True,
            **self._last_logits_only,
        )
        self._cache = output.past_key_values
        # A head with more rows than the embedding gives scores to tokens that cannot be fed again.
        logits: Tensor = output.logits[:, -1, : self._n_embeddings]
        return logits

    @contextmanager
    def _passing(self, input_ids: Tensor) -> Iterator[None]:
        """Hold the hook on the model for one pass; edits leave out padding and special tokens."""
        with torch.inference_mode():
            if self._hook is None:
                yield
                return
            self._hook.editable = self._countable(input_ids)
            self._hook.told = self._attention_mask[:, -input_ids.shape[1] :].bool()
            with attached(self._lm, self._layer, self._hook):
                yield

    def _countable(self, input_ids: Tensor) -> Tensor:
        real = self._attention_mask[:, -input_ids.shape[1] :].bool()
        return real & ~torch.isin(input_ids, self._special)
