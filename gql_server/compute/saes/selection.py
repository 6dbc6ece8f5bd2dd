"""Choosing the largest of each token's pre-activations, faster than by looking at all of them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_FEWEST_FOR_GROUPS = 512
_GROUP_TO_LOOK_AT = 16


def strongest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row of values [..., m] and their columns, unordered: [..., k] each.

    Of equal values at the border any may be chosen.
    """
    among = candidates(values, k)
    found, places = among.values.topk(k, dim=-1, sorted=False)
    return found, places if among.columns is None else among.columns.gather(-1, places)


@dataclass(frozen=True)
class Candidates:
    """Some ``values`` [..., n] of each row, among which its k largest are, and their ``columns`` [..., n].

    ``columns`` is None where they are all columns. ``maxima`` [..., n_groups] are those of groups of columns.
    """

    values: Tensor
    columns: Tensor | None
    maxima: Tensor


def candidates(values: Tensor, k: int) -> Candidates:
    """Narrow down where the k largest of each row of values [..., m] are, exactly.

    The columns are dealt out to groups. A group's largest value is one pass, and the k largest of a row are
    all in the k groups whose largest values are largest: so those groups' members are enough.
    """
    n_columns = values.shape[-1]
    size = _group_size(n_columns, k)
    if size == 1:
        return Candidates(values, None, values)
    n_groups = n_columns // size
    # Column i is in group i modulo n_groups: so the pass runs along the memory.
    members = values[..., : n_groups * size].unflatten(-1, (size, n_groups))
    maxima = members.amax(dim=-2)
    groups = maxima.topk(k, dim=-1, sorted=False).indices[..., None, :]
    steps = torch.arange(0, n_groups * size, n_groups, device=values.device)[:, None]
    found = members.gather(-1, groups.expand(*groups.shape[:-2], size, k)).flatten(-2)
    columns = (groups + steps).flatten(-2)
    rest = torch.arange(n_groups * size, n_columns, device=values.device)
    if len(rest):
        found = torch.cat([found, values[..., n_groups * size :]], dim=-1)
        columns = torch.cat([columns, rest.expand(*columns.shape[:-1], -1)], dim=-1)
    return Candidates(found, columns, maxima)


def above(values: Tensor, bound: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, columns and values where values [n, m] are above a bound, or NaN: [n_found] each, by row.

    Of one bound for all columns, and columns that can be grouped, a group's largest value says first whether
    there is anything in it: to look at each value by itself takes several times as long.
    """
    n_columns = values.shape[1]
    one_bound = not isinstance(bound, Tensor) or bound.ndim == 0
    if not one_bound or n_columns % _GROUP_TO_LOOK_AT:
        rows, columns = values.le(bound).logical_not_().nonzero(as_tuple=True)
        return rows, columns, values[rows, columns]
    n_groups = n_columns // _GROUP_TO_LOOK_AT
    members = values.unflatten(1, (_GROUP_TO_LOOK_AT, n_groups))
    rows, groups = members.amax(dim=1).le(bound).logical_not_().nonzero(as_tuple=True)
    candidates = members[rows, :, groups]
    place, member = candidates.le(bound).logical_not_().nonzero(as_tuple=True)
    return rows[place], member * n_groups + groups[place], candidates[place, member]


def _group_size(n_columns: int, k: int) -> int:
    """Return the size that makes groups and candidates together fewest; 1 where groups do not pay."""
    size = int(2 ** round(math.log2(max(1.0, math.sqrt(n_columns / k)))))
    return size if n_columns >= _FEWEST_FOR_GROUPS and n_columns >= 2 * k * size else 1
