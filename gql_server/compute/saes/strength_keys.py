"""Integer keys that sort by strength, then by number.

A key is an int64: above, the bits of a float32, which for positive floats are in their order; below,
2**31 - 1 less a number, so that the lower number wins. Keys of positive strengths are positive, those of
negative ones negative; 0 stands for nothing.
"""

import torch
from torch import Tensor

_LOW = 2**31 - 1


def strength_keys(strengths: Tensor, numbers: Tensor) -> Tensor:
    """Return the keys of float32 strengths and of numbers from 0 on, int64 of one shape."""
    return strengths.view(torch.int32).long().bitwise_left_shift_(32).add_(_LOW - numbers)


def renumbered(keys: Tensor, numbers: Tensor) -> Tensor:
    """Return keys of the same strengths with other numbers; 0 stays 0."""
    return (keys >> 32).bitwise_left_shift_(32).add_(_LOW - numbers).masked_fill_(keys == 0, 0)


def strengths_of(keys: Tensor) -> Tensor:
    """Return the strengths, float32; 0 where there is nothing."""
    return (keys >> 32).int().view(torch.float32)


def numbers_of(keys: Tensor, nothing: int = 0) -> Tensor:
    """Return the numbers, and ``nothing`` where there is nothing."""
    return torch.where(keys == 0, nothing, _LOW - (keys & _LOW))
