"""What a kind of data is."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

WIDEST = 1000  # pixels: about the width of a row of examples in a plot
GAP = 2  # pixels between examples


class Scaling(NamedTuple):
    """The encoder and likelihoods of real values work on (x - shift) / scale."""

    shift: jax.Array  # per value, in the shape of an example
    scale: jax.Array  # likewise, positive


class Look(NamedTuple):
    """The range of values that a plot shows."""

    low: float
    high: float
    ink: bool  # whether grey images are drawn as dark ink on white paper


class Picture(NamedTuple):
    """One example as it is drawn: one of these is given."""

    pixels: np.ndarray | None = None  # RGB in [0, 1]  [h, w, 3]
    curve: np.ndarray | None = None  # points (x, y) in the unit square, y upwards  [n, 2]


class Kind(NamedTuple):
    """How the values of examples are scaled, and how examples are drawn."""

    name: str
    is_of: Callable[[tuple[int, ...]], bool]  # shape of an example -> whether it is of this kind
    # split -> the scaling of its values, from observed entries only; None: shift 0, scale 1
    scaling: Callable[..., Scaling | None]
    # (shape of an example, examples in a row) -> (height, width) of its picture in pixels
    tile_size: Callable[[tuple[int, ...], int], tuple[int, int]]
    # (example, look, tile size or None for one pixel per value, whether it is a difference)
    show: Callable[[np.ndarray, Look, tuple[int, int] | None, bool], Picture]
    # shape of an example -> what a difference of zero looks like, in words
    zero: Callable[[tuple[int, ...]], str]


def look_at(x: np.ndarray) -> Look:
    """The look of examples x [n, ...].

    Values in [0, 1] keep that range; others are shown between their extremes. Grey images that are
    mostly dark, as digits are, become ink on paper.
    """
    low, high = float(np.min(x)), float(np.max(x))
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    high = high if high > low else low + 1.0
    return Look(low, high, bool((np.mean(x) - low) / (high - low) < 0.35))
