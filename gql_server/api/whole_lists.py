"""Lists of scalars, which are answered as a whole."""

import sys
from array import array
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class Whole(list[T]):
    """Scalars for a field that is a list, in the form in which they are answered: numbers have to be finite.

    The executor takes them as they are: completing each by itself takes many times as long, during which the
    process does nothing else.
    """


class Numbers(Whole[float]):
    """Numbers for a field of type [Float!]!."""

    @classmethod
    def of_float32(cls, values: bytes | memoryview) -> "Numbers":
        """Read little-endian float32, as workers send them."""
        numbers = array("f")
        numbers.frombytes(values)
        if sys.byteorder == "big":
            numbers.byteswap()
        return cls(numbers.tolist())


def rows_of_float32(values: bytes, n_rows: int) -> Iterator[Numbers]:
    """Read a matrix of little-endian float32, row by row."""
    whole, size = memoryview(values), len(values) // n_rows
    return (Numbers.of_float32(whole[n * size : (n + 1) * size]) for n in range(n_rows))
