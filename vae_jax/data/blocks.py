"""Positions 0, ..., num - 1 in blocks of one size, so that what is computed is compiled once."""

from collections.abc import Iterator

import numpy as np


def filled_block(num: int, size: int, i: int) -> np.ndarray:
    """The positions of block i; a last block is filled up with the last position  [size]."""
    return np.minimum(np.arange(i * size, (i + 1) * size), num - 1)


def filled_blocks(num: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (positions [size], how many of them count) of each block, see `filled_block`."""
    for i in range(-(-num // size)):
        yield filled_block(num, size, i), min(size, num - i * size)
