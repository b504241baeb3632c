"""Which stored numbers are 0 and 1 to a model: data.scale.

    x = (number - low) / (high - low)

    "type"       of bool 0 and 1, of uint8 0 and 255, of other integers 0 and 2^bits - 1: the fewest
                 bits, at least 8, that hold the largest number; floats are x as they are
    "range"      the smallest and the largest number that there is
    "LOW:HIGH"   these two

New examples of a run are scaled as its own were: "type:LOW:HIGH" is "type" where integers that are
wider than uint8 have this range.

x is uint8 where its 256 levels hold all numbers exactly, else float32: no level is lost.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vae_jax.errors import UserError

_BLOCK_BYTES = 1 << 25  # read or converted together
_DIM = 127  # of 255: where no number is larger, less than half of the range is used


class Range(NamedTuple):
    """The stored numbers that are 0 and 1, and whether 256 levels hold all numbers exactly."""

    low: float
    high: float
    exact: bool


class Extent(NamedTuple):
    """What is known of stored numbers."""

    low: float
    high: float
    step: int | None  # divides all of them; None of floats


BYTES = Range(0, 255, True)


def check(scale: str) -> None:
    """Raises UserError where `scale` is no data.scale."""
    if scale in ("type", "range"):
        return
    try:
        low, high = _given(scale)
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise UserError(
            f'data.scale is {scale!r}, expected "type", "range" or two numbers such as "0:4095", '
            "those that become 0 and 1"
        )


def _given(scale: str) -> tuple[float, ...]:
    low, high = scale.removeprefix("type:").split(":")
    return float(low), float(high)


def by_type(scale: str) -> bool:
    """Whether the data's type says which numbers are 0 and 1."""
    return scale.startswith("type")


def extent(x: np.ndarray) -> Extent:
    """The extent of numbers, at least one."""
    integer = np.issubdtype(x.dtype, np.integer)
    step = int(np.gcd.reduce(x, axis=None)) if integer else None
    return Extent(x.min().item(), x.max().item(), step)


def joined(extents: Iterable[Extent]) -> Extent:
    """The extent of all numbers together."""
    low, high, step = zip(*extents, strict=True)
    return Extent(min(low), max(high), None if None in step else math.gcd(*step))


def chosen(scale: str, found: Extent, what: str) -> Range | None:
    """The range that `scale` gives numbers of this extent; None: they are x as they are.

    Raises:
      UserError: it gives none.
    """
    low, high, step = found
    if by_type(scale) and step is None:
        return None
    if scale == "type":
        if low < 0:
            raise UserError(
                f"{what} has integers from {low:,} to {high:,}: say which become 0 and 1, with "
                f'data.scale="range" or data.scale="{low}:{high}"'
            )
        low, high = 0, 2 ** max(8, int(high).bit_length()) - 1
    elif scale != "range":
        low, high = _given(scale)
        if found.low < low or found.high > high:
            raise UserError(
                f"{what} has numbers from {found.low:g} to {found.high:g}, outside of "
                f'{low:g}:{high:g}: set data.scale to a wider range, or to "range"'
            )
    if low == high:
        raise UserError(f"{what} has no number but {low:g}: there is nothing to model")
    exact = step is not None and 255 * step % (high - low) == 0 == 255 * low % (high - low)
    return Range(low, high, exact)


def of_arrays(scale: str, arrays: list[np.ndarray], what: str) -> Range | None:
    """`chosen` of arrays of one dtype; they are read only where it needs them."""
    dtype = arrays[0].dtype
    if np.issubdtype(dtype, np.bool_):
        return Range(0, 1, True)
    if by_type(scale) and dtype == np.uint8:
        return BYTES
    if by_type(scale) and np.issubdtype(dtype, np.floating):
        return None
    return chosen(scale, joined(extent(part) for x in arrays for part in _blocks(x)), what)


def scaled(x: np.ndarray, of: Range | None) -> np.ndarray:
    """Stored numbers as x, uint8 or float32; not copied where they are that already."""
    if of is None:
        return x.astype(np.float32, copy=False)
    if x.dtype == np.uint8 and of == BYTES:
        return x
    values = np.empty(x.shape, np.uint8 if of.exact else np.float32)
    for part, into in zip(_blocks(x), _blocks(values, x), strict=True):
        share = (part.astype(np.float64) - of.low) / (of.high - of.low)
        into[...] = np.round(255 * share) if of.exact else share
    return values


def check_bytes(arrays: list[np.ndarray], what: str) -> list[str]:
    """A warning, if there is need of one, that uint8 numbers use a small part of 0..255.

    Reading ends at the first block that uses more.

    Raises:
      UserError: they are 0 and 1.
    """
    low, high = 255, 0
    for part in (part for x in arrays for part in _blocks(x)):
        low, high = min(low, int(part.min())), max(high, int(part.max()))
        if high > _DIM:
            return []
    if (low, high) == (0, 1):
        raise UserError(
            f"{what} has the numbers 0 and 1, which of uint8 are two shades of black: set "
            'data.scale="range", or to "0:255" if that is meant'
        )
    return [
        f"{what} has no number above {high} of 255, so that all is dark: set "
        'data.scale="range" to use its own range, or to "0:255" if that is meant'
    ]


def _blocks(x: np.ndarray, like: np.ndarray | None = None) -> Iterable[np.ndarray]:
    """Yields the rows of x, as many at a time as `like` (by default x) has in a block."""
    like = x if like is None else like
    size = max(1, _BLOCK_BYTES * len(like) // max(1, like.nbytes))
    for start in range(0, len(x), size):
        yield x[start : start + size]
