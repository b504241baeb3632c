"""Running sums of K importance weights w_k, whose mean is the estimate; K may be any number."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Weights(NamedTuple):
    """Sums over the weights so far, relative to the largest.

    Nothing overflows, and the ten-thousandth block is added as precisely as the first.
    """

    largest: jax.Array  # log of the largest weight  [...]
    total: jax.Array  # sum of w / largest  [...]
    squares: jax.Array  # sum of (w / largest)^2  [...]


def none(shape: tuple[int, ...]) -> Weights:
    """The sums of no weights."""
    return Weights(jnp.full(shape, -jnp.inf), jnp.zeros(shape), jnp.zeros(shape))


def add(weights: Weights, log_w: jax.Array) -> Weights:
    """The sums with the weights exp(log_w) [..., M] added; -inf is the weight 0."""
    largest = jnp.maximum(weights.largest, jnp.max(log_w, axis=-1))
    origin = jnp.where(jnp.isneginf(largest), 0.0, largest)  # -inf - -inf is nan
    scale = jnp.exp(weights.largest - origin)
    new = jnp.exp(log_w - origin[..., None])
    total = weights.total * scale + new.sum(-1)
    squares = weights.squares * scale**2 + (new**2).sum(-1)
    return Weights(largest, total, squares)


def log_mean(weights: Weights, num: int) -> jax.Array:
    """log 1/K sum_k w_k [...] of K = `num` weights."""
    return weights.largest + jnp.log(weights.total) - jnp.log(num)


def effective(weights: Weights) -> jax.Array:
    """The effective sample size (sum w)^2 / sum w^2 [...], from 1 to K (Kong 1992)."""
    return weights.total**2 / weights.squares


def log_mean_variance(effective_size: np.ndarray, num: int) -> np.ndarray:
    """The variance of `log_mean` over the noise of K = `num` weights, 1/ESS - 1/K  [...].

    This is the first order of the delta method: too small where ESS is below about ten.
    """
    return 1.0 / effective_size - 1.0 / num
