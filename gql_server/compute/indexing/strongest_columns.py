"""The k largest values of each row of a matrix, ties settled."""

import torch
from torch import Tensor


def strongest_columns(values: Tensor, k: int, above: float) -> tuple[Tensor, Tensor]:
    """Return columns (int32) and values of each row's k largest values [n, width], largest first.

    Of equal values the lower column comes first. Values not above ``above`` are left out: their column is -1
    and their value 0. Where the rows are shorter than k, so is the result.
    """
    k = min(k, values.shape[1])
    found = values.topk(k, dim=1)
    columns, chosen = _by_column(found.indices, found.values)
    smallest = chosen[:, -1:]
    more = ((values >= smallest).sum(dim=1) > k) & (smallest[:, 0] > above)
    for row in more.nonzero().flatten().tolist():
        # Several are as large as the last one, and which of them torch chooses is anyone's guess.
        ordered = values[row].sort(descending=True, stable=True)
        columns[row], chosen[row] = ordered.indices[:k], ordered.values[:k]
    there = chosen > above
    return torch.where(there, columns, -1).int(), torch.where(there, chosen, 0.0)


def _by_column(columns: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Order each row by value, the largest first, and where that is equal by column."""
    ascending = columns.argsort(dim=1)
    order = ascending.gather(1, values.gather(1, ascending).argsort(dim=1, descending=True, stable=True))
    return columns.gather(1, order), values.gather(1, order)
