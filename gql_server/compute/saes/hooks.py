"""An SAE on a layer of a language model: reads its latents, and steers by editing them."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from gql_server.artifacts.disk import causes
from gql_server.compute import mi_crow_compat  # noqa: F401
from gql_server.compute.exclusions import token_mask
from gql_server.compute.language_models.layer_outputs import active_stream, with_active_stream
from gql_server.compute.language_models.layers import why_not
from gql_server.compute.saes.encoding import (
    all_finite,
    checked,
    decode,
    n_outputs_of,
    skipped,
    sparse_latents_of,
)
from gql_server.compute.saes.linear_engine import engine_of
from gql_server.compute.saes.sparse_latents import SparseLatents
from gql_server.compute.worker.context import TaskError
from gql_server.protocol.exclusions import Exclusions
from gql_server.protocol.sources import Edit

from mi_crow.hooks.controller import Controller
from mi_crow.hooks.detector import Detector
from mi_crow.hooks.hook import HOOK_FUNCTION_INPUT, HOOK_FUNCTION_OUTPUT, HookError, HookType
from mi_crow.language_model.language_model import LanguageModel
from mi_crow.mechanistic.sae.sae import Sae

Mode = Literal["OBSERVE", "ERROR_PRESERVING", "RECONSTRUCTION"]
Reader = Callable[[SparseLatents, int], None]
"""Takes the latents of consecutive positions, text after text, and the number of the first of them."""

MAX_HOOK_LATENTS = 2**24
"""Latents that are dense in memory at once: 64 MB of float32, and a few times that inside the SAE."""


class SaeHook(Controller, Detector):
    """Encodes what a layer puts out, and changes it as ``mode`` says.

    OBSERVE never touches the output. ERROR_PRESERVING adds ``decode(edited) - decode(latents)``, and touches
    no position at which nothing is edited. RECONSTRUCTION puts ``decode(edited)`` in the output's place
    everywhere, as mi_crow's own hook does, but where ``exclusions`` leave a position out: there nothing is
    changed in any mode, and no latent is reported. ``positions`` [n_texts, n_positions] in the texts are set
    before a pass where there are any; ``excluded`` [n_texts * n_positions] is what the pass left out.

    ``edit_mask`` [n_texts, n_positions], set before each forward pass, says where edits apply: where there is
    neither padding nor a special token; None means everywhere. ``report_mask`` of the same shape says whose
    latents are reported: those must be finite, else a TaskError says so. They are the text's positions: a
    layer may have others before them, and ``n_after`` after them, which are left alone. The ``reader`` gets
    the SAE's sparse latents before edits, float32 on the SAE's device, chunk by chunk. Where none is set,
    ``sparse`` are those of the whole pass.

    A transcoder's hook leaves alone what it reads. What it would change is kept until ``write`` gets what
    ``output_layer`` puts out, later in the same pass.

    Traps that this goes round: mi_crow's hook reports pre-activations, builds a Python dict of every latent,
    and adds its bias of ones to all latents as soon as one is edited. The edits here are the hook's own,
    never the shared SAE's.
    """

    def __init__(
        self,
        sae: Sae,
        mode: Mode = "OBSERVE",
        edits: Sequence[Edit] = (),
        exclusions: Exclusions = Exclusions(),  # noqa: B008 (it is frozen)
        output_layer: str | None = None,
    ) -> None:
        Controller.__init__(self, hook_type=HookType.FORWARD, hook_id=f"gql_server-{uuid.uuid4().hex}")
        self.sae = sae
        self.output_layer = output_layer
        self._kept_change: _KeptChange | None = None
        self.mode = mode
        self.edit_mask: Tensor | None = None
        self.report_mask: Tensor | None = None
        self.n_after = 0
        self.positions: Tensor | None = None
        self.excluded: Tensor | None = None
        self._exclusions = exclusions
        self.sparse: SparseLatents | None = None
        self.reader: Reader | None = None
        self._shape: Sequence[int] = ()
        effective = [edit for edit in edits if (edit.multiplier, edit.bias) != (1.0, 0.0)]
        device = sae.context.device
        # Without an Engine a class may decode in any way; with one the edited neurons' rows are enough.
        self._engine = None if mode == "OBSERVE" else engine_of(sae)
        self._neurons = torch.tensor(
            [edit.neuron_index for edit in effective], dtype=torch.long, device=device
        )
        self._edit_of = torch.full((sae.context.n_latents,), -1, device=device)
        """Which of the edits is each neuron's, [n_latents]; -1 for none."""
        self._edit_of[self._neurons] = torch.arange(len(effective), device=device)
        if self._engine is not None:
            self._directions = self._engine.get_dictionary().detach()[self._neurons]
        self._multipliers = torch.tensor([edit.multiplier for edit in effective], device=device)
        self._biases = torch.tensor([edit.bias for edit in effective], device=device)

    @property
    def latents(self) -> Tensor | None:
        """Return the latents with their zeros, [n_texts, n_positions, n_latents]."""
        return None if self.sparse is None else self.sparse.dense().reshape(*self._shape, -1)

    def process_activations(
        self, module: nn.Module, input: HOOK_FUNCTION_INPUT, output: HOOK_FUNCTION_OUTPUT
    ) -> None:
        """Do nothing: upstream swallows what goes wrong here, so the encoding is in modify_activations."""

    def modify_activations(
        self, module: nn.Module, inputs: Tensor | None, output: Tensor | None
    ) -> Tensor | None:
        """Read the latents of the output [n_texts, n_positions, n_inputs]; return what replaces it.

        layer_outputs.py has the other shapes.
        """
        if output is None:
            return None
        mask = self.report_mask if self.report_mask is not None else self.edit_mask
        with torch.no_grad():
            if mask is None:
                changed = self.change(active_stream(output))
                return None if changed is None else with_active_stream(output, changed)
            return with_text_changed(output, mask.shape, self.n_after, self.change)

    def change(self, text: Tensor, sparse: SparseLatents | None = None) -> Tensor | None:
        """Read the latents of a text's positions [..., n_inputs]; return what replaces them, if anything.

        ``sparse`` are the latents, a row for each position, where they have been encoded already.
        """
        changed = self._through(text.reshape(-1, text.shape[-1]), text.shape[:-1], sparse)
        return None if changed is None else changed.reshape(text.shape)

    def _through(
        self, rows: Tensor, shape: Sequence[int], encoded: SparseLatents | None = None
    ) -> Tensor | None:
        """Encode rows [n, n_inputs] chunk by chunk; return what replaces them, or None for nothing."""
        kept: list[SparseLatents] = []
        read = self.reader or (lambda sparse, first: kept.append(sparse))
        changed: Tensor | None = None
        excluded: list[Tensor] = []
        self._kept_change = None
        if self.output_layer is not None:
            self._kept_change = _KeptChange(len(rows), n_outputs_of(self.sae))
        size = len(rows) if encoded is not None else rows_at_once(self.sae)
        for first in range(0, len(rows), size):
            changes = self._pass(rows[first : first + size], first, read, excluded, encoded)
            if changes is not None:
                changed = rows.clone() if changed is None else changed
                changed[first : first + size] = changes.to(rows.device, rows.dtype)
        self.excluded = torch.cat(excluded) if excluded else None
        self.sparse, self._shape = SparseLatents.joined(kept) if kept else None, shape
        return changed

    def write(self, text: Tensor) -> Tensor | None:
        """Return what replaces a text's positions [..., n_outputs] of the output layer, if anything.

        They are those of which ``change`` got what the input layer puts out. TaskError (CONFLICT) where it is
        of another width than the transcoder writes.
        """
        kept, self._kept_change = self._kept_change, None
        if kept is None or kept.is_empty:
            return None
        return kept.applied_to(text.reshape(-1, text.shape[-1])).reshape(text.shape)

    def _pass(
        self,
        rows: Tensor,
        first: int,
        read: Reader,
        excluded: list[Tensor],
        encoded: SparseLatents | None,
    ) -> Tensor | None:
        """Encode a chunk of the output's rows [n, n_inputs]; return what replaces them.

        Says in ``excluded`` which of them are left out, where any may be.
        """
        activations = rows.to(self.sae.context.device, torch.float32)
        here = slice(first, first + len(rows))
        kept = self._kept(activations, here)
        report_mask = _both(None if self.report_mask is None else self.report_mask.flatten()[here], kept)
        sparse = (
            sparse_latents_of(self.sae, activations, report_mask)
            if encoded is None
            else checked(self.sae, encoded, activations, report_mask)
        )
        if kept is not None:
            excluded.append(~kept)
            sparse = sparse.only(kept[sparse.rows])
        read(sparse, first)
        if self.mode == "OBSERVE":
            return None
        where = _both(None if self.edit_mask is None else self.edit_mask.flatten()[here], kept)
        if self.mode == "ERROR_PRESERVING":
            shift = self._shift(activations, sparse, where, report_mask)
            if shift is None:
                return None
            if self._kept_change is not None:
                self._kept_change.add(first, *shift)
                return None
            activations = activations.clone()
            activations[shift[0]] += shift[1]
            return activations
        reconstruction = self._reconstruct(activations, sparse, where, report_mask)
        if (skip := skipped(self.sae, activations)) is not None:
            reconstruction = reconstruction + skip
        if self._kept_change is not None:
            self._kept_change.put(first, reconstruction, kept)
            return None
        return reconstruction if kept is None else torch.where(kept[:, None], reconstruction, activations)

    def _kept(self, activations: Tensor, here: slice) -> Tensor | None:
        """Say which rows [n] are not excluded; None where none can be."""
        if self._exclusions.first_positions == 0 and self._exclusions.norm_limit is None:
            return None
        assert self.positions is not None
        positions = self.positions.flatten()[here].to(activations.device)
        return token_mask(self._exclusions, positions, activations)

    def _reconstruct(
        self, activations: Tensor, sparse: SparseLatents, where: Tensor | None, report_mask: Tensor | None
    ) -> Tensor:
        """Return the reconstruction [n, n_inputs] of the edited latents."""
        if self._engine is None:
            reconstruction: Tensor = self.sae.decode(self._edit(sparse.dense(), where))
        else:
            reconstruction = self._engine.decode_sparse(sparse, activations)
            if len(self._neurons):
                change = self._change(sparse, where) @ self._directions
                reconstruction += self._engine.scaled(change, activations)
        if not all_finite(reconstruction):
            # Either the edits do that, which the logits will show, or the SAE does so without any.
            decode(self.sae, sparse.dense(), report_mask, of=activations)
        return reconstruction

    def _shift(
        self, activations: Tensor, sparse: SparseLatents, where: Tensor | None, report_mask: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Return the rows at which edits change something, and what they add there; None if nothing does."""
        if len(self._neurons) == 0:
            return None
        change = self._change(sparse, where)
        rows = change.any(dim=1).nonzero().flatten()
        if len(rows) == 0:
            return None
        shift: Tensor | None = None
        if self._engine is not None:
            shift = self._engine.scaled(change[rows] @ self._directions, activations[rows])
        if shift is None or not all_finite(shift):
            latents, report_mask = (
                sparse.dense(),
                None if report_mask is None else report_mask.to(rows.device)[rows],
            )
            before = decode(self.sae, latents[rows], report_mask, of=activations[rows])
            if shift is None:
                shift = self.sae.decode(self._edit(latents, where)[rows]) - before
        return rows, shift

    def _change(self, sparse: SparseLatents, where: Tensor | None) -> Tensor:
        """Return what the edits add to the edited neurons' latents, [n, n_edits]."""
        before = torch.zeros(sparse.pattern.n_rows, len(self._neurons), device=sparse.values.device)
        edit = self._edit_of[sparse.neurons]
        is_edited = (edit >= 0).nonzero().flatten()
        before[sparse.rows[is_edited], edit[is_edited]] = sparse.values[is_edited]
        change = before * self._multipliers + self._biases - before
        return change if where is None else change.masked_fill_(~where[:, None].to(change.device), 0.0)

    def _edit(self, latents: Tensor, where: Tensor | None = None) -> Tensor:
        """Return latents * multiplier + bias on the edited neurons alone, ``where`` [n] says so."""
        if len(self._neurons) == 0:
            return latents
        before = latents[:, self._neurons]
        after = before * self._multipliers + self._biases
        if where is not None:
            after = torch.where(where[:, None].to(latents.device), after, before)
        edited = latents.clone()
        edited[:, self._neurons] = after
        return edited


class _KeptChange:
    """What a transcoder's hook changes of a layer that comes later in the pass, by rows."""

    def __init__(self, n_rows: int, n_outputs: int) -> None:
        self._shape = (n_rows, n_outputs)
        self._added: Tensor | None = None
        self._put: Tensor | None = None
        self._where = torch.ones(n_rows, dtype=torch.bool)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is changed."""
        return self._added is None and self._put is None

    def add(self, first: int, rows: Tensor, shift: Tensor) -> None:
        """Have a shift [n, n_outputs] added at rows, counted from ``first``."""
        if self._added is None:
            self._added = shift.new_zeros(self._shape)
        self._added[first + rows] += shift

    def put(self, first: int, values: Tensor, where: Tensor | None) -> None:
        """Have values [n, n_outputs] put in the place of rows from ``first``, ``where`` [n] says so."""
        if self._put is None:
            self._put = values.new_empty(self._shape)
        self._put[first : first + len(values)] = values
        if where is not None:
            self._where[first : first + len(values)] = where.cpu()

    def applied_to(self, rows: Tensor) -> Tensor:
        """Return the layer's rows [n, n_outputs] with the change, in their dtype."""
        if rows.shape != self._shape:
            reason = (
                f"The layer that the transcoder writes puts out {len(rows)} vectors of {rows.shape[1]}"
                f" numbers where {self._shape[0]} of {self._shape[1]} are written; import it for another one."
            )
            raise TaskError(reason, "CONFLICT")
        if self._put is not None:
            put = self._put.to(rows.device, rows.dtype)
            return torch.where(self._where[:, None].to(rows.device), put, rows)
        assert self._added is not None
        changed = rows.to(self._added.device, torch.float32) + self._added
        # Rows at which nothing is added keep their bits.
        return changed.to(rows.device, rows.dtype)


def rows_at_once(sae: Sae) -> int:
    """Return how many positions are encoded at once."""
    n_latents: int = sae.context.n_latents
    return max(1, MAX_HOOK_LATENTS // n_latents)


def with_text_changed(
    output: Tensor, shape: Sequence[int], n_after: int, change: Callable[[Tensor], Tensor | None]
) -> Tensor | None:
    """Return a layer's output with its text's positions changed, or None where ``change`` changes nothing.

    It gets the positions of ``shape`` [n_texts, n_positions], or all texts' in one dimension; ``n_after``
    others follow them. TaskError (CONFLICT) where whose vectors the layer puts out is not known.
    """
    vectors = active_stream(output)
    text = _text_of(vectors, shape, n_after)
    changed = change(text)
    if changed is None:
        return None
    if text is not vectors:
        whole = vectors.clone()
        _text_of(whole, shape, n_after).copy_(changed)
        changed = whole
    return with_active_stream(output, changed)


def _text_of(vectors: Tensor, shape: Sequence[int], n_after: int) -> Tensor:
    """Return the text's positions among a layer's vectors, as a view."""
    n_texts, n_positions = shape
    if vectors.shape[:-1] in ((n_texts, n_positions), (n_texts * n_positions,)):
        return vectors
    stop = vectors.shape[-2] - n_after
    if vectors.ndim != 3 or vectors.shape[0] != n_texts or stop < n_positions:
        found = list(vectors.shape[:-1])
        reason = (
            f"The layer puts out {found} vectors for {n_texts} x {n_positions} tokens; whose they are is "
            "not known. Take an SAE on another layer."
        )
        raise TaskError(reason, "CONFLICT")
    return vectors[:, stop - n_positions : stop]


def _both(mask: Tensor | None, kept: Tensor | None) -> Tensor | None:
    """Put two masks together; None is true everywhere."""
    if mask is None or kept is None:
        return kept if mask is None else mask
    return mask.to(kept.device) & kept


class ReplacementHook(Controller, Detector):
    """Keeps what a layer puts out, or puts a ``replacement`` in its place.

    Without a replacement the pass is left alone, and ``output`` [n_texts, n_positions, n_inputs] is a copy of
    the layer's output, which a later layer may change in place.
    """

    def __init__(self, n_texts: int) -> None:
        """Take how many texts go through the model, since some layers put out tokens in one dimension."""
        Controller.__init__(self, hook_type=HookType.FORWARD, hook_id=f"gql_server-{uuid.uuid4().hex}")
        self._n_texts = n_texts
        self.output: Tensor | None = None
        self.replacement: Tensor | None = None

    def process_activations(
        self, module: nn.Module, input: HOOK_FUNCTION_INPUT, output: HOOK_FUNCTION_OUTPUT
    ) -> None:
        """Do nothing, as SaeHook."""

    def modify_activations(
        self, module: nn.Module, inputs: Tensor | None, output: Tensor | None
    ) -> Tensor | None:
        """Keep the output, or return what replaces it."""
        if output is None:
            return None
        if self.replacement is not None:
            return with_active_stream(output, self.replacement)
        vectors = active_stream(output).detach().clone(memory_format=torch.contiguous_format)
        self.output = vectors.view(self._n_texts, -1, vectors.shape[-1])
        return None


SomeHook = TypeVar("SomeHook", bound=Detector)


@contextmanager
def attached(lm: LanguageModel, layer: str, hook: SomeHook) -> Iterator[SomeHook]:
    """Register the hook on a layer for as long as the block lasts.

    Hooks sit on the shared model, so keep the block to a forward pass. TaskError (CONFLICT) where the model
    has no such layer, or has not one output of it for each pass, and whichever the hook raises: trap, mi_crow
    raises errors of its own for it.
    """
    if reason := why_not(lm, layer):
        raise TaskError(f"{reason} The SAE was trained on it.", "CONFLICT")
    own_output = lm.layers.name_to_layer[layer].register_forward_hook(_own_output)
    lm.layers.register_hook(layer, hook)
    try:
        yield hook
    except HookError as error:
        for cause in causes(error):
            if isinstance(cause, TaskError):
                raise cause from None
        raise
    finally:
        lm.layers.unregister_hook(hook)
        own_output.remove()


def _own_output(module: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor | None:
    """Copy the output of a module that returns its input, such as nn.Identity.

    Trap: mi_crow changes outputs in place, and others may have the input as well.
    """
    given = (value.data_ptr() for value in inputs if isinstance(value, Tensor))
    return output.clone() if isinstance(output, Tensor) and output.data_ptr() in given else None
