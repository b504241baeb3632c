"""Vectors [D] of numbers, each in units of its own: scaled by their mean and standard deviation.

Vectors whose values all lie in [0, 1] are taken for scaled already.
"""

import jax.numpy as jnp
import numpy as np

from vae_jax.data.kinds.kind import Kind, Look, Picture, Scaling

TILE = (56, 92)  # height and width of the picture of a vector in pixels


def scaling(split) -> Scaling | None:
    """Mean and standard deviation of every value over its observed entries in a training split.

    The scale of a value that does not vary is 1.
    """
    if split.x.dtype == np.uint8:
        return None
    count = total = squares = 0.0
    low, high = np.inf, -np.inf
    for rows in split.blocks():
        seen = np.ones(rows.x.shape, bool) if rows.observed is None else rows.observed
        x = rows.x.astype(np.float64)
        count = count + seen.sum(0)
        total = total + np.where(seen, x, 0.0).sum(0)
        low = min(low, np.where(seen, x, np.inf).min())
        high = max(high, np.where(seen, x, -np.inf).max())
    if low >= 0.0 and high <= 1.0:
        return None
    mean = total / np.maximum(count, 1)
    for rows in split.blocks():
        seen = np.ones(rows.x.shape, bool) if rows.observed is None else rows.observed
        squares = squares + np.where(seen, (rows.x - mean) ** 2, 0.0).sum(0)
    deviation = np.sqrt(squares / np.maximum(count, 1))
    scale = np.where(deviation > 1e-9 * np.maximum(np.abs(mean), 1e-30), deviation, 1.0)
    return Scaling(jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32))


def show(x: np.ndarray, look: Look, _size: tuple[int, int] | None, signed: bool) -> Picture:
    """The values as a curve; of a difference, zero is at half the height."""
    low = (look.low - look.high) / 2 if signed else look.low
    height = np.clip((x.ravel() - low) / (look.high - look.low), 0.0, 1.0)
    return Picture(curve=np.stack([np.linspace(0.0, 1.0, height.size), height], axis=1))


KIND = Kind(
    "vector",
    is_of=lambda shape: len(shape) == 1,
    scaling=scaling,
    tile_size=lambda _shape, _columns: TILE,
    show=show,
    zero=lambda _shape: "",
)
