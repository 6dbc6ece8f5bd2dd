"""Numbers by which an index draws samples: pseudo-random, the same for the same texts, tokens and neurons.

What has the lowest numbers is a uniform sample, whatever the order and the chunks in which it comes, and the
lowest of a union are among the lowest of its parts (bottom-k sampling: Cohen and Kaplan 2007, Summarizing
data using bottom-k sketches). The mixing is SplitMix64's (Steele, Lea and Flood 2014, Fast splittable
pseudorandom number generators).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAW_BITS = 40
"""Draws are below 2**40, so that one int64 has room for a draw and for what it belongs to."""
_STEP = np.uint64(0x9E3779B97F4A7C15)
Integers = NDArray[Any]
Draws = NDArray[np.int64]


def draws_of_firings(numbers: Integers, tokens: Integers, neurons: Integers) -> Draws:
    """Return a draw for each firing: a text's number, the token's place in it and the neuron, [n] each."""
    with np.errstate(over="ignore"):
        keys = (numbers.astype(np.uint64) << np.uint64(32)) | tokens.astype(np.uint64)
        return _mixed(keys + (neurons.astype(np.uint64) + np.uint64(1)) * _STEP)


def draws_of_texts(numbers: Integers) -> Draws:
    """Return a draw for each text by its number, [n]."""
    with np.errstate(over="ignore"):
        return _mixed(numbers.astype(np.uint64) * _STEP + _STEP)


def _mixed(keys: NDArray[np.uint64]) -> Draws:
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((keys ^ (keys >> np.uint64(31))) >> np.uint64(64 - DRAW_BITS)).astype(np.int64)
