"""Importance weights w_k, K of them, whose mean is what is estimated: running sums, so that K may be any number."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Weights(NamedTuple):
    """Sums over the weights seen so far, relative to the largest: nothing overflows, and adding the ten-thousandth
    block to the others costs no more precision than adding the first."""

    largest: jax.Array  # log of the largest weight  [...]
    total: jax.Array  # sum of w / largest  [...]
    squares: jax.Array  # sum of (w / largest)^2  [...]


def none(shape: tuple[int, ...]) -> Weights:
    return Weights(jnp.full(shape, -jnp.inf), jnp.zeros(shape), jnp.zeros(shape))


def add(weights: Weights, log_w: jax.Array) -> Weights:
    """With the weights exp(log_w) [..., M] added; -inf counts for nothing."""
    largest = jnp.maximum(weights.largest, jnp.max(log_w, axis=-1))
    origin = jnp.where(jnp.isneginf(largest), 0.0, largest)  # -inf - -inf is nan
    scale, new = jnp.exp(weights.largest - origin), jnp.exp(log_w - origin[..., None])
    return Weights(largest, weights.total * scale + new.sum(-1), weights.squares * scale**2 + (new**2).sum(-1))


def log_mean(weights: Weights, num: int) -> jax.Array:
    """log 1/K sum_k w_k of the K = `num` weights: the logarithm of the mean, never the mean of the logarithms."""
    return weights.largest + jnp.log(weights.total) - jnp.log(num)


def effective(weights: Weights) -> jax.Array:
    """The effective sample size (sum w)^2 / sum w^2, from 1 to K (Kong 1992)."""
    return weights.total**2 / weights.squares


def log_mean_variance(effective_size, num: int):
    """The variance of `log_mean` over the weights' noise, 1/ESS - 1/K, to first order: too small where ESS is a few."""
    return 1.0 / effective_size - 1.0 / num
