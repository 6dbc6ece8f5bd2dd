"""The k largest values of each row of a matrix, ties settled."""

import torch
from torch import Tensor

from gql_server.compute.saes.selection import candidates


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
    """Return columns and values of each row's k largest, and in which rows [n] more equal the last one."""
    among = candidates(values, k)
    found = among.values.topk(k, dim=1)
    columns = found.indices if among.columns is None else among.columns.gather(1, found.indices)
    smallest = found.values[:, -1:]
    # Where more than k groups reach the smallest, so do more than k values; else all of them are candidates.
    more = ((among.values >= smallest).sum(dim=1) > k) | ((among.maxima >= smallest).sum(dim=1) > k)
    return (columns, found.values), more


def _by_column(columns: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Order each row by value, the largest first, and where that is equal by column."""
    ascending = columns.argsort(dim=1)
    order = ascending.gather(1, values.gather(1, ascending).argsort(dim=1, descending=True, stable=True))
    return columns.gather(1, order), values.gather(1, order)
