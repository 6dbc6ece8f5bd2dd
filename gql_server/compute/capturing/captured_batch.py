"""A batch as it is stored: token ids, the mask of those that count, and the layers' activations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gql_server.artifacts.manifest import NotFinite, PlannedBatch
from gql_server.compute.capturing.detector import NOT_FINITE_AS_STORED, NOT_FINITE_IN_MODEL, Arriving
from gql_server.compute.language_models.text_encoder import Ids
from gql_server.compute.storage.store import MASKS

from mi_crow.store.store import TensorMetadata


def padded(token_ids: Sequence[Ids], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad at the right: token ids, and 1 where they are a text's; both int64 [n_texts, n_positions]."""
    lengths = np.array([len(ids) for ids in token_ids])
    real = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(real.shape, pad_id, np.int64)
    ids[real] = np.concatenate(token_ids)
    return torch.from_numpy(ids), torch.from_numpy(real.astype(np.int64))


@dataclass(frozen=True)
class CapturedBatch:
    """A planned batch with what was captured.

    ``tensors`` runs beside the forward passes, in another thread, so none of it is a parallel operation of
    torch's: its second team of threads would keep the first one from its processors.
    """

    planned: PlannedBatch
    token_ids: list[Ids]
    """Of each text."""
    arriving: Arriving
    """The activations by layer, [n_texts, n_positions, width]."""
    flaws: Arriving
    """Where they are not finite, as the detector has it, by layer, [n_texts, n_positions]."""

    def tensors(self, pad_id: int, special_ids: Sequence[int]) -> tuple[TensorMetadata, NotFinite]:
        """Return all that is stored, and which tokens are not finite.

        The mask leaves out padding, special tokens, and those where a layer has values that are not finite.
        (Upstream's ModelInputDetector, which makes such a mask, is filled at anybody's inference.)
        """
        ids, real = padded(self.token_ids, pad_id)
        mask = real.numpy().astype(bool) & ~np.isin(ids.numpy(), special_ids)
        flaws = {layer: flaw.numpy() * mask for layer, flaw in self.flaws.wait().items()}
        worst = np.maximum.reduce(list(flaws.values()))
        rows = [row for row, bad in zip(self.planned.rows, worst.any(axis=1), strict=True) if bad]
        not_finite = NotFinite(
            in_model=int((worst == NOT_FINITE_IN_MODEL).sum()),
            as_stored=int((worst == NOT_FINITE_AS_STORED).sum()),
            rows=sorted(rows),
            layers=[layer for layer, flaw in flaws.items() if flaw.any()],
        )
        found = self.arriving.wait()
        tensors: TensorMetadata = {layer: {"activations": values} for layer, values in found.items()}
        kept = torch.from_numpy(mask & (worst == 0))
        return tensors | {MASKS: {"input_ids": ids, "attention_mask": kept}}, not_finite


def shapes_of(tensors: TensorMetadata) -> dict[str, Any]:
    """Return what mi_crow's detectors say of their tensors beside them."""
    return {
        layer: {f"{key}_shape": tuple(tensor.shape) for key, tensor in of_layer.items()}
        for layer, of_layer in tensors.items()
    }
