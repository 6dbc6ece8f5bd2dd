"""Several SAEs on one layer of a language model, each for rows of its own in a batch."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.saes.encoding import encoded
from gql_server.compute.saes.hooks import SaeHook, rows_at_once, with_text_changed
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import TaskError

from mi_crow.hooks.controller import Controller
from mi_crow.hooks.detector import Detector
from mi_crow.hooks.hook import HOOK_FUNCTION_INPUT, HOOK_FUNCTION_OUTPUT, HookType


@dataclass
class HookedRows:
    """The rows of a batch that a hook is for. Its masks have these rows alone."""

    hook: SaeHook
    rows: Tensor | None
    """Their numbers; None for all rows in their order."""
    error: Exception | None = None
    """Why the hook could not do its part of the pass; its rows went on unchanged."""

    def of(self, text: Tensor) -> Tensor:
        """Return the rows among a batch's vectors [n_rows, n_positions, n_inputs]."""
        return text if self.rows is None else text[self.rows.to(text.device)]


class RowHooks(Controller, Detector):
    """Lets each of several SaeHooks read and change its own rows of what a layer puts out.

    Hooks of one SAE share one encoding. What goes wrong with one's rows is kept with it, and is nothing to
    the others.
    """

    def __init__(self, shape: Sequence[int], n_after: int, parts: Sequence[HookedRows]) -> None:
        """Take the text's positions [n_rows, n_positions] in a pass, and how many others follow them."""
        Controller.__init__(self, hook_type=HookType.FORWARD, hook_id=f"gql_server-{uuid.uuid4().hex}")
        self._shape = tuple(shape)
        self._n_after = n_after
        self._parts = sorted(parts, key=lambda part: id(part.hook.sae))

    def process_activations(
        self, module: nn.Module, input: HOOK_FUNCTION_INPUT, output: HOOK_FUNCTION_OUTPUT
    ) -> None:
        """Do nothing, as SaeHook."""

    def modify_activations(
        self, module: nn.Module, inputs: Tensor | None, output: Tensor | None
    ) -> Tensor | None:
        """Return what replaces the output, or None where no row is changed."""
        if output is None:
            return None
        with torch.no_grad():
            try:
                return with_text_changed(output, self._shape, self._n_after, self._change)
            except TaskError as error:
                for part in self._parts:
                    part.error = error
                return None

    def _change(self, text: Tensor) -> Tensor | None:
        """Change what the hooks read."""
        rows = text.reshape(*self._shape, text.shape[-1])
        whole: Tensor | None = None
        for _, same in groupby(self._parts, key=lambda part: id(part.hook.sae)):
            for part, vectors, sparse in _encoded_or_failed(list(same), rows):
                changed = _changed(part, vectors, sparse)
                if changed is None:
                    continue
                if part.rows is None:
                    return changed.reshape(text.shape)
                whole = rows.clone() if whole is None else whole
                whole[part.rows.to(whole.device)] = changed
        return None if whole is None else whole.reshape(text.shape)


class RowWrites(RowHooks):
    """Lets each of several transcoders' SaeHooks change its own rows of what its output layer puts out."""

    def _change(self, text: Tensor) -> Tensor | None:
        """Change what the hooks write; one that could not read its input writes nothing."""
        rows = text.reshape(*self._shape, text.shape[-1])
        whole: Tensor | None = None
        for part in self._parts:
            changed = _written(part, part.of(rows)) if part.error is None else None
            if changed is not None:
                whole = rows.clone() if whole is None else whole
                whole[slice(None) if part.rows is None else part.rows.to(whole.device)] = changed
        return None if whole is None else whole.reshape(text.shape)


def _written(part: HookedRows, vectors: Tensor) -> Tensor | None:
    try:
        return part.hook.write(vectors)
    except Exception as error:  # As in _changed.
        part.error = error
        return None


def _changed(part: HookedRows, vectors: Tensor, sparse: SparseLatents | None) -> Tensor | None:
    try:
        return part.hook.change(vectors, sparse)
    except Exception as error:  # Whatever an SAE's class raises is its own requests' answer.
        part.error = error
        return None


def _encoded_or_failed(
    parts: Sequence[HookedRows], rows: Tensor
) -> Sequence[tuple[HookedRows, Tensor, SparseLatents | None]]:
    try:
        return list(_encoded(parts, rows))
    except Exception as error:
        for part in parts:
            part.error = error
        return []


def _encoded(
    parts: Sequence[HookedRows], rows: Tensor
) -> Iterator[tuple[HookedRows, Tensor, SparseLatents | None]]:
    """Give the rows of hooks of one SAE, with their latents where they fit into one encoding."""
    sae = parts[0].hook.sae
    own = [part.of(rows) for part in parts]
    counts = [vectors.shape[0] * vectors.shape[1] for vectors in own]
    if len(parts) == 1 or sum(counts) > rows_at_once(sae):
        yield from ((part, vectors, None) for part, vectors in zip(parts, own, strict=True))
        return
    flat = torch.cat([vectors.reshape(-1, vectors.shape[-1]) for vectors in own])
    sparse, first = encoded(sae, flat.to(sae.context.device, torch.float32)), 0
    for part, vectors, count in zip(parts, own, counts, strict=True):
        yield part, vectors, sparse.between(first, first + count)
        first += count
