"""The k largest values of each row of a matrix, ties settled."""

from math import isqrt

import torch
from torch import Tensor


def strongest_columns(values: Tensor, k: int, above: float) -> tuple[Tensor, Tensor]:
    """Return columns (int32) and values of each row's k largest values [n, width], largest first.

    Of equal values the lower column comes first. Values not above ``above`` are left out: their column is -1
    and their value 0. Where the rows are shorter than k, so is the result.
    """
    k = min(k, values.shape[1])
    found, more = _largest(values, k)
    columns, chosen = _by_column(*found)
    for row in (more & (chosen[:, -1] > above)).nonzero().flatten().tolist():
        # Several are as large as the last one, and which of them torch chooses is anyone's guess.
        ordered = values[row].sort(descending=True, stable=True)
        columns[row], chosen[row] = ordered.indices[:k], ordered.values[:k]
    there = chosen > above
    return torch.where(there, columns, -1).int(), torch.where(there, chosen, 0.0)


def _largest(values: Tensor, k: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return columns and values of each row's k largest, and in which rows [n] others equal the last of them.

    Exact, in two stages: columns are dealt out to groups, and the k largest values lie in the k groups with
    the largest maxima. torch.topk alone passes several times over all columns.
    """
    width = values.shape[1]
    size = isqrt(width // k)
    n_groups = width // size
    dealt = values[:, : size * n_groups].unflatten(1, (size, n_groups))
    maxima = dealt.amax(dim=1)
    groups = maxima.topk(k, dim=1, sorted=False).indices
    rounds = torch.arange(size, device=values.device)[:, None] * n_groups
    columns = (groups[:, None, :] + rounds).flatten(1)
    rest = torch.arange(size * n_groups, width, device=values.device).expand(len(values), -1)
    columns = torch.cat([columns, rest], dim=1)
    candidates = values.gather(1, columns)
    found = candidates.topk(k, dim=1)
    smallest = found.values[:, -1:]
    # Where more than k groups reach the smallest, so do more than k values; else all of them are candidates.
    more = ((candidates >= smallest).sum(dim=1) > k) | ((maxima >= smallest).sum(dim=1) > k)
    return (columns.gather(1, found.indices), found.values), more


def _by_column(columns: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Order each row by value, the largest first, and where that is equal by column."""
    ascending = columns.argsort(dim=1)
    order = ascending.gather(1, values.gather(1, ascending).argsort(dim=1, descending=True, stable=True))
    return columns.gather(1, order), values.gather(1, order)
