"""Token ids of several prompts in one tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class PaddedBatch:
    """Token ids and where they are real: both [n_prompts, n_positions]."""

    input_ids: Tensor
    attention_mask: Tensor

    @property
    def text_positions(self) -> Tensor:
        """Return positions counted from each text's own first token; of padding they mean nothing."""
        return self.attention_mask.cumsum(dim=1) - 1


def pad(
    prompts: Sequence[Sequence[int]], side: Literal["left", "right"], device: torch.device
) -> PaddedBatch:
    """Pad token ids with 0, which is never looked at: the mask says what is real."""
    width = max(len(ids) for ids in prompts)
    input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, ids in enumerate(prompts):
        begin = width - len(ids) if side == "left" else 0
        input_ids[row, begin : begin + len(ids)] = torch.tensor(ids, dtype=torch.long)
        mask[row, begin : begin + len(ids)] = 1
    return PaddedBatch(input_ids.to(device), mask.to(device))


def marks(ids: Tensor, wanted: Sequence[int] | set[int]) -> Tensor:
    """Say which ids are among the wanted: bool, of the same shape."""
    return torch.isin(ids, torch.tensor(sorted(wanted), dtype=ids.dtype, device=ids.device))
