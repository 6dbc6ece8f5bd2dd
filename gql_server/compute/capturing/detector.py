"""What takes a layer's output from a forward pass into the tensors of stored batches."""

import uuid
from collections.abc import Mapping

import torch
from torch import Tensor

from gql_server.compute import upstream  # noqa: F401  (before mi_crow)
from gql_server.compute.capturing.passes import ForwardPass

from mi_crow.hooks.hook import HOOK_FUNCTION_INPUT, HOOK_FUNCTION_OUTPUT
from mi_crow.hooks.implementations.layer_activation_detector import LayerActivationDetector
from mi_crow.hooks.utils import extract_tensor_from_output


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
        """By batch, [n_texts, n_positions, width]; one is missing whose output has another shape."""
        self._dtype, self._shapes = dtype, shapes

    def process_activations(
        self, module: torch.nn.Module, input: HOOK_FUNCTION_INPUT, output: HOOK_FUNCTION_OUTPUT
    ) -> None:
        """Copy the parts of the output [n_texts, n_positions, width] of ``forward_pass`` that are kept."""
        tensor, now = extract_tensor_from_output(output), self.forward_pass
        if (
            now is None
            or tensor is None
            or tensor.ndim != 3
            or tensor.shape[:2] != (len(now.rows), now.width)
        ):
            self.kept.clear()
            return
        for part in now.parts:
            if part.batch in self._shapes:
                width = min(now.width, self._shapes[part.batch][1])
                into = self._kept(part.batch, tensor)
                into[part.texts, :width].copy_(tensor[part.places, :width])

    def _kept(self, batch: int, like: Tensor) -> Tensor:
        if batch not in self.kept:
            shape = (*self._shapes[batch], like.shape[-1])
            self.kept[batch] = torch.zeros(shape, dtype=self._dtype, device=like.device)
        return self.kept[batch]


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
