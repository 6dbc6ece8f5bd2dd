"""What takes a layer's output from a forward pass into the tensors of stored batches."""

import uuid
from collections.abc import Mapping

import torch
from torch import Tensor

from gql_server.compute import mi_crow_compat  # noqa: F401  (before mi_crow)
from gql_server.compute.capturing.batch_sizes import ForwardPass
from gql_server.compute.language_models.layer_outputs import vectors_of

from mi_crow.hooks.hook import HOOK_FUNCTION_INPUT, HOOK_FUNCTION_OUTPUT
from mi_crow.hooks.implementations.layer_activation_detector import LayerActivationDetector
from mi_crow.hooks.utils import extract_tensor_from_output

NOT_FINITE_IN_MODEL, NOT_FINITE_AS_STORED = 2, 1


class Detector(LayerActivationDetector):
    """Copies a layer's output into a tensor for each batch, in the precision that is stored, on its device.

    Upstream's keeps the output itself, which a later layer may change in place, and from CUDA it converts a
    copy before that has arrived.
    """

    def __init__(self, layer: str, dtype: torch.dtype, shapes: Mapping[int, tuple[int, int]]) -> None:
        """Take what to keep: [n_texts, n_positions] of each batch. Positions beyond a pass's stay zero."""
        super().__init__(layer, f"gql_server-{uuid.uuid4().hex}", dtype)
        self.forward_pass: ForwardPass | None = None
        self.kept: dict[int, Tensor] = {}
        """By batch, [n_texts, n_positions, width]; one is missing whose output has another shape, or came
        more than once in a pass.
        """
        self.flaws: dict[int, Tensor] = {}
        """Beside them, uint8 [n_texts, n_positions]: 0, NOT_FINITE_IN_MODEL or NOT_FINITE_AS_STORED."""
        self._seen: ForwardPass | None = None
        self._fits = True
        self._dtype, self._shapes = dtype, shapes

    def process_activations(
        self, module: torch.nn.Module, input: HOOK_FUNCTION_INPUT, output: HOOK_FUNCTION_OUTPUT
    ) -> None:
        """Copy the parts of the output [n_texts, n_positions, width] of ``forward_pass`` that are kept."""
        found, now = extract_tensor_from_output(output), self.forward_pass
        tensor = None
        if now is not None and now is not self._seen and found is not None:
            tensor = vectors_of(found, len(now.rows), now.width)
        self._seen, self._fits = now, self._fits and tensor is not None
        if now is None or tensor is None or not self._fits:
            self.kept.clear()
            self.flaws.clear()
            return
        for part in now.parts:
            if part.batch in self._shapes:
                width = min(now.width, self._shapes[part.batch][1])
                own = tensor[part.places, :width]
                stored = self._kept(part.batch, tensor)[part.texts, :width]
                self.flaws[part.batch][part.texts, :width] = _flaws(own, stored.copy_(own))

    def _kept(self, batch: int, like: Tensor) -> Tensor:
        if batch not in self.kept:
            shape = (*self._shapes[batch], like.shape[-1])
            self.kept[batch] = torch.zeros(shape, dtype=self._dtype, device=like.device)
            self.flaws[batch] = torch.zeros(self._shapes[batch], dtype=torch.uint8, device=like.device)
        return self.kept[batch]


def _flaws(own: Tensor, stored: Tensor) -> Tensor:
    """Say of each position what is not finite there: the layer's own output, or only its stored copy."""
    in_model = ~own.isfinite().all(dim=-1)
    as_stored = in_model if own.dtype == stored.dtype else ~stored.isfinite().all(dim=-1)
    return in_model.to(torch.uint8) + as_stored.to(torch.uint8)


class Arriving:
    """Tensors on their way to the CPU; from CUDA the copies go on while the next pass is computed."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Start the copies."""
        self._tensors = {name: _to_cpu(tensor) for name, tensor in tensors.items()}
        self._events = [
            torch.cuda.current_stream(device).record_event()
            for device in {tensor.device for tensor in tensors.values()}
            if device.type == "cuda"
        ]

    @property
    def n_bytes(self) -> int:
        """Return how much memory they take."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def wait(self) -> dict[str, Tensor]:
        """Return the tensors when they are there."""
        for event in self._events:
            event.synchronize()
        return self._tensors


def _to_cpu(tensor: Tensor) -> Tensor:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    # A copy into memory that is not pinned would stop this thread, and with it the next pass.
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
