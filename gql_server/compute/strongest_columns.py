"""The k largest values of each row of a wide matrix, without sorting the rows."""

import torch
from torch import Tensor

_BLOCK = 64


def strongest_columns(values: Tensor, k: int, above: float) -> tuple[Tensor, Tensor]:
    """Return columns (int32) and values of each row's k largest values [n, width], largest first.

    Of equal values the lower column comes first. Values not above ``above`` are left out: their column is -1
    and their value 0. Where the rows are shorter than k, so is the result.

    A row's k largest values lie in the k blocks of columns whose own maxima are largest, so all that goes
    over the whole row is one maximum per block.
    """
    k = min(k, values.shape[1])
    maxima = _block_maxima(values)
    blocks = maxima.topk(min(k, maxima.shape[1]), dim=1, sorted=False).indices
    columns = (blocks[:, :, None] * _BLOCK + torch.arange(_BLOCK, device=values.device)).flatten(1)
    outside = columns >= values.shape[1]
    candidates = values.gather(1, columns.clamp(max=values.shape[1] - 1)).masked_fill(outside, -torch.inf)
    found = candidates.topk(k, dim=1)
    chosen = _by_column(columns.gather(1, found.indices), found.values)
    smallest = chosen[1][:, -1:]
    more = ((maxima >= smallest).sum(dim=1) > k) | ((candidates >= smallest).sum(dim=1) > k)
    for row in (more & (smallest[:, 0] > above)).nonzero().flatten().tolist():
        # Several are as large as the last one: which of them are chosen is to be known.
        ordered = values[row].sort(descending=True, stable=True)
        chosen[0][row], chosen[1][row] = ordered.indices[:k], ordered.values[:k]
    there = chosen[1] > above
    return torch.where(there, chosen[0], -1).int(), torch.where(there, chosen[1], 0.0)


def _block_maxima(values: Tensor) -> Tensor:
    whole = values.shape[1] // _BLOCK * _BLOCK
    maxima: Tensor = values[:, :whole].unflatten(1, (-1, _BLOCK)).amax(dim=2)
    if whole == values.shape[1]:
        return maxima
    return torch.cat([maxima, values[:, whole:].amax(dim=1, keepdim=True)], dim=1)


def _by_column(columns: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Order each row by value, the largest first, and where that is equal by column."""
    ascending = columns.argsort(dim=1)
    order = ascending.gather(1, values.gather(1, ascending).argsort(dim=1, descending=True, stable=True))
    return columns.gather(1, order), values.gather(1, order)
